/// Hides the local parts of addresses.
enum Redaction {
    /// `*@example.com` for any address of that domain; `*` for one without a domain; an empty text stays empty.
    static func redacted(_ address: String) -> String {
        if address.isEmpty || address == "<>" { return address }
        guard let at = address.lastIndex(of: "@") else { return "*" }
        return "*" + address[at...].filter { $0 != ">" }
    }

    /// The text of a reply with the local part of every address in it hidden; `address` is an address that it may hold,
    /// perhaps with a quoted local part.
    static func redacted(text: String, holding address: String) -> String {
        redactedWithin(address.isEmpty ? text : text.replacing(address, with: redacted(address)))
    }

    /// The text with the local part of everything in it that looks like an address replaced by `*`: the characters
    /// before an `@` back to a space or an enclosing sign, a quoted string as a whole.
    static func redactedWithin(_ text: String) -> String {
        var result: [Unicode.Scalar] = []
        for scalar in text.unicodeScalars {
            if scalar == "@" { hideLocalPart(&result) }
            result.append(scalar)
        }
        return String(String.UnicodeScalarView(result))
    }

    private static func hideLocalPart(_ text: inout [Unicode.Scalar]) {
        let end = text.count
        if text.last == "\"" {
            text.removeLast()
            // Back to the opening quote, which isn't escaped; without one, the whole text is hidden.
            while let last = text.popLast(), last != "\"" || text.last == "\\" {}
        } else {
            while let last = text.last, !" \t\r\n<>()[],;:".unicodeScalars.contains(last) { text.removeLast() }
        }
        if text.count < end { text.append("*") }
    }
}

extension RejectionReport {
    /// The report with every local part hidden: `*@example.com`.
    ///
    /// Addresses are hidden whole. In names and sentences, every address of the report is hidden, and everything that
    /// looks like one. Equal values of a ranking become one row.
    public var redacted: RejectionReport {
        var report = self
        report.filters.redacted = true
        let hiding = Hiding(addresses)
        report.sections = sections.map { $0.redacted(hiding) }
        report.advice = advice.map(hiding.finding)
        return report
    }

    /// Every address in the sections.
    private var addresses: Set<String> {
        var all: Set<String> = []
        for section in sections {
            for (place, column) in section.columns.enumerated() where column.kind == .address {
                for row in section.rows { if case .text(let text) = row.cells[place] { all.insert(text) } }
            }
        }
        return all
    }
}

extension ReportSection {
    fileprivate func redacted(_ hiding: Hiding) -> ReportSection {
        var section = self
        for (place, column) in columns.enumerated() {
            for row in rows.indices {
                guard case .text(let text) = rows[row].cells[place] else { continue }
                let isAddress = column.kind == .address
                section.rows[row].cells[place] = .text(isAddress ? Redaction.redacted(text) : hiding.text(text))
            }
        }
        section.advice = advice.map(hiding.finding)
        section.mergeEqualRows()
        return section
    }

    /// Makes one row of rows with equal keys, where a row holds nothing but its key and numbers that can be added.
    private mutating func mergeEqualRows() {
        guard let key = index(of: .key), let number = index(of: .number),
            columns.allSatisfy({ $0.place == .key || $0.place == .number || $0.kind == .share })
        else { return }
        guard case .text? = rows.first?.cells[key] else { return }
        var merged: [String: Row] = [:]
        for row in rows {
            guard case .text(let name) = row.cells[key] else { continue }
            guard var sum = merged[name] else {
                merged[name] = row
                continue
            }
            for (place, cell) in row.cells.enumerated() {
                switch (sum.cells[place], cell) {
                case (.count(let left), .count(let right)): sum.cells[place] = .count(left &+ right)
                case (.share(let left), .share(let right)): sum.cells[place] = .share(left + right)
                default: break
                }
            }
            merged[name] = sum
        }
        guard merged.count < rows.count else { return }
        rows = merged.sorted { left, right in
            (right.value.cells[number].count ?? 0, left.key) < (left.value.cells[number].count ?? 0, right.key)
        }.map(\.value)
    }
}

/// Hides local parts within texts.
private struct Hiding {
    /// Longest first, so that no address hides a part of another.
    private let addresses: [String]

    init(_ addresses: Set<String>) {
        self.addresses = addresses.filter { $0.count > 2 && Redaction.redacted($0) != $0 }
            .sorted { ($1.count, $0) < ($0.count, $1) }
    }

    func finding(_ finding: ReportFinding) -> ReportFinding {
        ReportFinding(finding.code, text(finding.text), action: text(finding.action))
    }

    func text(_ text: String) -> String {
        var text = text
        // Known addresses first: a hostile one may hold spaces.
        for address in addresses where address.contains("@") && text.contains(address) {
            text = text.replacing(address, with: Redaction.redacted(address))
        }
        return Redaction.redactedWithin(text)
    }
}
