import Foundation
import Synchronization
import System
import TestSupport

@testable import RejectionLog

/// An event with texts of its own.
struct Sample {
    var time: Int64 = Sample.base
    var outcome = Outcome.rejected
    var observed = false
    var reason = "unknown"
    /// A relay domain, or nil: foreign, with `domainName`.
    var domain: String? = "example.com"
    var domainName: [UInt8] = []
    var recipient = Array("user@example.com".utf8)
    var sender = Array("sender@example.net".utf8)
    var client = IPAddress(ipv4: 0xC000_0201)
    var clientName = Array("mail.example.net".utf8)
    var helo = Array("helo.example.net".utf8)
    var session = Array("4AbC12".utf8)
    var authenticated = false
    var mta = Array("mx.example.com".utf8)
    var reply = Array("550 5.1.1 User unknown".utf8)

    /// 2026-11-23 00:00:00 UTC.
    static let base: Int64 = 1_795_392_000_000

    func record(in log: RejectionLog) {
        with(reason: log.slot(forReason: reason), domain: domain.map { log.slot(forDomain: $0) } ?? .foreign) { event in
            log.record(event)
        }
    }

    func with<R>(reason: ReasonSlot, domain: DomainSlot, _ body: (RecipientEvent) -> R) -> R {
        recipient.withUnsafeBufferPointer { recipient in
            domainName.withUnsafeBufferPointer { domainName in
                sender.withUnsafeBufferPointer { sender in
                    clientName.withUnsafeBufferPointer { clientName in
                        helo.withUnsafeBufferPointer { helo in
                            session.withUnsafeBufferPointer { session in
                                mta.withUnsafeBufferPointer { mta in
                                    reply.withUnsafeBufferPointer { reply in
                                        body(
                                            RecipientEvent(
                                                time: time, outcome: outcome, observed: observed, reason: reason,
                                                domain: domain, domainName: domainName, recipient: recipient,
                                                sender: sender, client: client, clientName: clientName, helo: helo,
                                                queueID: session, authenticated: authenticated, mta: mta,
                                                reply: reply))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Lines that a log reports.
final class Lines: Sendable {
    private let state = Mutex<[String]>([])
    var all: [String] { state.withLock { $0 } }
    func add(_ line: String) { state.withLock { $0.append(line) } }
}

/// Clocks that the test sets.
final class TestClock: Sendable {
    private struct Times {
        var wall: Int64
        var steady: Int64 = 1_000_000
    }

    private let state: Mutex<Times>

    init(_ time: Int64) { state = Mutex(Times(wall: time)) }

    /// The time; when it is set, as much has passed on the steady clock.
    var now: Int64 {
        get { state.withLock { $0.wall } }
        set {
            state.withLock { times in
                times.steady += newValue - times.wall
                times.wall = newValue
            }
        }
    }

    /// Sets the time of day wrong by so many milliseconds, or right again.
    func leap(_ milliseconds: Int64) { state.withLock { $0.wall += milliseconds } }

    var clocks: LogClocks {
        LogClocks(
            wall: { [self] in state.withLock { $0.wall } }, steady: { [self] in state.withLock { $0.steady } })
    }
}

func testFile(_ name: String) throws -> String {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    return try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
}

/// The lines of a table of cases, cut at `|`, without comments.
func cases(_ name: String) throws -> [[String]] {
    try testFile(name).split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
        line.split(separator: "|", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) }
    }
}

let allTime = (since: Date(timeIntervalSince1970: 0), until: Date(timeIntervalSince1970: 4_000_000_000))

func wholeReport(_ path: String, top: Int = 10, domain: String? = nil, reason: String? = nil) throws -> RejectionReport
{
    try RejectionReader(path: path).report(
        ReportQuery(since: allTime.since, until: allTime.until, top: top, domain: domain, reason: reason))
}

func allEntries(_ path: String, _ query: RejectionReader.EntryQuery = .init()) throws -> [LogEntry] {
    try RejectionReader(path: path).entries(query).map { try $0.get() }
}

extension TemporaryFolder {
    var database: String { file("rejections.sqlite") }
}
