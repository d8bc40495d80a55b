extension EntryIntake {
    /// Lists the recipients of a table as all that a source has.
    ///
    /// - Parameters:
    ///   - name: the table's, for messages.
    ///   - isWhole: asked before lines are called malformed: nobody has written to the table meanwhile.
    /// - Throws: `SyncError` of kind `malformed` with every line that can't be understood.
    func take(
        _ reader: LineReader, _ format: TableFormat, name: String, of source: SourceConfiguration, at index: Int,
        _ report: inout SourceReport, isWhole: () -> Bool = { true }
    ) throws(SyncError) {
        let tag = begin(source: index)
        var foreign = ForeignAddresses()
        var parser = TableParser(format)
        let noObject = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
        try parser.parse(reader) { key, domain, flags, line in
            countEntry()
            if admits(domain, source: index) {
                add(Entry(key: key, tag: tag, flags: flags, object: noObject))
            } else {
                foreign.note { "\(String(decoding: key, as: UTF8.self)) (line \(line))" }
            }
        }
        report.read = parser.entries
        report.skipped = parser.skipped
        report.faults = parser.faults
        report.foreign = foreign
        guard parser.malformed.count == 0 || !isWhole() else {
            throw SyncError(
                .malformed,
                "source \"\(source.name)\" holds malformed lines (\(parser.malformed.count)), so it is not used:\n"
                    + parser.malformed.description(file: name), source: source.name)
        }
        if let failure { throw failure }
    }
}
