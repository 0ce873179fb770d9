import Glibc
import Host
import Platform

/// Memory of the device that the guest uses as RAM, at full speed and without a request: video memory.
///
/// Made by `Setup.region`. It is shown to the guest by a BAR that is bound to it (`PCIDescription.BAR.region`) or by `Context.place`. The
/// memory outlives the process, as the state does: a successor gets it back under the same label. The guest reads and writes it at any time: copy
/// once what is checked, and believe nothing twice.
public final class DeviceRegion: Equatable, @unchecked Sendable {
    // Sendable: what changes belongs to the thread that serves; the bytes are shared with the guest by nature, and may be read by any thread.
    public let label: String
    /// The first byte. Stays right wherever the guest puts the memory.
    public var bytes: UnsafeMutableRawPointer { memory.base }
    /// Bytes; whole pages of 4096.
    public let length: Int
    /// Whether a predecessor had it: its content is the guest's. Otherwise it is all zero.
    public let isAdopted: Bool
    /// Whether `Event.regionTouched` is told at the guest's first write after a `Context.requestDirty`. Without it, ask again after a while.
    public let hasDoorbell: Bool
    /// Where the guest sees it; nil: nowhere.
    public internal(set) var address: UInt64?
    /// Pages of 4096 bytes.
    public var pageCount: Int { length / 4096 }

    /// The bitmap of the last `Event.regionDirty`: one bit a page, the first in bit 0 of the first word. Sound while the region lives; changed
    /// only by the next `Context.requestDirty`.
    public var dirtyWords: UnsafePointer<UInt64> { UnsafePointer(words) }
    /// Words of `dirtyWords`.
    public var wordCount: Int { (pageCount + 63) / 64 }

    /// Whether the guest wrote to a page before the last `Event.regionDirty`.
    public func isDirty(page: Int) -> Bool {
        page >= 0 && page < pageCount && words[page >> 6] &>> UInt64(page & 63) & 1 != 0
    }

    /// How many pages the last `Event.regionDirty` named.
    public var dirtyCount: Int { (0..<wordCount).reduce(0) { $0 &+ words[$1].nonzeroBitCount } }

    let index: Int
    /// The coordinator's number.
    let number: Int
    private let memory: RegionMemory
    let words: UnsafeMutablePointer<UInt64>
    /// The host's bitmap; nil for a direct emulator.
    private let bitmap: Mapping?
    private let doorbell: EventFD?
    /// Where it is and belongs on Xen, frame numbers.
    var frame: UInt64?
    let home: UInt64?
    /// The pages that Xen tracks.
    var tracked: Range<Int>?
    /// Whether a BAR decides where it is.
    var isBound = false

    static func bitmapLength(pages: Int) -> Int { ((pages + 7) / 8 + 4095) & ~4095 }

    init(
        label: String, index: Int, number: Int, memory: RegionMemory, adopted: Bool, bitmap: consuming Mapping?, doorbell: consuming EventFD?,
        frame: UInt64?, home: UInt64?
    ) {
        self.label = label
        self.index = index
        self.number = number
        self.memory = memory
        length = memory.length
        isAdopted = adopted
        self.bitmap = bitmap
        hasDoorbell = doorbell != nil
        self.doorbell = doorbell
        self.frame = frame
        self.home = home
        address = frame != home ? frame.map { $0 << 12 } : nil
        let count = (memory.length / 4096 + 63) / 64
        words = .allocate(capacity: max(count, 1))
        words.initialize(repeating: 0, count: max(count, 1))
    }

    deinit { words.deallocate() }

    public static func == (left: DeviceRegion, right: DeviceRegion) -> Bool { left === right }

    /// The doorbell's number; -1: none.
    var doorbellDescriptor: CInt {
        switch doorbell {
        case .some(let bell): bell.descriptor.raw
        case .none: -1
        }
    }

    /// Takes what the host has filled in.
    func takeBitmap() {
        switch bitmap {
        case .some(let mapping): memcpy(words, mapping.base, min(wordCount * 8, mapping.length))
        case .none: break
        }
        trim()
    }

    /// Nothing is known: every page counts as written.
    func markAll() {
        for word in 0..<wordCount { words[word] = .max }
        trim()
    }

    private func trim() {
        if pageCount & 63 != 0 { words[wordCount - 1] &= 1 &<< UInt64(pageCount & 63) &- 1 }
    }
}
