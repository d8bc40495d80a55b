import MailAddress

/// What became of a text, in the words of the case files.
enum Outcome: Equatable, CustomStringConvertible {
    case key([UInt8], hasDomain: Bool, isRouted: Bool)
    case refused(String)

    init(_ path: [UInt8]) {
        self = path.withUnsafeBufferPointer { path in
            do throws(AddressError) {
                return Outcome(try RecipientAddress(path: path))
            } catch {
                return .refused(error.rule)
            }
        }
    }

    init(_ address: RecipientAddress) {
        self = .key(address.withKey { Array($0) }, hasDomain: address.hasDomain, isRouted: address.isRouted)
    }

    init(expecting expected: Case) {
        if let failure = expected.failure {
            self = .refused(failure)
        } else {
            self = .key(
                expected.expected, hasDomain: !expected.notes.contains("no domain"),
                isRouted: expected.notes.contains("routed"))
        }
    }

    var description: String {
        switch self {
        case .refused(let rule): "! \(rule)"
        case .key(let key, let hasDomain, let isRouted):
            String(decoding: key, as: UTF8.self) + (hasDomain ? "" : " ; no domain") + (isRouted ? " ; routed" : "")
        }
    }
}

extension AddressError {
    /// The name of the case.
    var rule: String {
        switch self {
        case .empty: "empty"
        case .unbalanced: "unbalanced"
        case .controlCharacter: "controlCharacter"
        case .unexpectedCharacter: "unexpectedCharacter"
        case .adjacentWords: "adjacentWords"
        case .textAfterPath: "textAfterPath"
        case .invalidUTF8: "invalidUTF8"
        case .emptyLocalPart: "emptyLocalPart"
        case .emptyDomain: "emptyDomain"
        case .emptyLabel: "emptyLabel"
        case .misplacedHyphen: "misplacedHyphen"
        case .numericDomain: "numericDomain"
        case .domainCharacter: "domainCharacter"
        case .addressLiteral: "addressLiteral"
        case .internationalizedDomain: "internationalizedDomain"
        case .labelTooLong: "labelTooLong"
        case .domainTooLong: "domainTooLong"
        case .pathTooLong: "pathTooLong"
        }
    }
}
