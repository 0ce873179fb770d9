import Host
import SeededNumbers
import Testing

@Suite("The page of slots")
struct SlotPageTests {
    private let page = Page()
    private var slots: SlotPage { SlotPage(page: page.base) }

    @Test("a request goes from NONE by READY, INPROCESS and IORESP_READY to NONE, and each side's moves work in its state only")
    func life() {
        let request = IORequest(kind: .portIO, direction: .read, address: 0x500, size: 2)
        #expect(slots.take(3) == nil)
        #expect(slots.collect(3) == nil)
        #expect(!slots.complete(3, data: 1))
        #expect(slots.submit(3, request))
        #expect(slots.state(3) == .ready)
        #expect(!slots.submit(3, request))
        #expect(slots.collect(3) == nil)
        #expect(!slots.complete(3, data: 1))
        #expect(slots.take(3) == request)
        #expect(slots.state(3) == .inProcess)
        #expect(slots.take(3) == nil)
        #expect(slots.copy(3) == request)
        #expect(slots.complete(3, data: 0xbeef))
        #expect(slots.state(3) == .responseReady)
        #expect(!slots.complete(3, data: 2))
        #expect(slots.collect(3) == 0xbeef)
        #expect(slots.state(3) == IORequest.State.none)
        #expect((0..<128).allSatisfy { slots.state($0) == IORequest.State.none })
    }

    @Test("a request that nobody took, or that a dead one had, is answered in one step, and no other")
    func untaken() {
        let request = IORequest(kind: .portIO, direction: .read, address: 0x500, size: 2)
        #expect(!slots.answerUntaken(5, data: 1))
        #expect(slots.submit(5, request) && slots.answerUntaken(5, data: 2))
        #expect(slots.state(5) == .responseReady && !slots.answerUntaken(5, data: 3))
        #expect(slots.collect(5) == 2)
        slots.submitTaken(5, request)
        #expect(slots.state(5) == .inProcess && slots.copy(5) == request && slots.take(5) == nil)
        #expect(slots.answerUntaken(5, data: 4) && slots.collect(5) == 4)
    }

    @Test("every field survives the slot, and lies where Xen's header puts it", arguments: 1...50)
    func fields(seed: Int) throws {
        var random = SplitMix(state: UInt64(seed))
        let vcpu = Int.random(in: 0..<128, using: &random)
        var request = IORequest(
            kind: .copy, direction: Bool.random(using: &random) ? .read : .write, address: random.next(), data: random.next(),
            size: UInt32(truncatingIfNeeded: random.next()), count: UInt32(truncatingIfNeeded: random.next()),
            dataIsPointer: Bool.random(using: &random), backwards: Bool.random(using: &random))
        request.type = UInt8(truncatingIfNeeded: random.next())
        slots.setRemotePort(vcpu, 77)
        #expect(slots.submit(vcpu, request))
        let first = page.base + vcpu * 32
        #expect(first.load(as: UInt64.self) == request.address)
        #expect(first.load(fromByteOffset: 8, as: UInt64.self) == request.data)
        #expect(first.load(fromByteOffset: 16, as: UInt32.self) == request.count)
        #expect(first.load(fromByteOffset: 20, as: UInt32.self) == request.size)
        #expect(first.load(fromByteOffset: 24, as: UInt32.self) == 77)
        let bits = first.load(fromByteOffset: 30, as: UInt8.self)
        #expect(bits & 15 == 1)
        #expect((bits & 0x10 != 0) == request.dataIsPointer)
        #expect((bits & 0x20 != 0) == (request.direction == .read))
        #expect((bits & 0x40 != 0) == request.backwards)
        #expect(first.load(fromByteOffset: 31, as: UInt8.self) == request.type)
        #expect(slots.take(vcpu) == request)
        #expect(slots.remotePort(vcpu) == 77)
    }

    @Test("a state that there is not is nobody's, and an index beyond the page stays within it")
    func hostile() {
        for state in 4..<16 as Range<UInt8> {
            slots.force(5, rawState: state)
            #expect(slots.state(5) == nil)
            #expect(slots.rawState(5) == state)
            #expect(slots.take(5) == nil)
            #expect(slots.collect(5) == nil)
            #expect(!slots.submit(5, IORequest(kind: .portIO, direction: .read, address: 0, size: 1)))
        }
        slots.clear(5)
        #expect(slots.state(5) == IORequest.State.none)
        slots.force(128 + 7, rawState: 2)
        #expect(slots.state(7) == .inProcess)
        #expect(slots.state(-121) == .inProcess)
    }

    @Test("forcing a state leaves the request's other bits")
    func force() {
        let request = IORequest(kind: .copy, direction: .read, address: 1, data: 2, size: 4, count: 3, dataIsPointer: true, backwards: true)
        #expect(slots.submit(0, request))
        slots.force(0, rawState: 3)
        #expect(slots.copy(0) == request)
        #expect(slots.state(0) == .responseReady)
    }
}
