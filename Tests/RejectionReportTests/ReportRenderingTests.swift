import Foundation
import LogTestSupport
import TestSupport
import Testing

@testable import RejectionLog
@testable import RejectionReport

/// All formats of a report with rows in every section.
@Suite struct ReportRenderingTests {
    /// Every figure of a report, with its path in the JSON form.
    private static func figures(_ report: RejectionReport) throws -> [(place: String, value: Int)] {
        func walk(_ value: Any, _ place: String) -> [(String, Int)] {
            switch value {
            case let object as [String: Any]: object.flatMap { walk($0.value, "\(place).\($0.key)") }
            case let list as [Any]: list.flatMap { walk($0, place) }
            case let number as NSNumber where !(value is Bool) && number.doubleValue == number.doubleValue.rounded():
                [(place, number.intValue)]
            default: []
            }
        }
        return walk(try JSONSerialization.jsonObject(with: Data(try report.json().utf8)), "")
            // The document's version, the values that the text shows as a length of time, and the shares.
            .filter { ![".schema", ".sync.age", ".listed_now.late"].contains($0.0) && !$0.0.hasSuffix(".share") }
    }

    /// Every number in a text; with `grouped`, commas between digits are ignored.
    private static func numbers(_ text: String, grouped: Bool = true) -> Set<Int> {
        let digits = grouped ? text.replacing(/([0-9]),(?=[0-9]{3})/) { "\($0.output.1)" } : text
        return Set(digits.split { !$0.isASCII || !$0.isNumber }.compactMap { Int($0) })
    }

    @Test func everyFormatHasTheSameFigures() throws {
        for report in [RejectionReport.sample, .hourly] {
            let figures = try Self.figures(report)
            #expect(figures.count > 80)
            let text = Self.numbers(report.text(timeZone: .gmt))
            let csv = Self.numbers(report.csv(), grouped: false)
            let html = Self.numbers(try report.html(host: "mx1.example.com", timeZone: .gmt))
            let mail = Self.numbers(try Self.parts(of: Self.mail(report)).joined())
            for (place, value) in figures where !(place == ".previous.totals.thinned") {
                let isHeld = csv.contains(value)
                #expect(isHeld, "\(place)")
                #expect(html.contains(value), "\(place)")
                #expect(mail.contains(value), "\(place)")
                // The text form has the sum of a step's rejections.
                if !place.hasPrefix(".trend") { #expect(text.contains(value), "\(place)") }
            }
            for step in report.trend.steps { #expect(text.contains(step.refusals)) }
        }
        for (name, count) in RejectionReport.tabled.countsByKey("table") {
            for form in [
                RejectionReport.tabled.text(timeZone: .gmt), RejectionReport.tabled.csv(),
                try RejectionReport.tabled.html(host: "mx1.example.com", timeZone: .gmt),
                try RejectionReport.tabled.json(),
            ] {
                #expect(form.contains(name))
                let numbers = Self.numbers(form).union(Self.numbers(form, grouped: false))
                #expect(numbers.isSuperset(of: [count, 2_404]))
            }
        }
    }

    @Test func estimatesAreMarkedInEveryFormat() throws {
        var report = RejectionReport.sample
        /// The columns `estimated` and `accepting` of the harvest.
        func flags(_ report: RejectionReport) throws -> [String] {
            let records = try Self.records(report.csv())
            let harvest = try #require(records.first { $0.starts(with: ["harvests", "203.0.113.0/24"]) })
            #expect(harvest.prefix(4) == ["harvests", "203.0.113.0/24", "vps77.bulk.example", "5902"])
            return try ["estimated", "accepting"].map { name in
                harvest[try #require(records.first?.firstIndex(of: name))]
            }
        }
        #expect(report.text(timeZone: .gmt).contains("about 2,318 recipients tried"))
        #expect(try report.html(host: "mx", timeZone: .gmt).contains(">about 2,318<"))
        #expect(try flags(report) == ["recipients", "false"])
        #expect(try report.json().contains("\"recipients_estimated\" : true"))
        report.set("harvests", "recipients", to: .estimate(2_318, false))
        #expect(report.text(timeZone: .gmt).contains(" 2,318 recipients tried"))
        #expect(!report.text(timeZone: .gmt).contains("about 2,318"))
        #expect(try !report.html(host: "mx", timeZone: .gmt).contains("about 2,318"))
        #expect(try flags(report) == ["", "false"])
        report.set("near_misses", "senders", to: .estimate(12, true))
        #expect(report.text(timeZone: .gmt).split(separator: /\s+/).joined(separator: " ").contains("about 12 senders"))
        #expect(try report.html(host: "mx", timeZone: .gmt).contains(">about 12<"))
    }

    @Test func theFirst24LinesHaveAllFindingsAndTheirActions() {
        let report = RejectionReport.sample
        let screen = report.text(timeZone: .gmt).split(separator: "\n", omittingEmptySubsequences: false).prefix(24)
            .map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: " ")
        for finding in report.findings {
            #expect(screen.contains(finding.text))
            #expect(screen.contains(finding.action))
        }
        #expect(
            screen.contains("15,089 of 101,293 recipients") && screen.contains("33% more than in the 7 days before"))
    }

    @Test func noLineIsWiderThanTheTerminal() {
        for report in [RejectionReport.sample, .tabled, .hourly] {
            for width in 40...140 {
                let style = RejectionReport.TextStyle(width: width)
                for line in report.text(style, timeZone: .gmt).split(separator: "\n") {
                    #expect(SafeText.width(String(line)) <= width, "\(line)")
                    #expect(!line.hasSuffix(" "))
                }
            }
        }
    }

    @Test func coloursAndUnicodeAreOptional() {
        let report = RejectionReport.sample
        let plain = report.text(timeZone: .gmt)
        #expect(!plain.contains("\u{1B}"))
        let colored = report.text(.init(isColored: true), timeZone: .gmt)
        #expect(colored.replacing(/\x1B\[[0-9;]+m/, with: "") == plain)
        let ascii = report.text(.init(isUnicode: false), timeZone: .gmt)
        #expect(ascii.utf8.allSatisfy { $0 == 0x0A || (0x20..<0x7F).contains($0) })
        #expect(ascii.contains("m\\xfcller@example.com") && ascii.contains("####"))
    }

    @Test func aTrendOfAnyLengthFitsTheTerminal() {
        for count in [1, 2, 14, 15, 48, 49, 67, 68, 120, 500] {
            for unit in ReportTrend.Unit.allCases {
                var report = RejectionReport.sample
                report.trend = .init(
                    unit: unit,
                    steps: (0..<count).map {
                        .init(
                            start: Date(timeIntervalSince1970: Double($0) * 3_600),
                            verdicts: .init(refused: $0, observed: 1))
                    })
                for width in [40, 80, 200] {
                    for line in report.text(.init(width: width), timeZone: .gmt).split(separator: "\n") {
                        #expect(SafeText.width(String(line)) <= width, "\(line)")
                    }
                }
            }
        }
    }

    @Test func figuresOfAnySizeAreRendered() throws {
        var report = RejectionReport.tabled
        for (most, least) in [(Int.max, 0), (Int.max, Int.max), (0, 0), (-1, Int.min)] {
            report.figures.totals = .init(
                refused: most, accepted: most, tempfailed: least, observed: most, thinned: most)
            report.previous?.totals = .init(refused: least, accepted: most)
            report.figures.byReason = ["unknown": most, "relay": least]
            report.trend.steps = report.trend.steps.map {
                .init(
                    start: $0.start,
                    verdicts: .init(accepted: most, refused: most, tempfailed: least, observed: most))
            }
            report.set("table", "count", to: .count(most))
            report.set("table", "share", to: .share(.infinity))
            report.set("listed_now", "late", to: .duration(most))
            report.set("sync", "age", to: .duration(least))
            report.set("sync.refused", "removed", to: .count(most))
            for columns in [40, 80] { _ = report.text(.init(width: columns), timeZone: .gmt) }
            _ = report.csv()
            _ = try report.html(host: "mx1", timeZone: .gmt)
            _ = report.with(nil).csv()
        }
        for most in [0, 1, 2, 3, 7, 49, 50, 51, 999, 1_000, 4_902, 1 << 40, Int.max] {
            let scale = TrendGraphic.scale(most)
            #expect(scale.ticks.count <= 7 && scale.ticks.count >= 2, "\(most)")
            #expect(scale.most >= most || most > 1 << 50)
        }
    }

    @Test func aChangeIsWrittenAsAPercentageOrAFactor() {
        let cases: [(Int, Int, String)] = [
            (0, 0, "same"), (5, 5, "same"), (5, 0, "new"), (0, 5, "-100%"), (134, 100, "+34%"), (88, 100, "-12%"),
            (10_001, 10_000, "+<1%"), (9_999, 10_000, "-<1%"), (400, 10, "40x"), (1 << 50, 1, ">9,999x"),
        ]
        for (now, before, words) in cases { #expect(ReportWords.change(now, from: before) == words) }
    }

    @Test func theCSVFollowsRFC4180() throws {
        let csv = RejectionReport.sample.csv()
        #expect(csv.hasPrefix("section,key,related,count,previous,share,"))
        #expect(csv.hasSuffix("\r\n"))
        let records = try Self.records(csv)
        #expect(Set(records.map(\.count)).count == 1)
        let heading = try #require(records.first)
        let unknown = try #require(records.first { $0.starts(with: ["by_reason", "unknown"]) })
        #expect(unknown[try #require(heading.firstIndex(of: "count"))] == "9812")
        #expect(unknown[try #require(heading.firstIndex(of: "previous"))] == "6940")
        #expect(unknown[try #require(heading.firstIndex(of: "share"))] == "65.028")
        let table = try Self.records(RejectionReport.tabled.csv())
        #expect(
            table == [
                ["domain", "count", "share"], ["example.com", "9120", "60.441"], ["example.org", "3565", "23.626"],
                ["(others)", "2404", "15.932"],
            ])
    }

    @Test func thePageNeedsNoOtherResource() throws {
        let html = try RejectionReport.tabled.html(host: "mx1.example.com", timeZone: .gmt)
        #expect(html.hasPrefix("<!DOCTYPE html>"))
        #expect(html.contains("Content-Security-Policy\" content=\"default-src 'none';"))
        for word in ["<script", "javascript:", "src=", "href=", "url(", "@import", "http:", "https:", "{{"] {
            #expect(!html.contains(word), "\(word)")
        }
        // Each graphic has a title and a description for screen readers.
        #expect(html.matches(of: /<svg class="trend [a-z]+"[^>]* role="img" aria-labelledby=/).count == 2)
        #expect(html.matches(of: /<desc id=/).count == 2)
        for heading in html.matches(of: /<th[ >][^>]*/) { #expect(heading.output.contains("scope=")) }
    }

    // MARK: Hostile values

    /// The values of `hostile.cases` as the database would hold them.
    static func hostileValues() throws -> [String] {
        try caseFields("hostile.cases").map { line in
            var bytes: [UInt8] = []
            var rest = line[0][...]
            while let character = rest.unicodeScalars.popFirst() {
                if character == "%", let byte = UInt8(rest.prefix(2), radix: 16) {
                    bytes.append(byte)
                    rest = rest.dropFirst(2)
                } else {
                    bytes += Array(String(character).utf8)
                }
            }
            return bytes.withUnsafeBytes { StoredText.string($0) }
        }
    }

    @Test func hostileValuesAreHarmlessInEveryFormat() throws {
        let harmless = RejectionReport.filled(with: "plain@example.com")
        let tags = Self.tags(try harmless.html(host: "mx1", timeZone: .gmt))
        for value in try Self.hostileValues() {
            var report = RejectionReport.filled(with: value)
            for style in [RejectionReport.TextStyle(), .init(width: 40), .init(isUnicode: false)] {
                let text = report.text(style, timeZone: .gmt)
                Self.expectHarmless(text, value)
                for line in text.split(separator: "\n") {
                    #expect(SafeText.width(String(line)) <= style.width, "\(line)")
                }
            }
            let colored = report.text(.init(isColored: true), timeZone: .gmt)
            Self.expectHarmless(colored.replacing(/\x1B\[[0-9;]+m/, with: ""), value)

            let json = try report.json()
            Self.expectHarmless(json, value)
            let document = try #require(
                try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
            #expect((document["near_misses"] as? [[String: Any]])?.first?["recipient"] as? String == value)
            #expect((document["mta_replies"] as? [[String: Any]])?.first?["reply"] as? String == value)
            #expect((document["by_reason"] as? [String: Int])?[value] == 1)
            #expect((document["observed"] as? [String: Int])?[value] == 17)

            let html = try report.html(host: value, timeZone: .gmt)
            Self.expectHarmless(html, value)
            #expect(Self.tags(html) == tags, "\(value)")

            for _ in 0..<2 {
                let csv = report.csv()
                let records = try Self.records(csv)
                #expect(Set(records.map(\.count)).count == 1, "\(value)")
                for field in records.joined() {
                    Self.expectHarmless(field, value)
                    #expect(!"=+-@\t\r＝＋－＠".unicodeScalars.contains(field.unicodeScalars.first ?? " "), "\(value)")
                }
                report = report.with(nil)
            }
        }
    }

    @Test func hostileValuesAreHarmlessInAMail() throws {
        let names = try Self.headers(Self.mail(.filled(with: "plain@example.com"))).map(\.name)
        #expect(Set(names).count == names.count)
        for value in try Self.hostileValues() {
            let report = RejectionReport.filled(with: value)
            let message = try ReportMail(from: "postern@mx1", to: ["postmaster@example.com"], host: value)
                .message(report, timeZone: .gmt, identifier: "test")
            #expect(message.utf8.allSatisfy { $0 == 0x0A || (0x20..<0x7F).contains($0) })
            #expect(try Self.headers(message).map(\.name) == names, "\(value)")
            #expect(message.split(separator: "\n").count { $0.hasPrefix("--=_postern_test") } == 3)
            for line in message.split(separator: "\n") { #expect(line.utf8.count <= 78, "\(line)") }
            #expect(
                try Self.parts(of: message).first == report.text(.init(width: 76), timeZone: .gmt), "\(value)")
            if value.contains(where: { !$0.isASCII || $0.isWhitespace || "<>\",;:\\()[]\r\n".contains($0) }) {
                #expect(throws: ReportMail.InvalidAddress.self) {
                    _ = try ReportMail(from: value, to: ["postmaster@example.com"], host: "mx1")
                }
                #expect(throws: ReportMail.InvalidAddress.self) {
                    _ = try ReportMail(from: "postern@mx1", to: ["postmaster@example.com", value], host: "mx1")
                }
            }
        }
        for address in [
            "", "@", "-a", "a@", "@b", "a@b@c", "-oQ/tmp@example.com", "a..b@example.com", ".a@example.com", "a@b..c",
            "a b@example.com", "a@example.com\n", "a@example.com,b@example.com", "\"a\"@example.com", "a@[192.0.2.1]",
            "müller@example.com", String(repeating: "a", count: 65) + "@example.com",
        ] {
            #expect(throws: ReportMail.InvalidAddress.self, "\(address)") {
                _ = try ReportMail(from: "postern@mx1", to: [address], host: "mx1")
            }
        }
        #expect(throws: ReportMail.InvalidAddress.self) { _ = try ReportMail(from: "postern@mx1", to: [], host: "mx1") }
        #expect(try ReportMail(from: "postern", to: ["root"], host: "mx1").recipients == ["root"])
    }

    @Test func longHeadersAreFolded() throws {
        let many = (0..<60).map { "recipient.number.\($0)@example.com" }
        let message = try ReportMail(
            from: "postern@mx1", to: many, host: String(repeating: "例子.", count: 60) + "example"
        ).message(.sample, timeZone: .gmt, identifier: "test")
        let headers = try Self.headers(message)
        #expect(headers.first { $0.name == "To" }?.value.split(separator: ",").count == 60)
        let subject = try #require(headers.first { $0.name == "Subject" }?.value)
        let words = try subject.split(separator: " ").map { word in
            #expect(word.count <= 75 && word.hasPrefix("=?utf-8?B?") && word.hasSuffix("?="))
            return try #require(Data(base64Encoded: String(word.dropFirst(10).dropLast(2))))
        }
        // Each encoded word holds whole characters.
        for word in words { #expect(String(validating: word, as: UTF8.self) != nil) }
        let text = String(decoding: words.reduce(Data(), +), as: UTF8.self)
        #expect(
            text.hasPrefix("Postern on 例子.例子.")
                && text.contains(": 2 problems, 3 notices, 15,089 rejected, 2026-11-16 ")
        )
        for line in message.split(separator: "\n") { #expect(line.utf8.count <= 78, "\(line)") }
    }

    @Test func redactionHidesLocalPartsInEverySection() throws {
        var report = RejectionReport.sample
        report.advice[0].text =
            "jon.smith@example.com, <b.keller@example.com> and \"john quincy\"@example.com were rejected."
        report.advice[0].action = "Ask carl@partner.example: postern check old.colleague@example.com"
        report.set("mta_replies", "reply", to: .text("550 5.1.1 <jon.smith@example.com>: user unknown"))
        report.set("top.helos", "helo", to: .text("jon.smith@example.com"))
        report.set("top.clients", "name", to: .text("jon.smith@example.com"))
        report.set("harvests", "name", to: .text("carl@partner.example"))
        report.set("near_misses", "recipient", to: .text("two words jon.smith@example.com"))
        report.advice[1].text = "It was two words jon.smith@example.com again."
        report.set("sync.sources", "failure", to: .text("carl@partner.example: no such bind name"), row: 1)
        report.set("sync.refused", "text", to: .text("canary john.smith@example.com is missing"))
        for key in [ReportQuery.Key.recipient, .sender, nil] {
            report = report.with(
                key.map {
                    .table(
                        $0, rows: [(.text("jon.smith@example.com"), 20), (.text("b.keller@example.com"), 10)], of: 50)
                })
            let redacted = report.redacted
            #expect(redacted.redacted == redacted)
            #expect(redacted.filters.redacted)
            #expect(redacted.figures == report.figures)
            if key != nil {
                #expect(redacted.table?.rows == [.init([.count(30), .share(60), .text("*@example.com")])])
            }
            for form in [
                redacted.text(timeZone: .gmt), redacted.csv(), try redacted.json(),
                try redacted.html(host: "mx1", timeZone: .gmt), try Self.parts(of: Self.mail(redacted)).joined(),
            ] {
                for name in [
                    "smith", "keller", "quincy", "two words", "carl", "colleague", "petrovic", "sales@", "new.hire",
                    "info@",
                    "müller", "offers@",
                ] {
                    #expect(!form.contains(name), "\(name)")
                }
            }
        }
        for value in try Self.hostileValues() where value.contains("@") {
            var report = RejectionReport.filled(with: "secret\(value)")
            // These never hold an address.
            report.filters = .init()
            report.figures.byReason = [:]
            report.previous = nil
            #expect(!(try report.redacted.json()).contains("secret"), "\(value)")
        }
    }

    // MARK: Reading back

    private static func mail(_ report: RejectionReport) throws -> String {
        try ReportMail(from: "postern@mx1.example.com", to: ["postmaster@example.com"], host: "mx1.example.com")
            .message(report, timeZone: .gmt, identifier: "test")
    }

    /// The fields of a message's header, unfolded.
    private static func headers(_ message: String) throws -> [(name: String, value: String)] {
        let head = try #require(message.components(separatedBy: "\n\n").first)
        return try head.replacing("\n ", with: " ").split(separator: "\n").map { line in
            let colon = try #require(line.firstIndex(of: ":"))
            return (String(line[..<colon]), line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
        }
    }

    /// The parts of a message, decoded.
    private static func parts(of message: String) throws -> [String] {
        let pieces = message.components(separatedBy: "\n--=_postern_test")
        return try pieces.dropFirst().dropLast().map { piece in
            let gap = try #require(piece.range(of: "\n\n"))
            var bytes: [UInt8] = []
            var rest = Array(piece[gap.upperBound...].utf8)[...]
            while let byte = rest.popFirst() {
                guard byte == UInt8(ascii: "=") else {
                    bytes.append(byte)
                    continue
                }
                if rest.first == 0x0A {
                    rest.removeFirst()
                } else {
                    bytes.append(try #require(UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)))
                    rest.removeFirst(2)
                }
            }
            return try #require(String(validating: bytes, as: UTF8.self))
        }
    }

    /// The tags of a page, with their attributes, without the text between them and the bars' sizes.
    private static func tags(_ html: String) -> [String] {
        var tags: [String] = []
        var tag: String?
        for scalar in html.unicodeScalars {
            if scalar == "<" { tag = "" }
            tag?.unicodeScalars.append(scalar)
            if scalar == ">", let whole = tag {
                tags.append(whole)
                tag = nil
            }
        }
        return tags
    }

    /// The records of a CSV, read by the letter of RFC 4180.
    private static func records(_ csv: String) throws -> [[String]] {
        var records: [[String]] = []
        var record: [String] = []
        var field = String.UnicodeScalarView()
        var isQuoted = false
        var rest = csv.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            switch scalar {
            case "\"" where isQuoted && rest.first == "\"":
                rest.removeFirst()
                field.append(scalar)
            case "\"" where isQuoted: isQuoted = false
            case _ where isQuoted: field.append(scalar)
            case "\"" where field.isEmpty: isQuoted = true
            case "\"": throw TestFailure("a quote within a field")
            case ",", "\r":
                record.append(String(field))
                field = .init()
                guard scalar == "\r" else { continue }
                guard rest.popFirst() == "\n" else { throw TestFailure("a CR without its LF") }
                records.append(record)
                record = []
            case "\n": throw TestFailure("an LF without its CR")
            default: field.append(scalar)
            }
        }
        guard record.isEmpty, field.isEmpty else { throw TestFailure("no line end") }
        return records
    }

    private static func expectHarmless(_ text: String, _ value: String) {
        for scalar in text.unicodeScalars where scalar != "\n" {
            #expect(SafeText.isVisible(scalar), "U+\(String(scalar.value, radix: 16)) of \(value)")
        }
    }
}

extension RejectionReport {
    /// The sample with the value wherever a client, a directory or an administrator may put one: in the first row of
    /// each section, and in the second.
    static func filled(with value: String) -> RejectionReport {
        var report = sample.with(
            .table(.recipient, rows: [(.text(value), 9_120), (.text("example.org"), 3_565)], of: 15_089))
        report.filters = Filters(domain: value, reason: value, client: value)
        report.figures.byReason = ["unknown": 9_812, value: 1]
        report.previous?.byReason = ["unknown": 1, value: 3]
        for place in report.advice.indices {
            report.advice[place].text = value
            report.advice[place].action = value
        }
        for (number, section) in report.sections.enumerated() where !["sync", "table"].contains(section.path) {
            if section.rows.count > 3 || section.style == .ranking || section.form == .counts {
                report.sections[number].rows.removeSubrange(1...)
            }
            for (place, column) in section.columns.enumerated() {
                for row in report.sections[number].rows.indices {
                    guard case .text = section.rows[row].cells[place], column.name != "last" else { continue }
                    report.sections[number].rows[row].cells[place] = .text(value)
                }
            }
        }
        report.set("observed", "count", to: .count(17))
        return report
    }
}
