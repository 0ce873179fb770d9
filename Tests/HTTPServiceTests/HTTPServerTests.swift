import Glibc
import HTTPService
import Platform
import SeededNumbers
import TestTools
import Testing

@Suite("A server for a few local clients")
struct HTTPServerTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func server(_ change: (inout HTTPLimits) -> Void = { _ in }) throws -> RunningServer {
        var limits = HTTPLimits()
        limits.requiresHost = false
        limits.keepsAlive = false
        change(&limits)
        return try RunningServer("\(folder.path)/http.sock", limits: limits)
    }

    /// A client's whole exchange with a server that serves one request a connection.
    private func ask(_ server: RunningServer, _ request: String) throws -> String {
        let socket = try server.connect()
        RunningServer.send(request.utf8, to: socket)
        return RunningServer.rest(socket)
    }

    @Test("the 17th client is answered while 16 are silent: the one that has been silent longest loses its place")
    func places() throws {
        let server = try server { $0.connections = 16 }
        defer { server.end() }
        var silent: [OwnedDescriptorBox] = []
        for _ in 0..<16 { silent.append(OwnedDescriptorBox(try server.connect())) }
        #expect(try ask(server, "GET /metrics HTTP/1.1\r\n\r\n").hasSuffix("\r\n\r\n/metrics\n"))
        #expect(silent.first?.rest() == "")
        let last = try #require(silent.last)
        last.send("GET /last HTTP/1.1\r\n\r\n")
        #expect(last.rest().hasSuffix("/last\n"))
    }

    @Test("a request that does not come to its end is answered with 408, and a silent client's connection is closed")
    func limits() throws {
        let server = try server {
            $0.request = .milliseconds(50)
            $0.idle = .milliseconds(50)
        }
        defer { server.end() }
        #expect(try ask(server, "GET / HTTP/1.1\r\nHost: x").hasPrefix("HTTP/1.1 408 "))
        #expect(try ask(server, "").isEmpty)
    }

    @Test("an answer that comes from elsewhere reaches its request")
    func later() throws {
        let server = try server()
        defer { server.end() }
        #expect(try ask(server, "GET /later HTTP/1.1\r\n\r\n").hasSuffix("/later\n"))
    }

    @Test("the answer to a HEAD, also to one that is refused, has no body")
    func head() throws {
        let server = try server()
        defer { server.end() }
        #expect(try ask(server, "HEAD /x HTTP/1.1\r\n\r\n").hasSuffix("Content-Length: 3\r\nConnection: close\r\n\r\n"))
        let refused = try ask(server, "HEAD / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        #expect(refused.hasPrefix("HTTP/1.1 413 ") && refused.hasSuffix("\r\n\r\n"))
    }

    @Test("clients that send rubbish are answered or closed, and the next one is served", arguments: [1, 2] as [UInt64])
    func fuzz(seed: UInt64) throws {
        let server = try server { $0.keepsAlive = true }
        defer { server.end() }
        var numbers = SplitMix(state: seed)
        let words = ["GET ", "HEAD ", "/", " HTTP/1.1", "\r\n", "\n", ":", "Host: x\r\n", "Connection: close\r\n", "Content-Length: 1", "\0", "ä", " ", "\r\n\r\n"]
        for _ in 0..<200 {
            let text = (0..<Int(numbers.next() % 30)).map { _ in words.randomElement(using: &numbers) ?? "" }.joined()
            let socket = try server.connect()
            RunningServer.send(text.utf8, to: socket)
            shutdown(socket.raw, CInt(SHUT_WR))
            let answer = RunningServer.rest(socket)
            #expect(answer.isEmpty || answer.hasPrefix("HTTP/1.1 "))
        }
        #expect(try ask(server, "GET /end HTTP/1.1\r\nConnection: close\r\n\r\n").hasSuffix("/end\n"))
    }
}

/// A client that is kept in a list.
private final class OwnedDescriptorBox {
    private let descriptor: OwnedDescriptor
    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    func rest() -> String { RunningServer.rest(descriptor) }
    func send(_ text: String) { RunningServer.send(text.utf8, to: descriptor) }
}
