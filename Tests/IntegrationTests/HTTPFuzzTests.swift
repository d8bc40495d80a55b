import Foundation
import Glibc
import TestSupport
import Testing

extension FilterAlone {
    @Suite struct HTTPFuzzTests {
        /// Sends a request, and reads until the server closes the connection or sends nothing for 20 seconds.
        private func answer(_ request: [UInt8], port: UInt16) throws -> [UInt8] {
            let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(client) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            address.sin_port = port.bigEndian
            let status = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(client, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            guard status == 0 else { throw TestFailure("connect: \(String(cString: strerror(errno)))") }
            var patience = timeval(tv_sec: 20, tv_usec: 0)
            setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
            _ = Glibc.send(client, request, request.count, Int32(MSG_NOSIGNAL))
            shutdown(client, Int32(SHUT_WR))
            var answer: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = recv(client, &buffer, buffer.count, 0)
                guard count > 0, answer.count < 1 << 20 else { return answer }
                answer += buffer[..<count]
            }
        }

        @Test("the filter survives any bytes at its HTTP port, and answers in HTTP or closes the connection")
        func damagedRequests() throws {
            let watched = try WatchedFilter()
            let port = watched.port
            // The HTTP port is opened after the milter's socket.
            #expect(try eventually(within: 20) { try watched.get("/healthz").status == 200 })
            let samples = [
                "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\nConnection: close\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
                "HEAD /healthz HTTP/1.0\r\nHost: [::1]:80\r\n\r\n",
                "POST /live.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
                "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            ].map { Array($0.utf8) }
            let words = [
                "\r\n", "\r\n\r\n", "Content-Length: ", "-1", "99999999999999999999", "Transfer-Encoding: chunked\r\n",
                "fffffffff\r\n",
                "Host: ", "%", "%00", "%zz", "..", "Upgrade: websocket\r\n", "Expect: 100-continue\r\n", "HTTP/9.9",
                "Range: bytes=0-\r\n",
                "\u{0}", "ä",
            ]
            var answered = 0
            try Effort.forEachInput("http", 300, samples: samples, words: words) { input in
                let answer = try answer(input, port: port)
                #expect(
                    answer.isEmpty || answer.starts(with: "HTTP/1.".utf8), "\(String(decoding: answer, as: UTF8.self))")
                if !answer.isEmpty { answered += 1 }
            }
            #expect(answered > 50, "\(answered)")
            #expect(try answer(samples[0], port: port).starts(with: "HTTP/1.1 200".utf8))
            #expect(try watched.filter.answer("nobody@example.com") == "550")
            #expect(watched.filter.postern.stop() == .exited(0))
        }
    }
}
