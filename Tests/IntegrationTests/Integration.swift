import Foundation
import Testing

/// Whether a private Postfix can be had.
enum Requirements {
    /// Where Postfix is required, its absence is a failure, not a reason to skip.
    static let areMet =
        PostfixInstance.obstacle == nil || ProcessInfo.processInfo.environment["POSTERN_TEST_POSTFIX"] == "required"
    static let comment = Comment(rawValue: PostfixInstance.obstacle ?? "")
}

/// Whether a private Sendmail can be had.
enum SendmailRequirements {
    /// Where Sendmail is required, its absence is a failure, not a reason to skip.
    static let areMet =
        SendmailInstance.obstacle == nil || ProcessInfo.processInfo.environment["POSTERN_TEST_SENDMAIL"] == "required"
    static let comment = Comment(rawValue: SendmailInstance.obstacle ?? "")
}

/// Postern beside a real Postfix or Sendmail. The suites run one after the other: each test has daemons of its own.
@Suite(.serialized, .oneAtATime, .enabled(if: Requirements.areMet, Requirements.comment)) enum Integration {}
