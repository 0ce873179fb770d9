import Host
import SeededNumbers
import Testing

@Suite("The ring of posted writes")
struct BufferedRingTests {
    private let page = Page()
    private var ring: BufferedRing { BufferedRing(page: page.base) }

    private func entry(_ data: UInt64, size: UInt32 = 4, address: UInt64 = 0xb8000, type: UInt8 = 1) -> BufferedEntry {
        BufferedEntry(type: type, direction: .write, size: size, address: address, data: data)
    }

    private func pointers() -> (read: UInt32, write: UInt32) { (page.base.load(as: UInt32.self), page.base.load(fromByteOffset: 4, as: UInt32.self)) }

    @Test("an entry lies in the page as struct buf_ioreq says")
    func layout() {
        #expect(ring.post(BufferedEntry(type: 1, direction: .write, size: 2, address: 0xa1234, data: 0xbeef)))
        #expect(page.base.load(fromByteOffset: 8, as: UInt64.self) == 0x0000_beef_a123_4401)
        #expect(ring.post(BufferedEntry(type: 7, direction: .read, size: 8, address: 0xfffff, data: 0x1122_3344_5566_7788)))
        #expect(page.base.load(fromByteOffset: 16, as: UInt64.self) == 0x5566_7788_ffff_fe07)
        #expect(page.base.load(fromByteOffset: 24, as: UInt64.self) == 0x1122_3344_ffff_fe07)
        #expect(pointers() == (0, 3))
        #expect(ring.waiting == 3)
    }

    @Test("what is posted comes out in order, whatever the sizes, and nothing is lost", arguments: 1...20)
    func model(seed: Int) {
        var random = SplitMix(state: UInt64(seed))
        var model: [BufferedEntry] = []
        var places = 0
        ring.reset()
        for _ in 0..<5000 {
            if Int.random(in: 0..<100, using: &random) < (seed % 2 == 0 ? 60 : 45) {
                let size = [1, 2, 4, 8][Int.random(in: 0..<4, using: &random)] as UInt32
                let item = BufferedEntry(
                    type: 1, direction: Bool.random(using: &random) ? .read : .write, size: size, address: random.next() & 0xfffff,
                    data: random.next() & AccessSize.allOnes(size))
                let needed = size == 8 ? 2 : 1
                let fits = places + needed <= 511
                #expect(ring.post(item) == fits)
                if fits {
                    model.append(item)
                    places += needed
                }
            } else if model.isEmpty {
                #expect(ring.next() == nil)
            } else {
                let item = model.removeFirst()
                places -= item.size == 8 ? 2 : 1
                #expect(ring.next() == item)
            }
            #expect(ring.waiting == UInt32(places))
            let (read, write) = pointers()
            #expect(write &- read == UInt32(places))
        }
    }

    @Test("the pointers are rewound by 511 after an entry is posted, once the reader has passed the end")
    func rewinding() {
        for value in 0..<2000 as Range<UInt64> {
            #expect(ring.post(entry(value)))
            #expect(ring.next() == entry(value))
            let (read, write) = pointers()
            #expect(read <= 511 && write <= 512, "\(read), \(write)")
        }
    }

    @Test("511 entries fit, and eight bytes need two places")
    func full() {
        for value in 0..<510 as Range<UInt64> { #expect(ring.post(entry(value))) }
        #expect(!ring.post(entry(0, size: 8)))
        #expect(ring.post(entry(510)))
        #expect(!ring.post(entry(511)))
        #expect(ring.next() == entry(0))
        #expect(!ring.post(entry(0, size: 8)))
        #expect(ring.next() == entry(1))
        #expect(ring.post(entry(0x1_0000_0002, size: 8)))
        #expect(!ring.post(entry(3)))
    }

    @Test("pointers that the protocol does not allow give an empty ring, never an entry outside the page", arguments: [
        (5, 4), (0, 512), (0, .max), (.max, 511), (1000, 0), (0x8000_0000, 0),
    ] as [(UInt32, UInt32)])
    func hostile(_ read: UInt32, _ write: UInt32) {
        ring.reset(read: read, write: write)
        #expect(ring.waiting == 0)
        #expect(ring.next() == nil)
    }

    @Test("pointers that wrap at 2^32 are followed without a trap")
    func wrapping() {
        ring.reset(read: .max - 1, write: .max - 1)
        for value in 0..<600 as Range<UInt64> {
            #expect(ring.post(entry(value, size: value % 2 == 0 ? 8 : 1)))
            #expect(ring.next() != nil)
        }
    }

    @Test("the first half of an eight-byte entry alone is not taken")
    func half() {
        #expect(ring.post(entry(0x1_0000_0001, size: 8)))
        ring.reset(read: 0, write: 1)
        #expect(ring.next() == nil)
        ring.reset(read: 0, write: 2)
        #expect(ring.next() == entry(0x1_0000_0001, size: 8))
    }
}
