import CLinux
import Glibc

/// Small reads of small files and streams.
public enum Files {
    /// Reads a descriptor to its end.
    /// - Throws: SystemError when it fails or holds more than `limit` bytes.
    public static func readAll(_ raw: CInt, limit: Int, what: String) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while true {
            let length = read(raw, &chunk, chunk.count)
            if length < 0 {
                if errno == EINTR { continue }
                throw SystemError("read", what)
            }
            if length == 0 { return bytes }
            bytes += chunk[..<length]
            guard bytes.count <= limit else { throw SystemError("read", what, reason: "it is longer than \(limit) bytes") }
        }
    }

    /// Writes all bytes to a descriptor; waits where a non-blocking one is full.
    /// - Throws: SystemError that says why the rest is not written.
    public static func writeAll(_ bytes: [UInt8], to raw: CInt, what: String) throws(SystemError) {
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { write(raw, $0.baseAddress, $0.count) }
            if count > 0 {
                written += count
                continue
            }
            guard count < 0 else { throw SystemError("write", what, reason: "nothing more is taken") }
            if errno == EINTR { continue }
            guard errno == EAGAIN else { throw SystemError("write", what) }
            var room = pollfd(fd: raw, events: Int16(POLLOUT), revents: 0)
            _ = poll(&room, 1, -1)
        }
    }

    /// Opens a file for reading, close-on-exec. Never waits, as for somebody who writes to a FIFO.
    public static func open(_ path: String) throws(SystemError) -> OwnedDescriptor {
        let raw = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard raw >= 0 else { throw SystemError("open", path) }
        return OwnedDescriptor(adopting: raw)
    }

    /// A pipe; both ends close-on-exec.
    public static func pipe() throws(SystemError) -> (read: CInt, write: CInt) {
        var ends: [CInt] = [-1, -1]
        guard demux_pipe(&ends) == 0 else { throw SystemError("create", "a pipe") }
        return (ends[0], ends[1])
    }

    /// The program that runs; "" when the kernel does not tell.
    public static func programPath() -> String {
        var path = [CChar](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &path, path.count)
        return String(decoding: path.prefix(max(length, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The folder of the program that runs; "/" when the kernel does not tell.
    public static func programFolder() -> String {
        let text = programPath()
        return text.lastIndex(of: "/").map { String(text[..<$0]) } ?? "/"
    }

    /// Whether a program could be executed.
    public static func isExecutable(_ path: String) -> Bool { access(path, X_OK) == 0 }

    /// Marks every descriptor from `first` on close-on-exec.
    public static func closeOnExec(from first: CInt) { _ = demux_cloexec_from(UInt32(clamping: first)) }

    /// The numbers of this process's open descriptors from `first` on.
    public static func openDescriptors(from first: CInt) -> [CInt] {
        guard let folder = opendir("/proc/self/fd") else { return [] }
        defer { closedir(folder) }
        var found: [CInt] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                // Sound: d_name is a NUL-terminated array inside the entry, which lives until the next readdir.
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let number = CInt(name), number >= first, number != dirfd(folder) { found.append(number) }
        }
        return found.sorted()
    }
}
