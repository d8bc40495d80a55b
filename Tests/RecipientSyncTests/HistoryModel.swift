import Foundation
import TestSupport

@testable import RecipientIndex
@testable import RecipientSources
@testable import RecipientSync

/// What a filter must say of an address.
enum Expected: Equatable {
    case listed, internalOnly, disabled, leaving, unknown

    init(_ flags: RecipientFlags?) {
        guard let flags else {
            self = .unknown
            return
        }
        self =
            flags.contains(.internalOnly)
            ? .internalOnly : flags.contains(.disabled) ? .disabled : flags.contains(.leaving) ? .leaving : .listed
    }
}

/// What must be listed, leaving or refused after each step of a history: the rules of the sync in their plainest form, on dictionaries.
struct HistoryModel {
    /// An object of a source: the addresses that it lists, and their flags.
    typealias Objects = [Int: ScriptedSource.Object]

    struct Loss {
        var at: Int64
        var isCounted = true
        var isLeaving: Bool
        var flags: RecipientFlags
        var sources: Set<Int>
    }

    struct Key: Hashable {
        var address: String
        var kind: LossKind
    }

    /// What a sync comes to.
    enum Outcome: Equatable {
        case done, refused, unreachable, malformed, killed
    }

    /// What a source does when it is read.
    enum Health { case well, unreachable, malformed }

    let maxShrink: Double
    let grace: Int64
    let window: Int64
    let minimum: Int
    let canary: String?
    /// Whether a source tells the objects that list an address apart, by source.
    let hasObjects: [Bool]

    /// What the sources really hold.
    var truth: [Objects]
    var health: [Health]
    /// What the state holds: what each source listed when its list was last committed; nil before.
    private(set) var state: [Objects?]
    private var losses: [Key: Loss] = [:]
    /// What was refused and shown, and which sources had been read for it.
    private var shown: Set<Key>?
    private var isReadForShown: [Bool] = []
    /// Which of these sources listed something else than before: whether the others were read again or known to be unchanged can't be told
    /// from here.
    private var isChangedForShown: [Bool] = []
    /// Whether the model no longer knows which list is refused.
    private(set) var isOpen = false
    private var clock: (time: Int64, reading: SyncClock.Reading)?
    /// Whether the state is ahead of the snapshot.
    private var isAhead = false
    /// What the snapshot holds.
    private(set) var published: [String: RecipientFlags] = [:]

    init(
        sources: Int, maxShrink: Double, grace: Int64, window: Int64, minimum: Int, canary: String?, hasObjects: [Bool]
    ) {
        self.maxShrink = maxShrink
        self.grace = grace
        self.window = window
        self.minimum = minimum
        self.canary = canary
        self.hasObjects = hasObjects
        truth = .init(repeating: [:], count: sources)
        health = .init(repeating: .well, count: sources)
        state = .init(repeating: nil, count: sources)
    }

    func expected(_ address: String) -> Expected { Expected(published[address]) }

    private static func list(_ objects: Objects?) -> [String: RecipientFlags] {
        var list: [String: RecipientFlags] = [:]
        for object in (objects ?? [:]).values {
            for address in object.addresses {
                list[address] = list[address]?.merged(with: object.flags) ?? object.flags
            }
        }
        return list
    }

    private struct Listing: Hashable {
        var address: String
        var flags: UInt8
        var object: Int
    }

    private func listings(_ objects: Objects?, _ place: Int) -> Set<Listing> {
        Set(
            (objects ?? [:]).flatMap { number, object in
                object.addresses.map {
                    Listing(address: $0, flags: object.flags.rawValue, object: hasObjects[place] ? number : 0)
                }
            })
    }

    private static func merged(_ lists: [[String: RecipientFlags]]) -> [String: RecipientFlags] {
        lists.reduce(into: [:]) { $0.merge($1) { $0.merged(with: $1) } }
    }

    private static func domain(_ address: String) -> String { String(address.split(separator: "@").last ?? "") }

    private var isFirst: Bool { state.allSatisfy { $0 == nil } }

    /// The snapshot of what the state holds.
    private mutating func publish() {
        published = Self.merged(state.map(Self.list))
        for (key, loss) in losses where key.kind == .gone && loss.isLeaving {
            published[key.address] = loss.flags.union(.leaving)
        }
        isAhead = false
    }

    private func time(_ reading: SyncClock.Reading) -> Int64 {
        clock.map { SyncClock.time(reading, after: $0) } ?? 0
    }

    private mutating func writeClock(_ reading: SyncClock.Reading) { clock = (time(reading), reading) }

    /// A sync of all sources.
    ///
    /// - Parameters:
    ///   - accepting: whether a person accepts what was refused and shown.
    ///   - step: the step at which the sync is killed.
    mutating func sync(_ reading: SyncClock.Reading, accepting: Bool = false, killedAt step: Synchronizer.Step? = nil)
        -> Outcome
    {
        var isHeld = false
        let outcome = run(reading, accepting: accepting, killedAt: step, isHeld: &isHeld)
        guard outcome == .done, isHeld else { return outcome }
        // What came later is judged by itself.
        return run(reading, accepting: false, killedAt: step, isHeld: &isHeld)
    }

    private mutating func run(
        _ reading: SyncClock.Reading, accepting: Bool, killedAt step: Synchronizer.Step?, isHeld: inout Bool
    ) -> Outcome {
        if !isFirst, isAhead { publish() }
        if step == .opened { return .killed }
        let now = time(reading)
        if !isFirst, endGrace(now, reading), step == .committed {
            isAhead = true
            return .killed
        }
        if isAhead { publish() }
        // Reading.
        if health.contains(.malformed) {
            writeClock(reading)
            return .malformed
        }
        let failing = health.filter { $0 == .unreachable }.count
        if failing == health.count || zip(health, state).contains(where: { $0 == .unreachable && $1 == nil }) {
            writeClock(reading)
            return .unreachable
        }
        if step == .read { return .killed }
        // Comparing.
        losses = losses.filter { $0.value.isLeaving || $0.value.isCounted && $0.value.at > now - window }
        let gone = losses.reduce(into: [String: RecipientFlags]()) {
            if $1.key.kind == .gone { $0[$1.key.address] = $1.value.flags }
        }
        let isRead = health.map { $0 == .well }
        let before = state.map(Self.list)
        var next = state
        for place in truth.indices where isRead[place] { next[place] = truth[place] }
        var after = next.map(Self.list)
        var old = Self.merged(before)
        var new = Self.merged(after)
        var lost = Self.lost(old, new, gone)
        isHeld = false
        if accepting, let shown {
            let held = Set(lost.filter { !shown.contains($0) }.map(\.address))
            isHeld = !held.isEmpty
            for place in next.indices { next[place] = Self.holding(held, state[place], next[place]) }
            after = next.map(Self.list)
            old = Self.merged(before)
            new = Self.merged(after)
            lost = Self.lost(old, new, gone)
        }
        let isChanged = state.indices.map { place in
            let rest = listings(next[place], place)
            return Set(listings(state[place], place).filter { !rest.contains($0) }.map(\.address))
        }
        let sources = { (address: String) in
            Set(
                before.indices.filter {
                    old[address] == nil ? after[$0][address] != nil : isChanged[$0].contains(address)
                })
        }
        let regained = Set(
            losses.keys.filter { key in
                guard let flags = new[key.address] else { return false }
                switch key.kind {
                case .gone: return old[key.address] == nil
                case .restricted: return !flags.isRestricted && (old[key.address]?.isRestricted ?? true)
                }
            })
        let violations = violations(
            before, after, old, new, lost, sources, isRead, now - window, regained)
        let standing = accepting ? violations.filter { !$0 } : violations
        if !standing.isEmpty {
            shown = Set(lost)
            isReadForShown = isRead
            isChangedForShown = zip(state, truth).map { $0 != $1 }
            writeClock(reading)
            return .refused
        }
        if step == .judged { return .killed }
        // Committing.
        let isAccepted = accepting && !violations.isEmpty
        state = next
        for key in regained { losses[key] = nil }
        if isAccepted { for key in losses.keys { losses[key]?.isCounted = false } }
        writeClock(reading)
        for key in lost {
            losses[key] = Loss(
                at: now, isCounted: !isAccepted, isLeaving: key.kind == .gone && grace > 0,
                flags: old[key.address] ?? gone[key.address] ?? [],
                sources: sources(key.address))
        }
        // What can't be read now may still be what was refused.
        let missing = isRead.indices.filter { isReadForShown.indices.contains($0) && isReadForShown[$0] && !isRead[$0] }
        if missing.isEmpty {
            shown = nil
        } else if shown != nil, !missing.contains(where: { isChangedForShown[$0] }) {
            isOpen = true
        }
        let isNew = old != new || published.isEmpty
        if step == .committed, isNew {
            isAhead = true
            return .killed
        }
        publish()
        return step == .published && isNew ? .killed : .done
    }

    /// - Parameter gone: the flags of those that have gone within the window: to come back restricted is a loss, too.
    private static func lost(
        _ old: [String: RecipientFlags], _ new: [String: RecipientFlags], _ gone: [String: RecipientFlags]
    ) -> [Key] {
        gone.merging(old) { $1 }.filter { old[$0.key] != nil || new[$0.key] != nil }.compactMap { address, flags in
            guard let now = new[address] else { return Key(address: address, kind: .gone) }
            return !flags.isRestricted && now.isRestricted ? Key(address: address, kind: .restricted) : nil
        }
    }

    /// A source's new objects, but for some addresses those that it had.
    private static func holding(_ held: Set<String>, _ before: Objects?, _ after: Objects?) -> Objects? {
        guard var result = after, !held.isEmpty else { return after }
        for number in result.keys { result[number]?.addresses.subtract(held) }
        for object in (before ?? [:]).values {
            for address in object.addresses.intersection(held) {
                // With the flags that it had, which may be others than the object's now: an object of its own.
                result[-1 - result.count] = .init(addresses: [address], flags: object.flags)
            }
        }
        return result
    }

    /// Rejects the leaving recipients whose grace has ended.
    ///
    /// - Returns: whether there are any.
    private mutating func endGrace(_ now: Int64, _ reading: SyncClock.Reading) -> Bool {
        let left = losses.filter { $0.value.isLeaving && $0.value.at <= now - grace }.map(\.key)
        guard !left.isEmpty else { return false }
        for key in left { losses[key]?.isLeaving = false }
        writeClock(reading)
        isAhead = true
        return true
    }

    private func allowance(_ count: Int) -> Int { maxShrink > 0 ? max(1, Int(Double(count) * maxShrink)) : 0 }

    /// The reasons to refuse a list: for each, whether a person may overrule it.
    private func violations(
        _ before: [[String: RecipientFlags]], _ after: [[String: RecipientFlags]], _ old: [String: RecipientFlags],
        _ new: [String: RecipientFlags], _ lost: [Key], _ sources: (String) -> Set<Int>, _ isRead: [Bool],
        _ from: Int64,
        _ regained: Set<Key>
    ) -> [Bool] {
        var found: [Bool] = []
        let earlier = losses.filter { key, loss in
            loss.isCounted && loss.at > from && !regained.contains(key) && !lost.contains(key)
        }
        func judge(
            _ count: Int, mayEmpty: Bool, isEmptied: Bool, _ isIn: (Key, Set<Int>) -> Bool
        ) {
            let gone = lost.filter { $0.kind == .gone && isIn($0, sources($0.address)) }.count
            let restricted = lost.filter { $0.kind == .restricted && isIn($0, sources($0.address)) }.count
            let goneBefore = earlier.filter { $0.key.kind == .gone && isIn($0.key, $0.value.sources) }.count
            let restrictedBefore = earlier.filter { $0.key.kind == .restricted && isIn($0.key, $0.value.sources) }.count
            let allowed = allowance(count + goneBefore)
            if !mayEmpty, isEmptied, count > 0 {
                found.append(true)
            } else if gone > 0, gone + goneBefore > allowed {
                found.append(true)
            }
            if restricted > 0, restricted + restrictedBefore > allowed { found.append(true) }
        }
        judge(old.count, mayEmpty: false, isEmptied: new.isEmpty) { _, _ in true }
        for place in before.indices where isRead[place] {
            if after[place].isEmpty, !before[place].isEmpty {
                found.append(true)
            } else {
                judge(before[place].count, mayEmpty: true, isEmptied: false) { _, sources in sources.contains(place) }
            }
        }
        for domain in Set(lost.map { Self.domain($0.address) }) {
            let (first, second) = (
                old.keys.filter { Self.domain($0) == domain }.count, new.keys.filter { Self.domain($0) == domain }.count
            )
            judge(first, mayEmpty: false, isEmptied: second == 0) { key, _ in Self.domain(key.address) == domain }
        }
        if new.count < minimum { found.append(false) }
        if let canary, new[canary] == nil { found.append(false) }
        return found
    }
}
