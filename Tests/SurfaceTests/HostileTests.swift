import CLinux
import Glibc
import Platform
import SeededNumbers
import Surface
import Testing

@Suite("A surface between processes that do not trust each other")
struct HostileTests {
    /// Random words where a writer may write: flags, numbers, ring, now and then the cursor.
    private func scribble(_ base: UnsafeMutableRawPointer, _ random: inout SplitMix, cursor: Bool) {
        for offset in [40, 48, 56, 64, 72, 80, 88] where random.next() % 3 == 0 {
            base.storeBytes(of: random.next() >> (random.next() % 64), toByteOffset: offset, as: UInt64.self)
        }
        let head = base.load(fromByteOffset: 56, as: UInt64.self)
        for index in 0..<UInt64(40) {
            let slot = 4096 + Int((head &+ index) % 1024) * 16
            let mask: UInt64 = random.next() % 2 == 0 ? 0x003f_003f_003f_003f : .max
            base.storeBytes(of: random.next() & mask, toByteOffset: slot, as: UInt64.self)
            base.storeBytes(of: random.next() & mask & ~0xffff | random.next() % 4, toByteOffset: slot + 8, as: UInt64.self)
        }
        guard cursor else { return }
        base.storeBytes(of: UInt32(truncatingIfNeeded: random.next() & ~1), toByteOffset: 64, as: UInt32.self)
        for offset in stride(from: 68, to: 96, by: 4) { base.storeBytes(of: UInt32(truncatingIfNeeded: random.next() % 70), toByteOffset: offset, as: UInt32.self) }
    }

    @Test("whatever a writer leaves in header, ring and cursor, a reader sees only what lies in the surface")
    func fuzz() throws {
        var ends = try Ends()
        var random = SplitMix(state: 0x5eed)
        let whole = SurfaceRectangle(x: 0, y: 0, width: 64, height: 48)
        var kinds: [String: Int] = [:]
        var outside = 0
        for round in 0..<20_000 {
            scribble(ends.raw.base, &random, cursor: round % 16 == 0)
            // Taken once where it stands, then a few entries further.
            for step in 0..<2 {
                if step == 1 {
                    let head = ends.raw.base.load(fromByteOffset: 56, as: UInt64.self)
                    ends.raw.base.storeBytes(of: head &+ random.next() % 40, toByteOffset: 56, as: UInt64.self)
                }
                _ = ends.reader.take { change in
                    switch change {
                    case .everything: kinds["everything", default: 0] += 1
                    case .damage(let part):
                        kinds["damage", default: 0] += 1
                        if part.isEmpty || !whole.contains(part) { outside += 1 }
                    case .copy(let x, let y, let part):
                        kinds["copy", default: 0] += 1
                        let source = SurfaceRectangle(x: x, y: y, width: part.width, height: part.height)
                        if part.isEmpty || !whole.contains(part) || !whole.contains(source) { outside += 1 }
                    }
                }
            }
            if let cursor = ends.reader.cursor() {
                kinds["cursor", default: 0] += 1
                if cursor.pixels.count != cursor.width * cursor.height || cursor.hotX >= cursor.width || cursor.hotY >= cursor.height { outside += 1 }
            }
            _ = (ends.reader.frame, ends.reader.isRetired, ends.reader.isBlank)
        }
        #expect(outside == 0)
        for kind in ["everything", "damage", "copy", "cursor"] { #expect(kinds[kind, default: 0] > 50, "\(kind): \(kinds)") }
    }

    @Test("a header that says something else than the message is refused, whatever field it is")
    func headers() throws {
        for offset in [0, 4, 8, 12, 16, 20, 24, 28, 32, 36] {
            let ends = try Ends()
            let old = ends.raw.base.load(fromByteOffset: offset, as: UInt32.self)
            for value in [old &+ 1, old &- 1, ~old, old ^ 0x8000_0000] {
                ends.raw.base.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
                #expect(throws: SystemError.self, "offset \(offset)") { _ = try SurfaceReader(ends.memory.readOnly(), width: 64, height: 48) }
                #expect(throws: SystemError.self) { _ = try SurfaceWriter(ends.memory.descriptor.duplicate(), width: 64, height: 48) }
            }
        }
        let ends = try Ends()
        for (width, height) in [(48, 64), (65, 48), (64, 47), (0, 0), (-1, 4), (Int.max, 2)] {
            #expect(throws: SystemError.self) { _ = try SurfaceReader(ends.memory.readOnly(), width: width, height: height) }
        }
    }

    @Test("memory that could still be cut, a plain file and a doorbell are refused")
    func unsealed() throws {
        let length = try #require(SurfaceLayout.length(width: 8, height: 8))
        let open = OwnedDescriptor(adopting: demux_memfd_create("unsealed"))
        #expect(ftruncate(open.raw, off_t(length)) == 0)
        #expect(throws: SystemError.self) { _ = try SurfaceReader(open.duplicate(), width: 8, height: 8) }
        var template = Array("/tmp/demux-test-XXXXXX".utf8CString)
        let file = OwnedDescriptor(adopting: mkstemp(&template))
        unlink(template)
        #expect(ftruncate(file.raw, off_t(length)) == 0)
        #expect(throws: SystemError.self) { _ = try SurfaceReader(file.duplicate(), width: 8, height: 8) }
        let bell = try EventFD()
        #expect(throws: SystemError.self) { _ = try SurfaceReader(bell.descriptor.duplicate(), width: 8, height: 8) }
    }

    @Test("nobody can cut or lengthen a surface, not even who may write it")
    func truncation() throws {
        let ends = try Ends()
        let readOnly = try ends.memory.readOnly()
        for descriptor in [ends.memory.descriptor.raw, readOnly.raw] {
            for length in [0, 4096, ends.memory.length - 1, ends.memory.length + 1] { #expect(ftruncate(descriptor, off_t(length)) != 0) }
            #expect(posix_fallocate(descriptor, 0, off_t(ends.memory.length + 4096)) != 0)
            // Nor add seals, which could lock the writer out.
            #expect(demux_add_seals(descriptor, 0x0008 /* F_SEAL_WRITE */) != 0)
        }
    }

    @Test("a reader's descriptor can be read, and neither written nor mapped for writing, nor made so later")
    func readOnly() throws {
        let ends = try Ends()
        let descriptor = try ends.memory.readOnly()
        var byte: UInt8 = 1
        #expect(write(descriptor.raw, &byte, 1) < 0)
        #expect(pwrite(descriptor.raw, &byte, 1, 0) < 0)
        #expect(pread(descriptor.raw, &byte, 1, 0) == 1)
        let length = ends.memory.length
        #expect(throws: SystemError.self) { _ = try Mapping(descriptor: descriptor.raw, length: length, writable: true, what: "a surface") }
        let mapped = try Mapping(descriptor: descriptor.raw, length: length, writable: false, what: "a surface")
        #expect(mprotect(mapped.base, 4096, PROT_READ | PROT_WRITE) != 0)
        #expect(throws: SystemError.self) { _ = try SurfaceWriter(descriptor.duplicate(), width: 64, height: 48) }
    }

    @Test(
        "another user cannot open a surface or a page anew for writing, from whichever descriptor",
        .enabled(if: geteuid() == 0, "only root can become another user to try"))
    func reopening() throws {
        let ends = try Ends()
        let page = try SurfaceMemory.createReaderPage()
        let script = """
            use Fcntl;
            $) = "65534 65534"; $( = 65534; $< = 65534; $> = 65534;
            die "still root" if $> == 0 || $< == 0;
            for my $fd (103, 104, 105) {
                die "descriptor $fd is not there" unless -e "/proc/self/fd/$fd";
                for my $mode (O_RDWR, O_WRONLY) { exit 1 if sysopen(my $file, "/proc/self/fd/$fd", $mode); }
                exit 2 if chmod(0777, "/proc/self/fd/$fd");
            }
            exit 7;
            """
        let readOnly = try ends.memory.readOnly()
        let child = try ChildProcess(
            program: "/usr/bin/perl", arguments: ["-e", script],
            inherited: [
                .init(ours: readOnly.raw, theirs: 103), .init(ours: ends.memory.descriptor.raw, theirs: 104), .init(ours: page.descriptor.raw, theirs: 105),
            ])
        let status = child.wait(limit: .seconds(60))
        if status == nil { child.signal(SIGKILL) }
        #expect(status == .status(7))
    }
}
