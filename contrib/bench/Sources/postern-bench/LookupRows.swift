import CCDB
import CLMDB
import Foundation
import Glibc
import RecipientIndex

/// Measures lookups that hit, in random order, on one thread of this process: the index against LMDB and cdb with the
/// same keys.
struct LookupRows {
    let plan: Plan
    private var recipients: Int { plan.scaled(10_000_000, quick: 100_000) }
    private var lookups: Int { plan.scaled(2_000_000, quick: 100_000) }

    func measure() throws -> [Row] {
        let folder = try Scratch.folder("lookups")
        Progress.say("  three files of \(grouped(recipients)) recipients")
        // In a child process, whose memory is only that of the build.
        let built = try Child.run("/proc/self/exe", ["--build-index", "\(folder)/postern.index", "\(recipients)"])
        let index = try IndexSnapshot(path: "\(folder)/postern.index")
        let lmdb = try LMDB("\(folder)/lmdb")
        var key = Addresses()
        try lmdb.fill(recipients) { key.with($0, $1) }
        let cdb = try ConstantDatabase("\(folder)/cdb")
        try cdb.fill(recipients) { key.with($0, $1) }

        func time(_ has: (UnsafeMutableBufferPointer<UInt8>) -> Bool) throws -> Double {
            var key = Addresses()
            // Each side has the same sequence of numbers.
            var state: UInt64 = 88_172_645_463_325_252
            var found = 0
            let began = ContinuousClock.now
            for _ in 0..<lookups {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                found += key.with(Int(state % UInt64(recipients)), has) ? 1 : 0
            }
            let spent = (ContinuousClock.now - began) / .nanoseconds(1)
            guard found == lookups else { throw Failure("\(lookups - found) of \(lookups) weren't found") }
            return spent / Double(lookups)
        }
        func ours() throws -> Double { try time { index.lookup(UnsafeBufferPointer($0)) != nil } }

        let section = "Lookup that hits, random, \(grouped(recipients)) recipients, key formatting included"
        let withLMDB = try lmdb.reading { has in try plan.alternate(ours) { try time(has) } }
        let withCDB = try cdb.reading { has in try plan.alternate(ours) { try time(has) } }
        func perRecipient(_ path: String) throws -> Double {
            var status = stat()
            guard stat(path, &status) == 0 else { throw Failure("\(path) doesn't exist") }
            return Double(status.st_blocks * 512) / Double(recipients)
        }
        let size = try perRecipient("\(folder)/postern.index")
        let opened = try (0..<max(5, plan.rounds)).map { _ in
            let began = ContinuousClock.now
            let snapshot = try IndexSnapshot(path: "\(folder)/postern.index")
            return withExtendedLifetime(snapshot) { (ContinuousClock.now - began) / .seconds(1) }
        }
        return [
            try Row(
                section, "LMDB", .nanoseconds, withLMDB.postern, reference: withLMDB.reference,
                goal: .ratioAtMost(1 / 4.5)),
            try Row(
                section, "cdb", .nanoseconds, withCDB.postern, reference: withCDB.reference, goal: .ratioAtMost(0.5)),
            try Row(
                section, "bytes a recipient; LMDB", .bytes, [size], reference: [perRecipient("\(folder)/lmdb")],
                goal: .atMost(12)),
            try Row(
                section, "bytes a recipient; cdb", .bytes, [size], reference: [perRecipient("\(folder)/cdb")],
                goal: .atMost(12)),
            try Row(section, "building the index", .seconds, [built.seconds], goal: .atMost(10)),
            try Row(
                section, "memory for building it", .mebibytes, [Double(built.peakResident) / 1_048_576],
                goal: .atMost(1_024)),
            try Row(section, "reading and verifying the index", .seconds, opened, goal: .atMost(0.2)),
        ]
    }
}

/// A function that calls its second argument with the key of a number.
private typealias KeySource = (Int, (UnsafeMutableBufferPointer<UInt8>) -> Void) -> Void

/// An LMDB file as Postfix writes it, with one table of keys and values.
private final class LMDB {
    private var environment: OpaquePointer?
    private var table: MDB_dbi = 0

    init(_ path: String) throws {
        try check(mdb_env_create(&environment))
        try check(mdb_env_set_mapsize(environment, 4 << 30))
        try check(mdb_env_open(environment, path, UInt32(MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOLOCK), 0o644))
    }

    deinit { mdb_env_close(environment) }

    /// Writes the keys, which must be in order.
    func fill(_ count: Int, _ key: KeySource) throws {
        var transaction: OpaquePointer?
        try check(mdb_txn_begin(environment, nil, 0, &transaction))
        try check(mdb_dbi_open(transaction, nil, 0, &table))
        var code: Int32 = 0
        for number in 0..<count where code == 0 {
            key(number) { bytes in
                var name = MDB_val(mv_size: bytes.count, mv_data: bytes.baseAddress)
                var letter = UInt8(ascii: "O")
                withUnsafeMutablePointer(to: &letter) { letter in
                    var value = MDB_val(mv_size: 1, mv_data: letter)
                    code = mdb_put(transaction, table, &name, &value, UInt32(MDB_APPEND))
                }
            }
        }
        try check(code)
        try check(mdb_txn_commit(transaction))
    }

    /// Calls `body` with a function that says whether the file has a key.
    func reading<R>(_ body: ((UnsafeMutableBufferPointer<UInt8>) -> Bool) throws -> R) throws -> R {
        var transaction: OpaquePointer?
        try check(mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction))
        defer { mdb_txn_abort(transaction) }
        return try body { bytes in
            var name = MDB_val(mv_size: bytes.count, mv_data: bytes.baseAddress)
            var value = MDB_val()
            return mdb_get(transaction, table, &name, &value) == 0
        }
    }

    private func check(_ code: Int32) throws {
        guard code == 0 else { throw Failure("LMDB: \(String(cString: mdb_strerror(code)))") }
    }
}

/// A cdb file.
private final class ConstantDatabase {
    private let path: String

    init(_ path: String) throws { self.path = path }

    func fill(_ count: Int, _ key: KeySource) throws {
        let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        defer { close(descriptor) }
        var maker = cdb_make()
        guard descriptor >= 0, cdb_make_start(&maker, descriptor) == 0 else { throw Failure("cdb: \(path)") }
        var code: Int32 = 0
        for number in 0..<count where code == 0 {
            key(number) { bytes in code = cdb_make_add(&maker, bytes.baseAddress, UInt32(bytes.count), "O", 1) }
        }
        guard code == 0, cdb_make_finish(&maker) == 0 else { throw Failure("cdb: \(path) can't be written") }
    }

    /// Calls `body` with a function that says whether the file has a key.
    func reading<R>(_ body: ((UnsafeMutableBufferPointer<UInt8>) -> Bool) throws -> R) throws -> R {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        // Not on the stack, because the library keeps its address.
        let file = UnsafeMutablePointer<cdb>.allocate(capacity: 1)
        defer { file.deallocate() }
        guard descriptor >= 0, cdb_init(file, descriptor) == 0 else { throw Failure("cdb: \(path) can't be read") }
        defer { cdb_free(file) }
        return try body { bytes in cdb_find(file, bytes.baseAddress, UInt32(bytes.count)) > 0 }
    }
}
