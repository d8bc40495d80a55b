import TestSupport
import Testing

@testable import Milter

@Suite struct MilterSocketTests {
    @Test func `a socket's text is read as the table says`() throws {
        let table = try caseFields("sockets.cases")
        #expect(table.count > 25)
        for fields in table {
            if fields[1] == "error" {
                #expect("\(fields[0])") { try MilterSocket(fields[0]) } throws: { error in
                    (error as? MilterError)?.kind == .invalidSocket && "\(error)".contains(fields[2])
                        && "\(error)".contains("socket \"\(fields[0])\"")
                        && "\(error)".contains(MilterSocket.acceptedForms)
                }
                continue
            }
            let socket = try MilterSocket(fields[0])
            #expect(socket.description == fields[1])
            #expect(try MilterSocket(socket.description) == socket)
        }
    }

    @Test func `a path may have up to 106 bytes`() throws {
        let path = "/" + String(repeating: "x", count: MilterSocket.maximumPathLength - 1)
        #expect(try MilterSocket(path).location == .unix(path: path))
        #expect {
            try MilterSocket(path + "x")
        } throws: {
            "\($0)".contains("107 bytes; a unix socket's has at most 106")
        }
    }

    @Test func `control characters in a socket are rejected`() {
        #expect { try MilterSocket("/run/a\nb") } throws: { "\($0)".contains("control character") }
        #expect { try MilterSocket("/run/a\0b") } throws: { "\($0)".contains("control character") }
    }
}
