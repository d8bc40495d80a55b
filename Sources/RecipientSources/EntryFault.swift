/// An entry of a source that lists no recipient though it seems meant to, or whose meaning is in doubt.
public struct EntryFault: Sendable, Codable, Equatable {
    /// Where the entry stands: `line 17`, or the name of a directory's entry and the attribute.
    public var place: String
    /// The value as it stands there, made fit for one line.
    public var value: String
    /// What is wrong with it, as a clause.
    public var reason: String
    /// The directory's object that has the value, by which a later change of it is known; empty in a table.
    var object: [UInt8] = []

    private enum CodingKeys: String, CodingKey {
        case place, value, reason, object
    }

    package init(place: String, value: String, reason: String, object: [UInt8] = []) {
        self.place = place
        self.value = value
        self.reason = reason
        self.object = object
    }

    /// Reads a fault; one without an object is a table's.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        place = try values.decode(String.self, forKey: .place)
        value = try values.decode(String.self, forKey: .value)
        reason = try values.decode(String.self, forKey: .reason)
        object = try values.decodeIfPresent([UInt8].self, forKey: .object) ?? []
    }

    /// Writes a fault; the object only where there is one.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(place, forKey: .place)
        try values.encode(value, forKey: .value)
        try values.encode(reason, forKey: .reason)
        if !object.isEmpty { try values.encode(object, forKey: .object) }
    }
}

extension EntryFault: CustomStringConvertible {
    /// `line 17: "*@example.com": reason`.
    public var description: String { "\(place): \"\(value)\": \(reason)" }
}

/// The faulty entries of a source: all counted, the first twenty kept.
public struct EntryFaults: Sendable, Codable, Equatable {
    /// How many are kept.
    public static let kept = 20

    /// How many there are.
    public private(set) var count = 0
    /// The first of them in the order of the source.
    public private(set) var first: [EntryFault] = []

    package init() {}

    package mutating func note(_ fault: @autoclosure () -> EntryFault) {
        count += 1
        if first.count < Self.kept { first.append(fault()) }
    }

    /// Adds those of entries that have changed, in place of what was known of the same objects.
    ///
    /// - Parameter replaced: whether an object has changed or gone.
    package mutating func replace(with changes: EntryFaults, replaced: ([UInt8]) -> Bool) {
        let before = first.count
        first.removeAll { !$0.object.isEmpty && replaced($0.object) }
        count = max(count - (before - first.count), first.count) + changes.count
        first += changes.first.prefix(Self.kept - first.count)
    }
}

/// Text of unknown origin made fit for one line: at most 200 characters, with a code in place of what has no shape.
func legible(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars.prefix(200) {
        let isShown: Bool
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
            isShown = false
        case .spaceSeparator: isShown = scalar == " "
        default: isShown = !scalar.properties.isDefaultIgnorableCodePoint && scalar != "\\"
        }
        if isShown {
            shown.unicodeScalars.append(scalar)
        } else {
            shown += scalar == "\\" ? "\\\\" : "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
        }
    }
    return text.unicodeScalars.count > 200 ? shown + "…" : shown
}

/// The same of bytes, which needn't be text.
func legible(_ bytes: some Sequence<UInt8>) -> String { legible(String(decoding: Array(bytes), as: UTF8.self)) }
