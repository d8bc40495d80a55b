import Foundation
import System

/// One section of a report: rows under a title. Every format renders any section by the kinds and places of its
/// columns.
struct ReportSection: Sendable, Equatable {
    /// How text and HTML lay the section out.
    enum Style: Sendable, Equatable {
        /// A number and a value, with the other columns below or beside them.
        case list
        /// A line for each row, with a bar.
        case bars
        /// A short list of the most frequent values.
        case ranking
    }

    /// The form of the section in JSON.
    enum JSONForm: Sendable, Equatable {
        /// A list with an object for each row.
        case list
        /// One object, for the only row; absent without a row.
        case object
        /// One object that has the first number of each row by the row's key.
        case counts
        /// One object with the key of the table, its rows, and the count of all other values.
        case table(key: String, others: Int)
    }

    /// The values of one row, one for each column.
    struct Row: Sendable, Equatable {
        var cells: [Cell]
        /// True where the row reports a problem.
        var isProblem = false

        init(_ cells: [Cell], isProblem: Bool = false) {
            self.cells = cells
            self.isProblem = isProblem
        }
    }

    /// The section's name in JSON, such as `near_misses` or `top.recipients`; CSV has `_` for the dot.
    var path: String
    var title: String
    /// One sentence for readers who see the section for the first time; may be empty.
    var note: String
    /// The layout in text and HTML.
    var style: Style
    /// The form in JSON.
    var form: JSONForm
    var columns: [Column]
    var rows: [Row]
    /// What the section asks the postmaster to look at.
    var advice: [ReportFinding] = []

    /// A section without rows and advice.
    init(
        _ path: String, title: String, note: String = "", style: Style = .list, form: JSONForm = .list,
        columns: [Column], rows: [Row] = []
    ) {
        self.path = path
        self.title = title
        self.note = note
        self.style = style
        self.form = form
        self.columns = columns
        self.rows = rows
    }

    /// Adds a finding.
    mutating func advise(_ code: ReportFinding.Code, _ text: String, action: String) {
        advice.append(ReportFinding(code, text, action: action))
    }

    /// The section's name in CSV.
    var csvName: String { path.replacing(".", with: "_") }

    /// The place of the first column that is there.
    func index(of place: Column.Place) -> Int? { columns.firstIndex { $0.place == place } }

    /// The numbers that bars show.
    var bars: [Int] {
        guard let column = index(of: .number) else { return [] }
        return rows.map { $0.cells[column].count ?? 0 }
    }
}

extension ReportSection {
    /// One column: its kind and its place in the layout.
    struct Column: Sendable, Equatable {
        /// The kind of the values; alignment, width and redaction follow from it.
        enum Kind: Sendable, Equatable {
            /// A number of things, exact or estimated.
            case count
            /// A part of the whole in percent.
            case share
            /// A change against the period before.
            case change
            /// A moment, or the first and last of several.
            case time
            /// A moment that is shown as a day where it is a midnight.
            case day
            /// A number of seconds.
            case duration
            /// A mail address: personal, hidden by `--redact`.
            case address
            /// A name without an address in it, such as a domain or a host: shortened where it is too long.
            case name
            /// A sentence; addresses in it are hidden by `--redact`.
            case text
            /// Yes or no, in words.
            case flag(yes: String, no: String)

            /// True for the kinds that are aligned to the right.
            var isNumber: Bool { [.count, .share, .change].contains(self) }
        }

        /// Where text and HTML put a value.
        enum Place: Sendable, Equatable {
            /// In front, as the number of the row.
            case number
            /// The value that the row is about.
            case key
            /// Beside the key, in small type.
            case beside
            /// Below the key in text, in a column of its own in HTML.
            case detail
            /// In JSON and CSV only.
            case data
        }

        /// The name in JSON; empty for a column that only people see.
        var name: String
        /// The name in CSV.
        var csvName: String
        /// The heading in HTML.
        var title: String
        var kind: Kind
        var place: Place
        /// In text: the noun that is counted, such as `sender`.
        var noun: String
        /// In text: the words around the value, which stands for `{}`.
        var phrase: String
        /// What people see for an empty text.
        var empty: String

        /// A column; by default its name in CSV is that in JSON, or `key` and `related` by its place.
        init(
            _ name: String, _ title: String, as kind: Kind, at place: Place = .detail, csv: String? = nil,
            noun: String = "", phrase: String = "{}", empty: String = "-"
        ) {
            self.name = name
            self.title = title
            self.kind = kind
            self.place = place
            self.noun = noun
            self.phrase = phrase
            self.empty = empty
            csvName = csv ?? (name.isEmpty ? "" : place == .key ? "key" : place == .beside ? "related" : name)
        }
    }

    /// One value of a row.
    enum Cell: Sendable, Equatable {
        /// Not known, or not applicable.
        case none
        /// An exact number.
        case count(Int)
        /// A number that is an estimate where the flag says so; JSON has the flag as `NAME_estimated`.
        case estimate(Int, Bool)
        /// A number of percent.
        case share(Double)
        /// A number, and the same of the period before.
        case change(Int, from: Int)
        /// A moment.
        case time(Date)
        /// The first and the last moment; JSON has them as `first` and `last`.
        case span(Date, Date)
        /// A number of seconds; a least number where the flag says so.
        case duration(Int, isMinimum: Bool = false)
        /// Any text, which may be hostile.
        case text(String)
        /// Yes or no.
        case flag(Bool)

        /// The number, if it is one.
        var count: Int? {
            switch self {
            case .count(let count), .estimate(let count, _): count
            default: nil
            }
        }
    }
}

extension ReportSection.Column {
    /// The number in front of a row.
    static func number(_ name: String = "count", _ title: String = "Rejections", noun: String = "") -> Self {
        Self(name, title, as: .count, at: .number, csv: "count", noun: noun)
    }

    /// The first and the last time of a row.
    static func when(_ phrase: String = "{}", title: String = "When") -> Self {
        Self("", title, as: .time, phrase: phrase)
    }

    /// The value as people see it: escaped, with words for its unit and its kind, times in the zone.
    func text(_ cell: ReportSection.Cell, _ zone: TimeZone) -> String {
        switch cell {
        case .none: "–"
        case .count(let count): ReportWords.grouped(count)
        case .estimate(let count, let isEstimate): (isEstimate ? "about " : "") + ReportWords.grouped(count)
        case .share(let percent): ReportWords.percent(percent)
        case .change(let now, let before): ReportWords.change(now, from: before)
        case .time(let date): kind == .day ? TimeText.day(date, zone) : TimeText.local(date, zone)
        case .span(let first, let last): TimeText.span(first, last, zone: zone)
        case .duration(let seconds, let isMinimum): (isMinimum ? "at least " : "") + Words.duration(seconds: seconds)
        case .text(let text): text.isEmpty ? empty : SafeText.escaped(text)
        case .flag(let isSet): if case .flag(let yes, let no) = kind { isSet ? yes : no } else { "\(isSet)" }
        }
    }

    /// The value in the words of the text form; nil where it is not known.
    func sentence(_ cell: ReportSection.Cell, _ zone: TimeZone) -> String? {
        if cell == .none || cell == .text("") { return nil }
        var words = text(cell, zone)
        if let count = cell.count, !noun.isEmpty { words += " " + (count == 1 ? noun : noun + "s") }
        return phrase.replacing("{}", with: words, maxReplacements: 1)
    }
}

/// Something that the postmaster should look at, with what to do about it: for readers who have never seen Postern.
struct ReportFinding: Sendable, Equatable {
    /// How pressing a finding is.
    enum Level: String, Sendable {
        /// Mail that should have arrived is rejected, or the filter doesn't work as it should.
        case problem
        /// Worth a look.
        case notice
    }

    /// The kind of a finding, a word for programs; the most pressing first.
    enum Code: String, Sendable, CaseIterable {
        case unlistedSenders = "unlisted-senders"
        case syncRefused = "sync-refused"
        case indexStale = "index-stale"
        case tempfailed
        case lateSync = "late-sync"
        case sourceFailing = "source-failing"
        case nearMisses = "near-misses"
        case harvest, correspondents, observed, surge, mta, thinned

        /// How pressing it is.
        var level: Level {
            switch self {
            case .unlistedSenders, .syncRefused, .indexStale, .tempfailed, .lateSync, .sourceFailing: .problem
            case .nearMisses, .harvest, .correspondents, .observed, .surge, .mta, .thinned: .notice
            }
        }
    }

    var code: Code
    /// What was found, in a sentence or two.
    var text: String
    /// What to do about it; a command where there is one.
    var action: String

    init(_ code: Code, _ text: String, action: String) {
        self.code = code
        self.text = text
        self.action = action
    }

    var level: Level { code.level }
}
