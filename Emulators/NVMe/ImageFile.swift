import CLinux
import EmulatorKit
import Glibc
import NVMe
import Platform

/// A raw image, a file or a block device, that nobody else uses while it is open.
struct ImageFile: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor
    let geometry: DiskGeometry
    /// Bytes when it was opened. The last block may lie partly behind them, and has zeros there until it is written.
    private let length: UInt64

    /// Bytes of the last block that the image did not have when it was opened.
    var missingBytes: Int { Int(geometry.blocks &* 512 &- length) }

    /// Opens and locks an image.
    /// - Parameter locked: false for one that is not used any more.
    /// - Parameter patience: how long to wait, a tenth of a second at a time, for somebody who is about to let go of it.
    /// - Throws: SetupError when it cannot be opened, somebody else has it, or it holds no block.
    init(_ path: String, readOnly: Bool, locked: Bool = true, patience: Int = 0) throws(SetupError) {
        var kind = stat()
        // Opening a FIFO for reading would wait for somebody who writes.
        guard stat(path, &kind) != 0 || kind.st_mode & S_IFMT != S_IFIFO else { throw Self.noImage(path) }
        let raw = open(path, (readOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY)
        guard raw >= 0 else { throw SetupError(SystemError("open", "the image \(path)")) }
        let descriptor = OwnedDescriptor(adopting: raw)
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw SetupError(SystemError("look at", "the image \(path)")) }
        let type = status.st_mode & S_IFMT
        guard type == S_IFREG || type == S_IFBLK else { throw Self.noImage(path) }
        var isLocked = !locked || demux_lock_file(raw, readOnly ? 0 : 1) == 0
        var attempts = patience
        while !isLocked, errno == EAGAIN || errno == EACCES, attempts > 0 {
            usleep(100_000)
            attempts -= 1
            isLocked = demux_lock_file(raw, readOnly ? 0 : 1) == 0
        }
        guard isLocked else {
            let isTaken = errno == EAGAIN || errno == EACCES
            throw SetupError(
                "lock", "the image \(path)", reason: isTaken ? "somebody else uses it" : String(cString: strerror(errno)),
                remedy: "one guest at a time can write an image: end the other one, or use 'read-only: yes' in both")
        }
        let end = lseek(raw, 0, SEEK_END)
        guard end >= 0 else { throw SetupError(SystemError("find the length of", "the image \(path)")) }
        guard end >= 512 else {
            throw SetupError(
                "use", "the image \(path)", reason: "it has \(end) bytes, and a block has 512",
                remedy: "make it as long as the disk is to be: truncate -s 4G \(path)")
        }
        // As QEMU has it: a tail shorter than a block is part of the disk.
        length = UInt64(end)
        geometry = DiskGeometry(blocks: (length + 511) / 512, isReadOnly: readOnly)
        self.descriptor = descriptor
    }

    private static func noImage(_ path: String) -> SetupError {
        SetupError("use", "the image \(path)", reason: "it is neither a file nor a block device", remedy: "give the option 'image' the path of a raw image")
    }

    /// Lets others lock it.
    borrowing func unlock() { _ = demux_unlock_file(descriptor.raw) }

    /// Does a job; waits for the storage.
    borrowing func perform(_ job: DiskJob) -> DiskOutcome {
        switch job.kind {
        case .read:
            guard let buffer = job.buffer else { return .failed }
            return all(job) { done, left, offset in
                let count = pread(descriptor.raw, buffer + done, left, offset)
                guard count == 0 else { return count }
                // The file has become shorter than it was, unless this is the end of its last block.
                guard UInt64(offset) >= length, UInt64(offset) < geometry.blocks &* 512 else { return -1 }
                memset(buffer + done, 0, left)
                return left
            }
        case .write(let durable):
            guard let buffer = job.buffer else { return .failed }
            return durably(durable, all(job) { done, left, offset in pwrite(descriptor.raw, buffer + done, left, offset) })
        case .zero(let mayDiscard, let durable):
            if mayDiscard, let offset = Int64(exactly: job.offset), demux_punch_hole(descriptor.raw, offset, Int64(job.length)) == 0 {
                return durably(durable, .done)
            }
            return durably(durable, writeZeros(job))
        case .flush: return durably(true, .done)
        }
    }

    private borrowing func writeZeros(_ job: DiskJob) -> DiskOutcome {
        let length = min(max(job.length, 1), 1 << 16)
        return withUnsafeTemporaryAllocation(byteCount: length, alignment: 4096) { zeros in
            zeros.initializeMemory(as: UInt8.self, repeating: 0)
            return all(job) { _, left, offset in pwrite(descriptor.raw, zeros.baseAddress, min(left, length), offset) }
        }
    }

    /// Calls `step` until it has done all bytes. It is given how many are done and left, and where to go on in the file.
    private borrowing func all(_ job: DiskJob, _ step: (Int, Int, off_t) -> Int) -> DiskOutcome {
        guard let start = off_t(exactly: job.offset), job.length >= 0, start <= off_t.max - off_t(job.length) else { return .failed }
        var done = 0
        while done < job.length {
            let count = step(done, job.length - done, start + off_t(done))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return count < 0 ? Self.outcome(errno) : .failed }
            done += count
        }
        return .done
    }

    private borrowing func durably(_ durable: Bool, _ outcome: DiskOutcome) -> DiskOutcome {
        guard durable, outcome == .done, !geometry.isReadOnly else { return outcome }
        return fdatasync(descriptor.raw) == 0 ? .done : Self.outcome(errno)
    }

    private static func outcome(_ code: CInt) -> DiskOutcome { code == ENOSPC || code == EDQUOT ? .full : .failed }
}
