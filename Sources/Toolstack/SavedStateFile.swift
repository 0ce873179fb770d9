import CLinux
import Glibc
import Platform

/// A saved state in the file or pipe that QEMU's own record follows in.
public enum SavedStateFile {
    /// Writes it at the descriptor's present place. QEMU's record comes next: what QEMU writes to, or reads from, shares that place.
    /// Nothing is written when there are no records, so that QEMU's file stays what it would have been.
    /// - Throws: SystemError, with what was written taken back where the file can be cut.
    public static func write(_ state: SavedState, to raw: CInt) throws(SystemError) {
        guard !state.records.isEmpty else { return }
        let bytes: [UInt8]
        do { bytes = try state.encoded() } catch { throw SystemError("save", "our emulators' states", reason: error.reason) }
        let start = lseek(raw, 0, SEEK_CUR)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                // Sound: `sent` is less than the count, so that there is a base address and the rest lies within.
                Glibc.write(raw, buffer.baseAddress?.advanced(by: sent), buffer.count - sent)
            }
            if count < 0 {
                if errno == EINTR { continue }
                let code = errno
                if start >= 0 {
                    _ = ftruncate(raw, start)
                    _ = lseek(raw, start, SEEK_SET)
                }
                throw SystemError("save", "our emulators' states", code: code, remedy: "see that there is room where xl save keeps /var/lib/xen/qemu-save")
            }
            sent += count
        }
    }

    /// Takes it off the descriptor that `-incoming` names, so that QEMU finds its own record next; nil when there is none of ours, which is
    /// how a plain QEMU saved the guest. Nothing of QEMU's record is taken, whether it is a file, a pipe or a socket.
    ///
    /// It waits for a pipe's or a socket's first bytes.
    /// - Throws: SystemError when it is neither ours nor QEMU's, or damaged.
    public static func read(from raw: CInt) throws(SystemError) -> SavedState? {
        guard let first = try firstByte(raw), first == SavedState.magic[0] else { return nil }
        let head = try checked(try take(SavedState.headLength, from: raw)) { bytes throws(SavedStateError) in try SavedState.head(bytes) }
        return try checked(try take(head.bodyLength, from: raw)) { bytes throws(SavedStateError) in try SavedState(body: bytes, head: head) }
    }

    private static func checked<Value>(_ bytes: [UInt8], _ read: ([UInt8]) throws(SavedStateError) -> Value) throws(SystemError) -> Value {
        do throws(SavedStateError) {
            return try read(bytes)
        } catch {
            throw SystemError("restore", subject, reason: error.reason, remedy: "the guest was saved by another version of Demux, or its file is damaged")
        }
    }

    private static let subject = "our emulators' states"

    /// Looks at the next byte without taking it; nil at the end. QEMU's record begins with another one than ours.
    private static func firstByte(_ raw: CInt) throws(SystemError) -> UInt8? {
        var byte: UInt8 = 0
        let place = lseek(raw, 0, SEEK_CUR)
        if place >= 0 {
            let count = pread(raw, &byte, 1, place)
            guard count >= 0 else { throw SystemError("look at", subject) }
            return count == 1 ? byte : nil
        }
        guard errno == ESPIPE else { throw SystemError("look at", subject) }
        while true {
            var count = recv(raw, &byte, 1, CInt(MSG_PEEK))
            if count < 0, errno == ENOTSOCK { count = try peek(pipe: raw, &byte) }
            if count >= 0 { return count == 1 ? byte : nil }
            guard errno == EAGAIN || errno == EINTR else { throw SystemError("look at", subject) }
            waitForMore(raw)
        }
    }

    /// tee(2) copies from one pipe to another without taking anything.
    private static func peek(pipe raw: CInt, _ byte: inout UInt8) throws(SystemError) -> Int {
        let ends = try Files.pipe()
        defer {
            _ = close(ends.read)
            _ = close(ends.write)
        }
        let count = demux_tee(raw, ends.write, 1)
        guard count > 0 else { return count }
        return Glibc.read(ends.read, &byte, 1)
    }

    private static func waitForMore(_ raw: CInt) {
        var descriptor = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
        _ = poll(&descriptor, 1, -1)
    }

    /// Reads that many bytes and not one more.
    private static func take(_ length: Int, from raw: CInt) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        // What is claimed is not set aside before it has come.
        var chunk = [UInt8](repeating: 0, count: min(length, 1 << 20))
        while bytes.count < length {
            let count = Glibc.read(raw, &chunk, min(chunk.count, length - bytes.count))
            if count < 0 {
                let code = errno
                if code == EAGAIN { waitForMore(raw) }
                if code == EAGAIN || code == EINTR { continue }
                throw SystemError("read", subject, code: code)
            }
            guard count > 0 else {
                throw SystemError("read", subject, reason: "it ends after \(bytes.count) of \(length) bytes", remedy: "the saved guest's file is cut short")
            }
            bytes += chunk.prefix(count)
        }
        return bytes
    }
}
