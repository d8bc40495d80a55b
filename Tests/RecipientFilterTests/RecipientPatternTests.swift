import Foundation
import TestSupport
import Testing

@testable import RecipientFilter

@Suite struct RecipientPatternTests {
    private static func matches(_ set: PatternSet, _ text: String) -> Int? {
        var text = text
        return text.withUTF8 { set.firstMatch($0)?.position }
    }

    @Test func `the patterns match as the table of cases says`() throws {
        var cases = 0
        for (number, line) in try caseLines("patterns.cases") {
            let fields = line.components(separatedBy: " | ")
            let place = "patterns.cases:\(number)"
            cases += 1
            if fields.count == 2, fields[1].hasPrefix("! ") {
                let error = #expect(throws: PatternError.self, "\(place)") {
                    try RecipientPattern(fields[0], action: .block)
                }
                let part = String(fields[1].dropFirst(2))
                #expect(error?.description.contains(part) == true, "\(place): \(error?.description ?? "")")
                continue
            }
            try #require(fields.count == 3, "\(place)")
            let set = PatternSet([try RecipientPattern(fields[0], action: .accept)])
            #expect((Self.matches(set, fields[1]) != nil) == (fields[2] == "yes"), "\(place)")
        }
        #expect(cases >= 100)
    }

    /// A random pattern over a few letters, in the syntax that other engines read in the same way.
    private static func pattern(_ depth: Int, _ random: inout SeededGenerator) -> String {
        switch Int.random(in: 0...(depth > 3 ? 4 : 11), using: &random) {
        case 0, 1, 2: return ["a", "b", "@", "ä"].randomElement(using: &random) ?? "a"
        case 3: return [".", "[ab]", "[^a]", "\\w", "\\d", "\\."].randomElement(using: &random) ?? "."
        case 4: return ["^", "$", "a", "b"].randomElement(using: &random) ?? "^"
        case 5, 6: return pattern(depth + 1, &random) + pattern(depth + 1, &random)
        case 7: return "(" + pattern(depth + 1, &random) + "|" + pattern(depth + 1, &random) + ")"
        default:
            let inner = "(?:a" + pattern(depth + 1, &random) + ")"
            return inner + (["*", "+", "?", "{2}", "{1,2}", "{2,}", "*?"].randomElement(using: &random) ?? "*")
        }
    }

    /// Patterns, alone and together, match the same texts as Foundation's engine.
    @Test(arguments: [31, 32, 33] as [UInt64])
    func agreesWithAnotherEngine(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var compared = 0
        var matched = 0
        for _ in 0..<60 {
            var patterns: [RecipientPattern] = []
            var others: [NSRegularExpression] = []
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let text = Self.pattern(0, &random)
                // A pattern that matches every text is rejected.
                guard let pattern = try? RecipientPattern(text, action: .accept) else { continue }
                patterns.append(pattern)
                others.append(
                    try NSRegularExpression(
                        pattern: text.replacing("$", with: "\\z").replacing("\\w", with: "[a-z0-9_]")))
            }
            let set = PatternSet(patterns)
            for _ in 0..<30 {
                let text = (0..<Int.random(in: 0...8, using: &random)).map { _ in
                    ["a", "b", "@", "ä", ".", "7"].randomElement(using: &random) ?? "a"
                }.joined()
                let expected = others.firstIndex {
                    $0.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
                }
                let given = Self.matches(set, text)
                #expect(given == expected, "seed \(seed): \(patterns.map(\.text)) on \(text)")
                compared += 1
                if given != nil { matched += 1 }
            }
        }
        #expect(compared > 1_000 && matched > 200 && compared - matched > 200, "\(matched) of \(compared)")
    }

    /// Patterns whose common table would be too large get several, and the first match still counts.
    @Test func manyPatternsTakeSeveralTables() throws {
        let letters = Array("abcdefghijklmnopqrst")
        let patterns = try letters.map { try RecipientPattern("\($0)[0-9]+.*\($0)x", action: .block) }
        let set = PatternSet(patterns)
        #expect(set.tableCount > 1 && set.tableCount < 20, "\(set.tableCount)")
        for (position, letter) in letters.enumerated() {
            #expect(Self.matches(set, "--\(letter)0--\(letter)x@") == position)
            #expect(Self.matches(set, "--\(letter)--\(letter)x@") == nil)
            #expect(Self.matches(set, "t0tx\(letter)0--\(letter)x@") == position)
        }
    }

    @Test func listOfManyNamesFitsInOneTable() throws {
        let patterns = try (0..<100).map { try RecipientPattern("^list-\($0)(-owner|-request)?@", action: .accept) }
        let set = PatternSet(patterns)
        #expect(set.tableCount <= 2, "\(set.tableCount)")
        for number in 0..<100 {
            #expect(Self.matches(set, "list-\(number)-owner@example.com") == number)
            #expect(Self.matches(set, "list-\(number)-owners@example.com") == nil)
        }
    }

    /// Each of these patterns is small enough by itself.
    @Test func stepsOfAllPatternsTogetherAreLimited() throws {
        var budget = PatternBudget(maximumSteps: 1_000_000)
        var patterns: [RecipientPattern] = []
        var errors: [PatternError] = []
        for number in 0..<200 {
            do throws(PatternError) {
                patterns.append(try RecipientPattern("^(a?){60}\(number)$", action: .block, &budget))
            } catch {
                errors.append(error)
            }
        }
        #expect(patterns.count > 5 && errors.count > 5, "\(patterns.count)")
        let limits = "all tables together may have 16 MiB and take 1000000 steps to make"
        #expect(errors.allSatisfy { $0.description.contains("beside the other patterns: \(limits)") })
        #expect(budget.steps < 1_100_000, "\(budget.steps)")
        var together = PatternBudget(maximumSteps: 100_000)
        let set = PatternSet(patterns, &together)
        #expect(together.steps < 200_000, "\(together.steps)")
        for number in patterns.indices { #expect(Self.matches(set, "aa\(number)") == number) }
    }

    @Test func memoryOfAllPatternsTogetherIsLimited() throws {
        var budget = PatternBudget()
        budget.bytes = (16 << 20) - 1_000
        #expect(throws: PatternError.self) {
            try RecipientPattern("^list-[0-9]+-owner@example", action: .block, &budget)
        }
        _ = try RecipientPattern("^a", action: .block, &budget)
    }

    /// The steps for a rejected expression count towards the limit of all expressions.
    @Test func rejectedExpressionsCountTowardsTheLimit() {
        var budget = PatternBudget(maximumSteps: 1_100_000)
        for _ in 0..<10 {
            #expect(throws: PatternError.self) {
                try RecipientPattern("^(a?){254}(b?){254}(c?){200}$", action: .block, &budget)
            }
        }
        #expect(budget.steps >= 1_100_000 && budget.steps < 1_200_000, "\(budget.steps)")
    }

    /// Repeats within repeats take few steps, whatever the text.
    @Test(arguments: [51, 52] as [UInt64])
    func nestedRepeatsTakeLimitedSteps(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var accepted = 0
        for _ in 0..<300 {
            var text = ["", "a", "a|", "^", "a*", "."].randomElement(using: &random) ?? ""
            for _ in 0..<Int.random(in: 1...12, using: &random) {
                let count = [0, 1, 2, 3, 254].randomElement(using: &random) ?? 0
                let most = ["", ",", ",254"].randomElement(using: &random) ?? ""
                text = "(\(text)){\(count)\(most)}" + (["", "", "b", "|c"].randomElement(using: &random) ?? "")
            }
            var budget = PatternBudget()
            if (try? RecipientPattern("x\(text)", action: .block, &budget)) != nil { accepted += 1 }
            #expect(budget.steps < 600_000, "\(text)")
        }
        #expect(accepted > 10 && accepted < 290, "\(accepted)")
    }

    @Test(arguments: [41, 42] as [UInt64])
    func randomTextDoesNotTrap(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let pieces = Array("ab^$.*+?|()[]{}\\-,:019=ä").map(String.init) + ["[:digit:]", "(?:", "{2,3}", "\\d"]
        var accepted = 0
        for _ in 0..<5_000 {
            let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in
                pieces.randomElement(using: &random) ?? "a"
            }.joined()
            guard let pattern = try? RecipientPattern(text, action: .block) else { continue }
            accepted += 1
            let set = PatternSet([pattern])
            for _ in 0..<5 {
                let bytes = (0..<Int.random(in: 0...20, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                bytes.withUnsafeBufferPointer { _ = set.firstMatch($0) }
            }
        }
        #expect(accepted > 100, "\(accepted)")
    }
}
