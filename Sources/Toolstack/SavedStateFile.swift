import CLinux
import Glibc
import Platform

/// A saved state in the file or pipe that QEMU's own record follows in.
public enum SavedStateFile {
    /// What has been written before QEMU writes, and has to be written once more when it has.
    public struct Written: Equatable, Sendable {
        let bytes: [UInt8]
        let place: off_t
    }

    /// Writes it at the descriptor's present place, so that QEMU's record, written through a duplicate of the descriptor, comes next.
    ///
    /// QEMU truncates the file first (`O_TRUNC` of xen-save-devices-state; util/osdep.c does it for a descriptor of a set too), but does not
    /// move the place: what was written here becomes a hole, which `writeAgain` fills. Writing it now as well finds out whether there is
    /// room.
    /// - Throws: SystemError, with what was written taken back.
    public static func write(_ state: SavedEmulators, to raw: CInt) throws(SystemError) -> Written {
        let bytes: [UInt8]
        do { bytes = try state.encoded() } catch { throw SystemError("save", subject, reason: error.reason) }
        let start = lseek(raw, 0, SEEK_CUR)
        guard start >= 0 else {
            throw SystemError("save", subject, remedy: "QEMU's state can be saved in a file only, not in a pipe or a socket")
        }
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                // Sound: `sent` is less than the count, so that there is a base address and the rest lies within.
                Glibc.write(raw, buffer.baseAddress?.advanced(by: sent), buffer.count - sent)
            }
            if count < 0 {
                if errno == EINTR { continue }
                let code = errno
                _ = ftruncate(raw, start)
                _ = lseek(raw, start, SEEK_SET)
                throw SystemError("save", subject, code: code, remedy: roomRemedy)
            }
            sent += count
        }
        return Written(bytes: bytes, place: start)
    }

    /// Fills the hole before QEMU's record, once QEMU has written that.
    public static func writeAgain(_ written: Written, to raw: CInt) throws(SystemError) {
        var sent = 0
        while sent < written.bytes.count {
            let count = written.bytes.withUnsafeBytes { buffer in
                // Sound: as above.
                pwrite(raw, buffer.baseAddress?.advanced(by: sent), buffer.count - sent, written.place + off_t(sent))
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("save", subject, remedy: roomRemedy)
            }
            sent += count
        }
    }

    private static let roomRemedy = "see that there is room where libxl keeps its files (/var/lib/xen)"

    /// Takes it off the descriptor that `-incoming` names, so that QEMU finds its own record next; nil when there is none of ours, which is
    /// how a plain QEMU saved the guest. Nothing of QEMU's record is taken, whether it is a file, a pipe or a socket.
    ///
    /// It waits for a pipe's or a socket's first bytes.
    /// - Throws: SystemError when it is neither ours nor QEMU's, or damaged.
    public static func read(from raw: CInt) throws(SystemError) -> SavedEmulators? {
        guard let first = try firstByte(raw), first == SavedEmulators.magic[0] else { return nil }
        let head = try checked(try take(SavedEmulators.headLength, from: raw)) { bytes throws(SavedEmulatorsError) in try SavedEmulators.head(bytes) }
        return try checked(try take(head.bodyLength, from: raw)) { bytes throws(SavedEmulatorsError) in try SavedEmulators(body: bytes, head: head) }
    }

    private static func checked<Value>(_ bytes: [UInt8], _ read: ([UInt8]) throws(SavedEmulatorsError) -> Value) throws(SystemError) -> Value {
        do throws(SavedEmulatorsError) {
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
