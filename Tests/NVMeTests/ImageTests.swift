import EmulatorKit
import Glibc
import NVMe
import Platform
import Testing

@testable import demux_nvme

@Suite("NVMe image files")
struct ImageTests {
    /// A file that is deleted with this value.
    final class Scratch {
        let path: String
        init(_ bytes: Int) throws {
            var name = Array("/tmp/demux-nvme-test.XXXXXX".utf8CString)
            let raw = mkstemp(&name)
            guard raw >= 0, ftruncate(raw, bytes) == 0 else { throw SystemError("create", "a file for a test") }
            close(raw)
            path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        deinit { unlink(path) }
        var bytes: [UInt8] {
            get throws {
                let file = try Files.open(path)
                return try Files.readAll(file.raw, limit: 1 << 24, what: path)
            }
        }
    }

    private func refusal(_ path: String, readOnly: Bool = false) -> String? {
        do throws(SetupError) {
            _ = try ImageFile(path, readOnly: readOnly)
            return nil
        } catch {
            return error.description
        }
    }

    @Test("an image is opened with its blocks; one that is none is refused with the reason")
    func opening() throws {
        let file = try Scratch(100_000)
        #expect(try ImageFile(file.path, readOnly: false).geometry == DiskGeometry(blocks: 196, isReadOnly: false))
        #expect(refusal("/nonexistent/image")?.contains("could not open the image /nonexistent/image: No such file") == true)
        #expect(refusal("/tmp", readOnly: true)?.contains("neither a file nor a block device") == true)
        let short = try Scratch(511)
        #expect(refusal(short.path)?.contains("511 bytes") == true)
    }

    @Test("an image whose length is no multiple of 512 has all its bytes: the last block ends in zeros, and a write of it makes the file as long")
    func tail() throws {
        let file = try Scratch(3 * 512 + 100)
        let image = try ImageFile(file.path, readOnly: false)
        #expect(image.geometry.blocks == 4)
        #expect(image.missingBytes == 412)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 2048, alignment: 4096)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0xee, count: 2048)
        #expect(image.perform(DiskJob(number: 1, kind: .read, offset: 0, length: 2048, buffer: buffer)) == .done)
        #expect((0..<2048).allSatisfy { buffer.load(fromByteOffset: $0, as: UInt8.self) == 0 })
        buffer.initializeMemory(as: UInt8.self, repeating: 0x77, count: 512)
        #expect(image.perform(DiskJob(number: 2, kind: .write(durable: false), offset: 1536, length: 512, buffer: buffer)) == .done)
        #expect(try file.bytes == [UInt8](repeating: 0, count: 1536) + [UInt8](repeating: 0x77, count: 512))
        #expect(image.perform(DiskJob(number: 3, kind: .read, offset: 1536, length: 512, buffer: buffer + 512)) == .done)
        #expect(memcmp(buffer, buffer + 512, 512) == 0)
    }

    @Test("an image that becomes shorter while it is used fails to be read, its tail included")
    func shortened() throws {
        let file = try Scratch(3 * 512 + 100)
        let image = try ImageFile(file.path, readOnly: true)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 4096)
        defer { buffer.deallocate() }
        try #require(truncate(file.path, 1600) == 0)
        #expect(image.perform(DiskJob(number: 1, kind: .read, offset: 1536, length: 512, buffer: buffer)) == .failed)
    }

    @Test("a FIFO is refused as an image, and nobody waits for a writer")
    func fifo() throws {
        let path = "/tmp/demux-nvme-fifo-\(getpid())"
        try #require(mkfifo(path, 0o600) == 0)
        defer { unlink(path) }
        #expect(refusal(path, readOnly: true)?.contains("neither a file nor a block device") == true)
    }

    @Test("an image has one writer, or many readers")
    func locking() throws {
        let file = try Scratch(4096)
        do {
            let writer = try ImageFile(file.path, readOnly: false)
            #expect(refusal(file.path)?.contains("somebody else uses it") == true)
            #expect(refusal(file.path, readOnly: true)?.contains("somebody else uses it") == true)
            #expect(writer.geometry.blocks == 8)
        }
        let reader = try ImageFile(file.path, readOnly: true)
        #expect(refusal(file.path, readOnly: true) == nil)
        #expect(refusal(file.path) != nil)
        #expect(reader.geometry.isReadOnly)
    }

    @Test("the worker writes, zeroes and reads what it is told, and its end leaves nothing undone")
    func worker() throws {
        let file = try Scratch(1 << 20)
        let worker = try DiskWorker(try ImageFile(file.path, readOnly: false))
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 65536, alignment: 4096)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0x5a, count: 65536)
        worker.begin(DiskJob(number: 1, kind: .write(durable: false), offset: 4096, length: 65536, buffer: buffer))
        #expect(wait(worker, 1).map(\.outcome) == [.done])
        worker.begin(DiskJob(number: 2, kind: .zero(mayDiscard: true, durable: true), offset: 8192, length: 4096))
        worker.begin(DiskJob(number: 3, kind: .zero(mayDiscard: false, durable: false), offset: 16384, length: 512))
        worker.begin(DiskJob(number: 4, kind: .flush))
        worker.begin(DiskJob(number: 5, kind: .read, offset: 0, length: 65536, buffer: buffer))
        worker.begin(DiskJob(number: 6, kind: .read, offset: 1 << 20, length: 512, buffer: buffer))
        let ended = wait(worker, 5)
        #expect(ended.map(\.number) == [2, 3, 4, 5, 6])
        #expect(ended.map(\.outcome) == [.done, .done, .done, .done, .failed])
        let bytes = try file.bytes
        #expect(bytes.count == 1 << 20)
        #expect(bytes[4095] == 0 && bytes[4096] == 0x5a && bytes[8191] == 0x5a && bytes[8192] == 0 && bytes[12287] == 0 && bytes[12288] == 0x5a)
        #expect(bytes[16384] == 0 && bytes[16895] == 0 && bytes[16896] == 0x5a && bytes[69632] == 0)
        #expect(buffer.load(fromByteOffset: 4096, as: UInt8.self) == 0x5a && buffer.load(fromByteOffset: 8192, as: UInt8.self) == 0)
        for block in 0..<16 {
            let offset: UInt64 = 1 << 19 | UInt64(block) << 9
            worker.begin(DiskJob(number: block, kind: .write(durable: false), offset: offset, length: 512, buffer: buffer + 4096))
        }
        #expect(worker.end())
        #expect(try file.bytes[(1 << 19)..<(1 << 19 + 16 * 512)].allSatisfy { $0 == 0x5a })
    }

    private func wait(_ worker: DiskWorker, _ count: Int) -> [(number: Int, outcome: DiskOutcome)] {
        var ended: [(number: Int, outcome: DiskOutcome)] = []
        while ended.count < count {
            var entry = pollfd(fd: worker.doorbell, events: Int16(POLLIN), revents: 0)
            _ = poll(&entry, 1, -1)
            ended += worker.takeFinished()
        }
        return ended
    }
}
