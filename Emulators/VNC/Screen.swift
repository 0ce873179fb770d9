import Glibc
import Platform
import RFB
import Surface

/// The surface and the copy of it that viewers are sent: follows the display while anybody looks, and does nothing otherwise.
final class Screen {
    private let gate: FrameGate
    private let loop: EventLoop
    private var reader: ReaderBox?
    private var page: PageBox?
    /// The copy; nil while nobody looks.
    private(set) var frame: FrameMemory?
    private var viewers = 0
    private var expected: UInt64 = 0
    /// Whether the copy is one of the present surface.
    private var isFollowed = false
    private var isBlank = false
    private var cursorSequence: UInt32?
    private(set) var cursor: SurfaceCursor?
    /// Kept, so that an update costs no allocation.
    private var areas: [TileRectangle] = []
    private var changed: [TileRectangle] = []
    private var changes: [PictureChange] = []

    /// The pixels changed; called within the gate.
    var onChange: ([PictureChange]) -> Void = { _ in }
    /// The gate has been passed since.
    var afterChange: () -> Void = {}
    /// There is another picture.
    var onPicture: (FrameMemory) -> Void = { _ in }
    var onCursor: (SurfaceCursor?) -> Void = { _ in }
    /// The display has published something while somebody looks.
    var onFrame: () -> Void = {}

    private final class ReaderBox {
        var reader: SurfaceReader
        init(_ reader: consuming SurfaceReader) { self.reader = reader }
    }
    private final class PageBox {
        let page: SurfaceReaderPage
        init(_ page: consuming SurfaceReaderPage) { self.page = page }
    }

    init(gate: FrameGate, loop: EventLoop) {
        self.gate = gate
        self.loop = loop
    }

    var width: Int { frame?.width ?? reader?.reader.width ?? 640 }
    var height: Int { frame?.height ?? reader?.reader.height ?? 480 }

    /// The coordinator has another scan-out for us.
    func take(surface descriptor: consuming OwnedDescriptor, width: Int, height: Int) throws(SystemError) {
        let next = ReaderBox(try SurfaceReader(descriptor, width: width, height: height))
        reader = next
        cursorSequence = nil
        isFollowed = false
        // Until its first update the old picture stays: nobody wants to see a blank one in between.
        if frame != nil, next.reader.frame > 0 { try follow() }
    }

    /// This reader's page and doorbells.
    func take(page descriptor: consuming OwnedDescriptor, frame: consuming OwnedDescriptor, want: consuming OwnedDescriptor) throws(SystemError) {
        dropPage()
        let next = PageBox(try SurfaceReaderPage(descriptor, frame: frame, want: want))
        page = next
        try loop.watch(next.page.frameDescriptor, for: .readable) { [weak self] _ in self?.rung() }
        next.page.set(viewers: UInt32(viewers), maxRate: 60)
    }

    func dropPage() {
        if let page { loop.forget(page.page.frameDescriptor) }
        page = nil
    }

    /// Says how many look. With nobody left the copy goes, and the display may stop all its work.
    func set(viewers count: Int) {
        viewers = count
        page?.page.set(viewers: UInt32(count), maxRate: 60)
        if count == 0 {
            frame = nil
            isFollowed = false
        }
    }

    /// Somebody types: a display that rests looks at once, and often for a moment. Sixty times a second is often enough to say so.
    func expectChange() {
        let now = EventLoop.now()
        guard viewers > 0, now &- expected > 1_000_000_000 / 60 else { return }
        expected = now
        page?.page.wantsLook()
    }

    /// Makes the copy when there is none: of the surface as it is, or of the words that there is none.
    func begin() throws(SystemError) -> FrameMemory {
        if let frame { return frame }
        guard reader != nil else {
            let waiting = try FrameMemory.waiting()
            frame = waiting
            return waiting
        }
        try follow()
        if let frame { return frame }
        return try FrameMemory.waiting()
    }

    /// A whole new copy.
    private func follow() throws(SystemError) {
        guard let reader else { return }
        let next = try FrameMemory(width: reader.reader.width, height: reader.reader.height)
        // What changes after this look is said by the next one.
        _ = reader.reader.take { _ in }
        page?.page.saw(reader.reader.taken)
        isBlank = reader.reader.isBlank
        if !isBlank { next.fill(from: reader.reader.pixels) }
        frame = next
        isFollowed = true
        onPicture(next)
        lookAtCursor()
    }

    /// The display has published, or retired the surface.
    private func rung() {
        guard let page else { return }
        guard page.page.clear() else { return dropPage() }
        guard viewers > 0 else { return }
        if frame != nil {
            if isFollowed { update() } else { try? follow() }
        }
        onFrame()
    }

    private func update() {
        guard let reader, let frame, frame.width == reader.reader.width, frame.height == reader.reader.height else { return }
        let whole = TileRectangle(x: 0, y: 0, width: frame.width, height: frame.height)
        let tiles = TileComparison(source: reader.reader.pixels, copy: frame.pixels, stride: frame.stride, width: frame.width, height: frame.height)
        gate.pass {
            areas.removeAll(keepingCapacity: true)
            changed.removeAll(keepingCapacity: true)
            changes.removeAll(keepingCapacity: true)
            let wasBlank = isBlank
            isBlank = reader.reader.isBlank
            _ = reader.reader.take { change in
                guard !isBlank else { return }
                switch change {
                case .everything: areas.append(whole)
                case .damage(let area): areas.append(TileRectangle(area))
                case .copy(let x, let y, let area):
                    // The hint is followed first and checked afterwards: what it does not explain is sent as pixels. All in order, for the
                    // surface shows only what came out in the end.
                    let target = TileRectangle(area)
                    tiles.move(fromX: x, fromY: y, to: target)
                    changes.append(.copied(target, dx: target.x - x, dy: target.y - y))
                    areas.append(target)
                }
            }
            if isBlank != wasBlank {
                changes.removeAll(keepingCapacity: true)
                if isBlank { frame.clear() } else { frame.fill(from: reader.reader.pixels) }
                changes.append(.changed(whole))
            } else if areas.reduce(0, { $0 + $1.width * $1.height }) > whole.width * whole.height {
                tiles.update(whole, changed: &changed)
            } else {
                for area in areas { tiles.update(area, changed: &changed) }
            }
            for area in changed { changes.append(.changed(area)) }
            if !changes.isEmpty { onChange(changes) }
        }
        if !changes.isEmpty { afterChange() }
        page?.page.saw(reader.reader.taken)
        lookAtCursor()
    }

    private func lookAtCursor() {
        guard let reader, cursorSequence != reader.reader.cursorSequence else { return }
        cursorSequence = reader.reader.cursorSequence
        let next = reader.reader.cursor()
        // Viewers draw it where their own pointer is: only its shape is told.
        let isSame = next?.pixels == cursor?.pixels && next?.width == cursor?.width && next?.hotX == cursor?.hotX && next?.hotY == cursor?.hotY
        cursor = next
        if !isSame { onCursor(next) }
    }
}

extension TileRectangle {
    init(_ area: SurfaceRectangle) { self.init(x: area.x, y: area.y, width: area.width, height: area.height) }
}
