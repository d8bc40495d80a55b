internal import Foundation

extension String {
    /// The string in NFC, with letters that differ only by case made equal.
    ///
    /// Nearly Unicode's full case folding (so ß equals ss), of which the standard library has only the mappings: to
    /// capitals and back.
    var foldedInNFC: String {
        precomposedStringWithCanonicalMapping.caseFolded.precomposedStringWithCanonicalMapping
    }

    private var caseFolded: String {
        var folded = UnicodeScalarView()
        for scalar in unicodeScalars {
            // The dotless i has the capital of the dotted one, and case folding leaves it alone.
            if scalar == "\u{131}" {
                folded.append(scalar)
                continue
            }
            for small in scalar.properties.lowercaseMapping.unicodeScalars {
                for capital in small.properties.uppercaseMapping.unicodeScalars {
                    folded.append(contentsOf: capital.properties.lowercaseMapping.unicodeScalars)
                }
            }
        }
        return String(folded)
    }
}
