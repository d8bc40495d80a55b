import System
import Testing

@Suite struct ByteTableTests {
    private func position(of key: String, in table: ByteTable) -> Int? {
        var key = key
        return key.withUTF8 { table.position(of: $0) }
    }

    @Test func `strings have positions in the order in which they are added`() {
        var table = ByteTable()
        for number in 0..<5_000 { #expect(table.insert("domain\(number).example") == number) }
        for number in 0..<5_000 { #expect(table.insert("domain\(number).example") == number) }
        #expect(table.count == 5_000)
        #expect(table[4_321] == "domain4321.example")
        #expect(position(of: "domain4321.example", in: table) == 4_321)
        #expect(position(of: "domain5000.example", in: table) == nil)
    }

    @Test func `a string that is listed twice has its first position`() {
        var table = ByteTable(["a", "b", "a", "", "c"])
        #expect(["a", "b", "", "c", "d"].map { position(of: $0, in: table) } == [0, 1, 3, 4, nil])
        #expect(table.count == 5 && !table.isEmpty)
        #expect(table.insert("d") == 5 && table.insert("c") == 4)
        #expect(ByteTable([]).isEmpty && position(of: "", in: ByteTable([])) == nil)
    }
}
