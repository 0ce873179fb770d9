import Glibc
import Testing

@testable import Platform

@Suite("UNIX sockets")
struct UnixSocketTests {
    @Test("A listening socket is its owner's alone")
    func mode() throws {
        let path = "/tmp/demux-socket-\(getpid())"
        let listener = try UnixSocket.listen(.messages, path: path)
        defer { unlink(path) }
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        _ = listener.raw
    }
}
