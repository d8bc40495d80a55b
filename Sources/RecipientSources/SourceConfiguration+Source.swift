extension SourceConfiguration {
    /// The source that reads what this configuration describes. A new kind of source is registered here.
    ///
    /// - Parameters:
    ///   - index: its place among the sources of the configuration.
    ///   - folder: where temporary files with addresses may be written.
    package func source(at index: Int, folder: String) -> any RecipientSource {
        switch kind {
        case .file(let format, let path): FileSource(configuration: self, index: index, format: format, path: path)
        case .command(let command): CommandSource(configuration: self, index: index, command: command, folder: folder)
        case .directory(let directory): DirectorySource(self, directory, index: index)
        }
    }
}
