package import Foundation

/// The JSON that programs read: names in snake case and in a fixed order, times in ISO 8601 and UTC.
package enum JSON {
    /// A value as JSON text of several lines.
    package static func text(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .iso8601
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    /// The value of such a text.
    package static func value<Value: Decodable>(_ type: Value.Type, from text: Data) throws -> Value {
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .iso8601
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: text)
    }
}
