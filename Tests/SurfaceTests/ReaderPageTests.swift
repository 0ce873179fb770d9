import CLinux
import Glibc
import Platform
import Surface
import Testing

@Suite("A reader's page and its doorbells")
struct ReaderPageTests {
    /// One page with both of its sides, as the coordinator hands them out.
    private struct Sides: ~Copyable {
        let memory: SharedMemory
        var reader: SurfaceReaderPage?
        let display: SurfaceReaderWatch
        /// What the coordinator keeps: the reader's end of `want`.
        let want: OwnedDescriptor
        let frameDescriptor: CInt

        init() throws {
            let memory = try SurfaceMemory.createReaderPage()
            let frame = try SurfaceDoorbell()
            let bell = try SurfaceDoorbell()
            let want = try bell.ringing.duplicate()
            let reader = try SurfaceReaderPage(memory.descriptor.duplicate(), frame: frame.hearing.duplicate(), want: bell.ringing.duplicate())
            let display = try SurfaceReaderWatch(memory.readOnly(), frame: frame.ringing.duplicate(), want: bell.hearing.duplicate())
            frameDescriptor = reader.frameDescriptor
            self.memory = memory
            self.want = want
            self.reader = consume reader
            self.display = display
        }
    }

    @Test("what a reader wants arrives, and rings only when it is new")
    func wishes() throws {
        let sides = try Sides()
        #expect(sides.display.viewers == 0)
        #expect(sides.display.maxRate == 60)
        sides.reader?.set(viewers: 2, maxRate: 30)
        #expect(isReadable(sides.display.wantDescriptor))
        #expect(sides.display.clearWant() == true)
        #expect(!isReadable(sides.display.wantDescriptor))
        #expect(sides.display.viewers == 2)
        #expect(sides.display.maxRate == 30)
        sides.reader?.set(viewers: 2, maxRate: 30)
        #expect(!isReadable(sides.display.wantDescriptor))
        sides.reader?.saw(99)
        #expect(sides.display.seen == 99)
        #expect(!isReadable(sides.display.wantDescriptor))
    }

    @Test("rates are clamped to 1 to 240, whatever the page says", arguments: [(0, 60), (1, 1), (240, 240), (241, 240), (UInt32.max, 240)])
    func rates(wish: UInt32, taken: Int) throws {
        let sides = try Sides()
        sides.reader?.set(viewers: .max, maxRate: wish)
        #expect(sides.display.maxRate == taken)
        #expect(sides.display.viewers == .max)
    }

    @Test("a frame rings the reader; any number of rings are one")
    func frames() throws {
        let sides = try Sides()
        let descriptor = sides.frameDescriptor
        for _ in 0..<3 { sides.display.ringFrame() }
        #expect(isReadable(descriptor))
        #expect(sides.reader?.clear() == true)
        #expect(!isReadable(descriptor))
        #expect(sides.reader?.clear() == true)
    }

    @Test("a reader that never looks, and makes its own ends block, makes the display wait for nothing")
    func stalled() throws {
        let sides = try Sides()
        let descriptor = sides.frameDescriptor
        // What would stop the ringer of an eventfd, whose flags both sides share.
        #expect(demux_set_nonblocking(descriptor, 0) >= 0)
        #expect(demux_set_nonblocking(sides.want.raw, 0) >= 0)
        for _ in 0..<100_000 { sides.display.ringFrame() }
        #expect(isReadable(descriptor))
        #expect(sides.display.clearWant() == true, "nor does clearing one that is empty")
        var rounds = 0
        while isReadable(descriptor), rounds < 10_000 {
            sides.reader?.clear()
            rounds += 1
        }
        #expect(rounds < 10_000)
    }

    @Test("a reader that ends in order wants nothing any more; for one that died the coordinator says so")
    func ends() throws {
        var sides = try Sides()
        sides.reader?.set(viewers: 1, maxRate: 0)
        sides.display.clearWant()
        #expect(sides.display.viewers == 1)
        try SurfaceMemory.resetReaderPage(sides.memory)
        SurfaceDoorbell.ring(sides.want.raw)
        #expect(isReadable(sides.display.wantDescriptor))
        #expect(sides.display.viewers == 0)
        sides.reader?.set(viewers: 5, maxRate: 0)
        sides.display.clearWant()
        #expect(sides.display.viewers == 5)
        sides.reader = nil
        #expect(sides.display.viewers == 0)
        #expect(isReadable(sides.display.wantDescriptor))
        #expect(sides.display.clearWant() == true)
    }

    @Test("ringing somebody who has gone raises no signal, and a closed doorbell says so")
    func gone() throws {
        var ends: [CInt] = [-1, -1]
        #expect(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
        close(ends[1])
        SurfaceDoorbell.ring(ends[0])
        #expect(!SurfaceDoorbell.clear(ends[0]))
        #expect(isReadable(ends[0]))
        close(ends[0])
    }

    @Test("an eventfd still does as a doorbell, for a coordinator that makes such")
    func eventfd() throws {
        let bell = try EventFD()
        SurfaceDoorbell.ring(bell.descriptor.raw)
        #expect(isReadable(bell.descriptor.raw))
        #expect(SurfaceDoorbell.clear(bell.descriptor.raw))
        #expect(!isReadable(bell.descriptor.raw))
    }

    @Test("a page that is not sealed, not one, or that its reader could not write is refused")
    func refused() throws {
        func accepts(_ page: consuming OwnedDescriptor, writing: Bool) throws {
            let bell = try SurfaceDoorbell()
            let one = try bell.ringing.duplicate()
            let other = try bell.hearing.duplicate()
            if writing {
                _ = try SurfaceReaderPage(page, frame: other, want: one)
            } else {
                _ = try SurfaceReaderWatch(page, frame: one, want: other)
            }
        }
        let memory = try SurfaceMemory.createReaderPage()
        #expect(throws: SystemError.self) { try accepts(memory.readOnly(), writing: true) }
        try accepts(memory.readOnly(), writing: false)
        let mapping = try memory.map(what: "a page")
        mapping.base.storeBytes(of: 2, toByteOffset: 8, as: UInt32.self)
        #expect(throws: SystemError.self) { try accepts(memory.descriptor.duplicate(), writing: false) }
        let short = try SharedMemory(name: "short", length: 2048)
        #expect(throws: SystemError.self) { try accepts(short.descriptor.duplicate(), writing: false) }
    }
}
