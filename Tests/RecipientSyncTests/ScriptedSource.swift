import Foundation
import Synchronization

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

/// A directory in memory: objects that list addresses, changed by the test and pulled by a synchronizer.
final class ScriptedSource: RecipientSource {
    /// How a pull tells what has changed.
    enum Way: CaseIterable {
        /// Every changed object.
        case changes
        /// Changed objects, and all that are still there.
        case presence
        /// Everything.
        case full
    }

    struct Object: Equatable {
        var addresses: Set<String>
        var flags: RecipientFlags = []
    }

    private struct State {
        var objects: [UInt8: Object] = [:]
        /// Numbers of objects that have changed, by the pull that came after.
        var dirty: Set<UInt8> = []
        var serial = 0
        var way = Way.changes
        var domains: [RelayDomain]?
        var pulls: [SourceReport.Reading] = []
        var isFailing = false
        /// Whether it fails in the middle of what it lists.
        var failsHalf = false
    }

    let configuration: SourceConfiguration
    private let state = Mutex(State())

    init(_ configuration: SourceConfiguration) {
        self.configuration = configuration
    }

    var objects: [UInt8: Object] { state.withLock { $0.objects } }

    /// What the pulls came to so far.
    var pulls: [SourceReport.Reading] { state.withLock { $0.pulls } }

    /// Replaces an object, or removes it if nil.
    func set(_ number: UInt8, _ object: Object?) {
        state.withLock { state in
            state.objects[number] = object
            state.dirty.insert(number)
        }
    }

    /// Makes the objects these.
    func replace(_ objects: [Int: Object]) {
        state.withLock { state in
            for number in Set(state.objects.keys).union(objects.keys.compactMap { UInt8(exactly: $0) })
            where state.objects[number] != objects[Int(number)] {
                state.objects[number] = objects[Int(number)]
                state.dirty.insert(number)
            }
        }
    }

    /// Whether reading it fails, and whether in the middle.
    func fails(_ isFailing: Bool, half: Bool) {
        state.withLock {
            $0.isFailing = isFailing
            $0.failsHalf = half
        }
    }

    func pulls(by way: Way) { state.withLock { $0.way = way } }

    func names(_ domains: [RelayDomain]) { state.withLock { $0.domains = domains } }

    private static func id(_ number: UInt8) -> [UInt8] { [UInt8](repeating: number, count: 16) }

    func relayDomains(_ request: ReadRequest) throws(SourceError) -> [RelayDomain]? { state.withLock { $0.domains } }

    func read(
        _ request: ReadRequest, into entries: SourceEntries, report: inout SourceReport
    ) throws(SourceError) -> SourceResult {
        try state.withLock { state throws(SourceError) in
            if state.isFailing {
                if state.failsHalf, let (number, object) = state.objects.min(by: { $0.key < $1.key }) {
                    entries.begin()
                    Self.list(number, object, entries)
                }
                throw SourceError(.unreachable, "source \"\(configuration.name)\": gone", source: configuration.name)
            }
            let isKnown = request.previous?.cursor == Data("\(state.serial)".utf8) && !request.readsAll
            let way = isKnown ? state.way : .full
            var reading = SourceReport.Reading.full
            if way == .full {
                entries.begin()
                for (number, object) in state.objects { Self.list(number, object, entries) }
            } else if state.dirty.isEmpty {
                reading = .unchanged
            } else {
                reading = .changes
                entries.begin(changesOnly: true)
                for number in state.dirty where way == .changes || state.objects[number] != nil {
                    entries.replace([0] + Self.id(number))
                    if let object = state.objects[number] { Self.list(number, object, entries) }
                }
                if way == .presence {
                    let present = Set(state.objects.keys.compactMap { ObjectID(Self.id($0)) })
                    entries.keepOnly(present, prefix: 0)
                }
            }
            state.pulls.append(reading)
            // What isn't committed is asked for again: the cursor in the state is then an older one.
            if reading != .unchanged { state.serial += 1 }
            state.dirty = []
            return SourceResult(reading: reading, asOf: Date(), cursor: Data("\(state.serial)".utf8))
        }
    }

    private static func list(_ number: UInt8, _ object: Object, _ entries: SourceEntries) {
        for address in object.addresses {
            let key = Array(address.utf8)
            let id = [0] + Self.id(number)
            key.withUnsafeBufferPointer { key in
                let at = key.lastIndex(of: UInt8(ascii: "@")) ?? 0
                guard entries.admits(key.slice(at + 1..<key.count)) else { return }
                id.withUnsafeBufferPointer {
                    entries.add(key: key, flags: object.flags, object: $0)
                }
            }
        }
    }
}
