import Foundation
import Glibc
import System

/// A change of the MTA's configuration file that can be taken back exactly.
///
/// Beside the file lie, while the change is made, `FILE.before-postern`, its copy before the change with the same mode and
/// owner, and `FILE.after-postern`, its copy after it, by which changes of others are noticed.
public struct RevertibleChange {
    private let file: String
    private var before: String { "\(file).before-postern" }
    private var after: String { "\(file).after-postern" }

    /// The change of a file, such as `/etc/postfix/main.cf`.
    public init(file: String) { self.file = file }

    /// Makes the change.
    ///
    /// - Returns: whether the file was changed; false if the change is made already.
    public func apply(_ change: MTAChange) throws(MigrationError) -> Bool {
        guard !change.lines.isEmpty else { return false }
        guard change.canBeApplied else {
            throw MigrationError(
                .data, "\(file) can't be changed by itself: make the change by hand, as it is described")
        }
        var status = stat()
        guard lstat(file, &status) == 0 else { throw MigrationError(file: file, doing: "can't be read") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw MigrationError(.data, "\(file) is not a regular file, but a link perhaps: make the change by hand")
        }
        let text = try TextFile.bytes(file)
        if TextFile.exists(before) {
            if TextFile.exists(after), try TextFile.bytes(after) == text { return false }
            throw MigrationError(
                .cannotCreate,
                "\(before) is there already, and \(file) is not as the change left it: revert or remove it first")
        }
        try write(text, to: before, like: status)
        do throws(MigrationError) {
            if change.settings.isEmpty {
                try replace(with: Self.inserted(change.insertion, into: text), like: status)
            } else {
                let program = try MTAProgram.path(of: "postconf")
                let folder = String(file.prefix(upTo: file.lastIndex(of: "/") ?? file.startIndex))
                let arguments = ["-c", folder, "-e"] + change.settings.map { "\($0.name) = \($0.value)" }
                let result = try MTAProgram.run(program, arguments)
                guard result.status == 0 else {
                    let reason = result.error.split(separator: "\n").last ?? "exit status \(result.status)"
                    throw MigrationError(.cannotCreate, "\(file): postconf can't change it: \(reason)")
                }
                // postconf makes the file anew.
                guard chown(file, status.st_uid, status.st_gid) == 0, chmod(file, status.st_mode & 0o7777) == 0 else {
                    throw MigrationError(file: file, doing: "can't get back its owner and mode")
                }
            }
            try write(try TextFile.bytes(file), to: after, like: status)
            return true
        } catch {
            // What was changed is put back; without a change the copy has no use.
            rename(before, file)
            unlink(after)
            throw error
        }
    }

    /// Takes the change back: the file is byte for byte as it was.
    public func revert() throws(MigrationError) {
        guard TextFile.exists(before) else {
            throw MigrationError(.noInput, "\(before): no such file: there is no change to take back")
        }
        let text = try TextFile.bytes(file)
        if try TextFile.bytes(before) != text {
            let expected = TextFile.exists(after) ? try TextFile.bytes(after) : try TextFile.bytes(before)
            guard expected == text else {
                throw MigrationError(
                    .data,
                    "\(file) has been changed since: \(Self.difference(expected, text)); take these changes back, or Postern's by hand "
                        + "(\(before) is the file before it)")
            }
        }
        guard rename(before, file) == 0 else {
            throw MigrationError(file: file, doing: "can't be replaced by \(before)")
        }
        unlink(after)
    }

    /// The lines that one text has and the other hasn't, the first few with their numbers.
    private static func difference(_ old: [UInt8], _ new: [UInt8]) -> String {
        func lines(_ bytes: [UInt8]) -> [String] {
            String(decoding: bytes, as: UTF8.self).components(separatedBy: "\n")
        }
        let changes = lines(new).difference(from: lines(old))
        let shown = changes.prefix(5).map { change in
            switch change {
            case .insert(let offset, let line, _): "line \(offset + 1) is \"\(line.escapedForMessage)\""
            case .remove(let offset, let line, _):
                "the former line \(offset + 1), \"\(line.escapedForMessage)\", is gone"
            }
        }
        return shown.joined(separator: "; ") + (changes.count > 5 ? "; and \(changes.count - 5) more" : "")
    }

    private static func inserted(_ insertion: (lines: [String], before: String?), into bytes: [UInt8]) -> [UInt8] {
        let added = Array(insertion.lines.map { "\($0)\n" }.joined().utf8)
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard let before = insertion.before,
            let place = lines.firstIndex(where: { String(decoding: $0, as: UTF8.self) == before })
        else { return bytes + (bytes.last == UInt8(ascii: "\n") ? [] : [UInt8(ascii: "\n")]) + added }
        lines.insert(added.dropLast(), at: place)
        return Array(lines.joined(separator: [UInt8(ascii: "\n")]))
    }

    private func replace(with bytes: [UInt8], like status: stat) throws(MigrationError) {
        let temporary = "\(file).postern-new"
        try write(bytes, to: temporary, like: status)
        guard rename(temporary, file) == 0 else {
            let code = errno
            unlink(temporary)
            throw MigrationError(file: file, doing: "can't be replaced", code: code, otherwise: .cannotCreate)
        }
    }

    /// Writes a new file with the mode and owner of another.
    private func write(_ bytes: [UInt8], to path: String, like status: stat) throws(MigrationError) {
        try TextFile.create(path, bytes, mode: status.st_mode & 0o7777, owner: (status.st_uid, status.st_gid))
    }
}

extension TextFile {
    /// The bytes of a file.
    static func bytes(_ path: String) throws(MigrationError) -> [UInt8] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw MigrationError(file: path, doing: "can't be read", code: access(path, R_OK) == 0 ? EIO : errno)
        }
        return Array(data)
    }

    /// Writes a new file, which must not exist; nothing is left of it after a failure.
    ///
    /// - Parameter owner: its owner and group; nil for those of the process.
    static func create(
        _ path: String, _ bytes: [UInt8], mode: mode_t, owner: (user: uid_t, group: gid_t)? = nil
    ) throws(MigrationError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else {
            let code = errno
            let kind: MigrationError.Kind = [EACCES, EPERM, EROFS].contains(code) ? .notPermitted : .cannotCreate
            throw MigrationError(kind, "\(path) can't be made: \(systemMessage(code))")
        }
        defer { close(descriptor) }
        func fail() -> MigrationError {
            let code = errno
            unlink(path)
            return MigrationError(file: path, doing: "can't be written", code: code, otherwise: .cannotCreate)
        }
        if let owner, geteuid() == 0, fchown(descriptor, owner.user, owner.group) != 0 { throw fail() }
        guard fchmod(descriptor, mode) == 0 else { throw fail() }
        var done = 0
        while done < bytes.count {
            let count = bytes[done...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw fail() }
            done += count
        }
        guard fsync(descriptor) == 0 else { throw fail() }
    }
}
