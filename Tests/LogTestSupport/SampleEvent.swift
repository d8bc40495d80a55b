package import Foundation
package import RejectionLog
import Synchronization
package import System
package import TestSupport

/// An event that owns its texts.
package struct Sample {
    package var time: Int64 = Sample.base
    package var outcome = Outcome.rejected
    package var observed = false
    package var reason = "unknown"
    /// The relay domain; nil for a foreign domain, whose name is `domainName`.
    package var domain: String? = "example.com"
    package var domainName: [UInt8] = []
    package var recipient = Array("user@example.com".utf8)
    package var sender = Array("sender@example.net".utf8)
    package var client = IPAddress(ipv4: 0xC000_0201)
    package var clientName = Array("mail.example.net".utf8)
    package var helo = Array("helo.example.net".utf8)
    package var session = Array("4AbC12".utf8)
    package var authenticated = false
    package var mta = Array("mx.example.com".utf8)
    package var reply = Array("550 5.1.1 User unknown".utf8)

    /// 2026-11-23 00:00:00 UTC.
    package static let base: Int64 = 1_795_392_000_000

    package init(
        time: Int64 = Sample.base, outcome: Outcome = .rejected, observed: Bool = false, reason: String = "unknown",
        domain: String? = "example.com", domainName: [UInt8] = [], recipient: [UInt8]? = nil, sender: [UInt8]? = nil,
        client: IPAddress? = nil, clientName: [UInt8]? = nil, helo: [UInt8]? = nil, session: [UInt8]? = nil,
        authenticated: Bool = false, mta: [UInt8]? = nil, reply: [UInt8]? = nil
    ) {
        self.time = time
        self.outcome = outcome
        self.observed = observed
        self.reason = reason
        self.domain = domain
        self.domainName = domainName
        self.recipient = recipient ?? self.recipient
        self.sender = sender ?? self.sender
        self.client = client ?? self.client
        self.clientName = clientName ?? self.clientName
        self.helo = helo ?? self.helo
        self.session = session ?? self.session
        self.authenticated = authenticated
        self.mta = mta ?? self.mta
        self.reply = reply ?? self.reply
    }

    /// Records the event.
    package func record(in log: RejectionLog) {
        with(reason: log.slot(forReason: reason), domain: domain.map { log.slot(forDomain: $0) } ?? .foreign) {
            log.record($0)
        }
    }

    /// Calls `body` with the event, whose texts are valid for the call.
    package func with<R>(reason: ReasonSlot, domain: DomainSlot, _ body: (RecipientEvent) -> R) -> R {
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
package final class Lines: Sendable {
    private let state = Mutex<[String]>([])

    package init() {}

    package var all: [String] { state.withLock { $0 } }
    package func add(_ line: String) { state.withLock { $0.append(line) } }
}

/// A wall clock and a steady clock that the test sets.
package final class TestClock: Sendable {
    private struct Times {
        var wall: Int64
        var steady: Int64 = 1_000_000
    }

    private let state: Mutex<Times>

    package init(_ time: Int64) { state = Mutex(Times(wall: time)) }

    /// The time of the wall clock. Setting it moves the steady clock on by as much.
    package var now: Int64 {
        get { state.withLock { $0.wall } }
        set {
            state.withLock { times in
                times.steady += newValue - times.wall
                times.wall = newValue
            }
        }
    }

    /// Moves only the wall clock, by a number of milliseconds.
    package func jump(_ milliseconds: Int64) { state.withLock { $0.wall += milliseconds } }

    package var clocks: LogClocks {
        LogClocks(
            wall: { [self] in state.withLock { $0.wall } }, steady: { [self] in state.withLock { $0.steady } })
    }
}

/// The text of a file beside the test.
package func testFile(_ name: String, beside test: String = #filePath) throws -> String {
    let folder = URL(fileURLWithPath: test).deletingLastPathComponent()
    return try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
}

/// A period that holds the events of every test.
package let allTime = (since: Date(timeIntervalSince1970: 0), until: Date(timeIntervalSince1970: 4_000_000_000))

/// All entries of a log that match the query.
package func allEntries(_ path: String, _ query: RejectionReader.EntryQuery = .init()) throws -> [LogEntry] {
    try RejectionReader(path: path).entries(query).map { try $0.get() }
}

extension TemporaryFolder {
    /// The path of the log's database.
    package var database: String { file("rejections.sqlite") }

    /// The names of the damaged databases that were moved aside.
    package func damagedCopies() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.contains(".damaged-") }.sorted()
    }
}

/// Records messages of an unlisted sender, some days after the time of the samples.
package func recordUnlistedSender(_ address: String, in log: RejectionLog, day: Int64 = 0, times: Int = 1) {
    for _ in 0..<times {
        Array(address.utf8).withUnsafeBufferPointer {
            log.recordUnlistedSender($0, time: Sample.base + day * 86_400_000 + 5)
        }
    }
}
