import EmulatorKit
import Glibc
import Platform

/// A file that lines are appended to, up to a size: a guest must not be able to fill a disk.
struct LogFile: ~Copyable {
    private let descriptor: OwnedDescriptor
    private let limit: UInt64
    private var length: UInt64
    private var isClosed = false

    /// Opens or creates the file, readable by its owner only.
    init(appendingTo path: String, limit: UInt64) throws(SetupError) {
        let raw = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0o600)
        guard raw >= 0 else {
            throw SetupError(SystemError("open", path, remedy: "the folder must exist, and uid \(geteuid()) must be allowed to write there"))
        }
        let owned = OwnedDescriptor(adopting: raw)
        var status = stat()
        guard fstat(raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw SetupError("append to", path, reason: "it is not a plain file", remedy: "name a file in 'file'")
        }
        descriptor = owned
        length = UInt64(clamping: status.st_size)
        self.limit = limit
    }

    /// Appends a line.
    /// - Returns: false once, when the file is full or cannot be written; later lines are dropped without a word.
    mutating func append(_ text: String) -> Bool {
        guard !isClosed else { return true }
        var line = text + "\n"
        let fits = length + UInt64(line.utf8.count) <= limit
        if !fits { line = "(the log is full)\n" }
        let written = line.withUTF8 { write(descriptor.raw, $0.baseAddress, $0.count) }
        length += UInt64(clamping: written)
        isClosed = !fits || written != line.utf8.count
        return !isClosed
    }
}
