import CEmulatorHeader
import CSurface
import EmulatorProtocol
import FoundationEssentials
import Glibc
import Platform
import Surface
import Testing

@Suite("Protocols/surface.md and demux_surface.h say the same as the Swift side")
struct SurfaceDocumentTests {
    private static func text() throws -> String {
        let folder = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        return String(decoding: try Data(contentsOf: URL(filePath: "/\(folder)/Protocols/surface.md")), as: UTF8.self)
    }

    /// The rows "| number | `name` |" of a section's table.
    private static func table(_ section: String) throws -> [String: Int] {
        var found: [String: Int] = [:]
        var here = false
        for line in try text().split(separator: "\n") {
            if line.hasPrefix("## ") { here = line.hasPrefix("## \(section) ") }
            let cells = line.split(separator: "|").map { $0.drop { $0 == " " } }.map { $0.prefix { $0 != " " } }
            guard here, cells.count > 1, let offset = Int(cells[0]), cells[1].first == "`" else { continue }
            found[cells[1].filter { $0 != "`" }] = offset
        }
        return found
    }

    @Test("the header's fields are where the document puts them, in both languages")
    func header() throws {
        typealias Swift = demux_surface_header
        typealias C = dmx_surface
        let table = try Self.table("2")
        let fields: [(String, Int?, Int?)] = [
            ("magic", MemoryLayout<Swift>.offset(of: \.magic), MemoryLayout<C>.offset(of: \.magic)),
            ("version", MemoryLayout<Swift>.offset(of: \.version), MemoryLayout<C>.offset(of: \.version)),
            ("pixelsOffset", MemoryLayout<Swift>.offset(of: \.pixels_offset), MemoryLayout<C>.offset(of: \.pixels_offset)),
            ("width", MemoryLayout<Swift>.offset(of: \.width), MemoryLayout<C>.offset(of: \.width)),
            ("height", MemoryLayout<Swift>.offset(of: \.height), MemoryLayout<C>.offset(of: \.height)),
            ("stride", MemoryLayout<Swift>.offset(of: \.stride), MemoryLayout<C>.offset(of: \.stride)),
            ("format", MemoryLayout<Swift>.offset(of: \.format), MemoryLayout<C>.offset(of: \.format)),
            ("length", MemoryLayout<Swift>.offset(of: \.length), MemoryLayout<C>.offset(of: \.length)),
            ("flags", MemoryLayout<Swift>.offset(of: \.flags), MemoryLayout<C>.offset(of: \.flags)),
            ("frame", MemoryLayout<Swift>.offset(of: \.frame), MemoryLayout<C>.offset(of: \.frame)),
            ("damageHead", MemoryLayout<Swift>.offset(of: \.damage_head), MemoryLayout<C>.offset(of: \.damage_head)),
            ("cursorSequence", MemoryLayout<Swift>.offset(of: \.cursor_sequence), MemoryLayout<C>.offset(of: \.cursor_sequence)),
            ("cursorX", MemoryLayout<Swift>.offset(of: \.cursor_x), MemoryLayout<C>.offset(of: \.cursor_x)),
            ("cursorY", MemoryLayout<Swift>.offset(of: \.cursor_y), MemoryLayout<C>.offset(of: \.cursor_y)),
            ("hotX", MemoryLayout<Swift>.offset(of: \.cursor_hot_x), MemoryLayout<C>.offset(of: \.hot_x)),
            ("hotY", MemoryLayout<Swift>.offset(of: \.cursor_hot_y), MemoryLayout<C>.offset(of: \.hot_y)),
            ("cursorWidth", MemoryLayout<Swift>.offset(of: \.cursor_width), MemoryLayout<C>.offset(of: \.cursor_width)),
            ("cursorHeight", MemoryLayout<Swift>.offset(of: \.cursor_height), MemoryLayout<C>.offset(of: \.cursor_height)),
            ("visible", MemoryLayout<Swift>.offset(of: \.cursor_visible), MemoryLayout<C>.offset(of: \.visible)),
        ]
        #expect(table.count == fields.count)
        for (name, swift, c) in fields {
            #expect(swift == table[name], "\(name)")
            #expect(c == table[name], "\(name)")
        }
    }

    @Test("an entry of the ring and a reader's page, too")
    func others() throws {
        let entry = try Self.table("3")
        #expect(MemoryLayout<demux_surface_entry>.size == 16 && MemoryLayout<dmx_surface_entry>.size == 16)
        let entryFields: [(String, Int?, Int?)] = [
            ("x", MemoryLayout<demux_surface_entry>.offset(of: \.x), MemoryLayout<dmx_surface_entry>.offset(of: \.x)),
            ("y", MemoryLayout<demux_surface_entry>.offset(of: \.y), MemoryLayout<dmx_surface_entry>.offset(of: \.y)),
            ("width", MemoryLayout<demux_surface_entry>.offset(of: \.width), MemoryLayout<dmx_surface_entry>.offset(of: \.width)),
            ("height", MemoryLayout<demux_surface_entry>.offset(of: \.height), MemoryLayout<dmx_surface_entry>.offset(of: \.height)),
            ("kind", MemoryLayout<demux_surface_entry>.offset(of: \.kind), MemoryLayout<dmx_surface_entry>.offset(of: \.kind)),
            ("sourceX", MemoryLayout<demux_surface_entry>.offset(of: \.source_x), MemoryLayout<dmx_surface_entry>.offset(of: \.source_x)),
            ("sourceY", MemoryLayout<demux_surface_entry>.offset(of: \.source_y), MemoryLayout<dmx_surface_entry>.offset(of: \.source_y)),
        ]
        #expect(entry.count == entryFields.count)
        for (name, swift, c) in entryFields { #expect(swift == entry[name] && c == entry[name], "\(name)") }
        let page = try Self.table("5")
        let pageFields: [(String, Int?, Int?)] = [
            ("magic", MemoryLayout<demux_reader_page>.offset(of: \.magic), MemoryLayout<dmx_reader_page>.offset(of: \.magic)),
            ("version", MemoryLayout<demux_reader_page>.offset(of: \.version), MemoryLayout<dmx_reader_page>.offset(of: \.version)),
            ("viewers", MemoryLayout<demux_reader_page>.offset(of: \.viewers), MemoryLayout<dmx_reader_page>.offset(of: \.viewers)),
            ("maxRate", MemoryLayout<demux_reader_page>.offset(of: \.max_rate), MemoryLayout<dmx_reader_page>.offset(of: \.max_rate)),
            ("seen", MemoryLayout<demux_reader_page>.offset(of: \.seen), MemoryLayout<dmx_reader_page>.offset(of: \.seen)),
        ]
        #expect(page.count == pageFields.count)
        for (name, swift, c) in pageFields { #expect(swift == page[name] && c == page[name], "\(name)") }
    }

    @Test("constants and lengths are the same")
    func constants() {
        #expect(Int(DMX_SURFACE_DAMAGE_OFFSET) == Int(DEMUX_SURFACE_DAMAGE_OFFSET))
        #expect(Int(DMX_SURFACE_ENTRIES) == SurfaceLayout.damageEntries)
        #expect(Int(DMX_SURFACE_CURSOR_OFFSET) == Int(DEMUX_SURFACE_CURSOR_OFFSET))
        #expect(Int(DMX_SURFACE_CURSOR_SIDE) == SurfaceLayout.cursorSide)
        #expect(Int(DMX_SURFACE_PIXELS_OFFSET) == SurfaceLayout.pixelsOffset)
        #expect(Int(DMX_SURFACE_LARGEST_SIDE) == SurfaceLayout.largestSide)
        #expect(Int(DMX_SURFACE_LARGEST_LENGTH) == SurfaceLayout.largestLength)
        #expect(DMX_SURFACE_RETIRED == DEMUX_SURFACE_RETIRED && DMX_SURFACE_BLANK == DEMUX_SURFACE_BLANK)
        #expect(DMX_SURFACE_DAMAGE == DEMUX_SURFACE_DAMAGE && DMX_SURFACE_COPY == DEMUX_SURFACE_COPY)
        for (width, height) in [(1, 1), (0, 5), (720, 400), (8192, 8190), (8192, 8192), (8193, 1)] as [(UInt32, UInt32)] {
            #expect(dmx_surface_length(width, height) == UInt64(SurfaceLayout.length(width: Int(width), height: Int(height)) ?? 0))
        }
    }

    @Test("a reader in C finds what the Swift writer says, and nothing outside of the surface")
    func reader() throws {
        let memory = try SurfaceMemory.create(width: 64, height: 48)
        var writer = try SurfaceWriter(memory.descriptor.duplicate(), width: 64, height: 48)
        let raw = try memory.map(what: "a surface")
        let surface = raw.base.bindMemory(to: dmx_surface.self, capacity: 1)
        #expect(dmx_surface_check(surface, 64, 48))
        #expect(!dmx_surface_check(surface, 48, 64))
        var reader = dmx_surface_reader(surface: surface, width: 64, height: 48, tail: 0, looked: false)
        var entries = [dmx_surface_entry](repeating: dmx_surface_entry(), count: 1023)
        var frame: UInt64 = 0
        #expect(dmx_surface_look(&reader, &entries, &frame) == -1)
        writer.damage(SurfaceRectangle(x: 1, y: 2, width: 3, height: 4))
        writer.copied(from: 0, y: 8, to: SurfaceRectangle(x: 0, y: 0, width: 64, height: 40))
        writer.publish()
        #expect(dmx_surface_look(&reader, &entries, &frame) == 2)
        #expect(frame == 1)
        #expect([entries[0].x, entries[0].y, entries[0].width, entries[0].height, entries[0].kind] == [1, 2, 3, 4, 1])
        #expect([entries[1].height, entries[1].kind, entries[1].source_x, entries[1].source_y] == [40, 2, 0, 8])
        #expect(dmx_surface_look(&reader, &entries, &frame) == 0)
        var random = SystemlessRandom(state: 9)
        for _ in 0..<5000 {
            let head = surface.pointee.damage_head
            for index in 0..<UInt64(20) {
                let slot = 4096 + Int((head &+ index) % 1024) * 16
                let mask: UInt64 = random.next() % 2 == 0 ? 0x003f_003f_003f_003f : .max
                raw.base.storeBytes(of: random.next() & mask, toByteOffset: slot, as: UInt64.self)
                raw.base.storeBytes(of: random.next() & mask & ~0xffff | random.next() % 5 % 3, toByteOffset: slot + 8, as: UInt64.self)
            }
            surface.pointee.damage_head = random.next() % 50 == 0 ? random.next() : head &+ random.next() % 20
            let count = Int(dmx_surface_look(&reader, &entries, &frame))
            for entry in entries.prefix(max(0, count)) {
                let inside = Int(entry.x) + Int(entry.width) <= 64 && Int(entry.y) + Int(entry.height) <= 48 && entry.width > 0 && entry.height > 0
                let source = entry.kind != 2 || (Int(entry.source_x) + Int(entry.width) <= 64 && Int(entry.source_y) + Int(entry.height) <= 48)
                #expect(inside && source)
            }
        }
    }

    @Test("doorbells and wishes of a reader in C arrive at the Swift display")
    func doorbells() throws {
        let memory = try SurfaceMemory.createReaderPage()
        let frame = try SurfaceDoorbell()
        let want = try SurfaceDoorbell()
        let watch = try SurfaceReaderWatch(memory.readOnly(), frame: frame.ringing.duplicate(), want: want.hearing.duplicate())
        let raw = try memory.map(what: "a page")
        let page = raw.base.bindMemory(to: dmx_reader_page.self, capacity: 1)
        #expect(page.pointee.magic == 0x3144_4145_5258_4d44)
        dmx_reader_want(page, want.ringing.raw, 3, 25)
        dmx_reader_saw(page, 77)
        #expect(watch.viewers == 3)
        #expect(watch.maxRate == 25)
        #expect(watch.seen == 77)
        var waiting = pollfd(fd: watch.wantDescriptor, events: Int16(POLLIN), revents: 0)
        #expect(poll(&waiting, 1, 0) == 1)
        watch.ringFrame()
        #expect(dmx_doorbell_clear(frame.hearing.raw))
        waiting.fd = frame.hearing.raw
        #expect(poll(&waiting, 1, 0) == 0)
    }

    @Test("every example of a message is one that the Swift side reads, and every type is named")
    func messages() throws {
        let text = try Self.text()
        let examples = text.split(separator: "\n").filter { $0.hasPrefix("    {\"type\"") }
        #expect(examples.count == 4)
        for example in examples { #expect(throws: Never.self, "\(example)") { try Packet.decoded(Array(example.utf8)) } }
        let events = text.split(separator: "\n").filter { line in ["key", "absolute", "relative", "button"].contains { line.hasPrefix("    {\"\($0)\"") } }
        #expect(events.count == 4)
        for event in events {
            let packet = "{\"type\":\"input\",\"events\":[\(event)]}"
            #expect(throws: Never.self, "\(event)") { try Packet.decoded(Array(packet.utf8)) }
        }
        for button in InputEvent.Button.allCases { #expect(text.contains("`\(button.rawValue)`"), "\(button)") }
        for command in ["set-password", "expire-password", "disconnect"] { #expect(text.contains("\"\(command)\"")) }
    }
}

/// The same numbers in every run.
private struct SystemlessRandom {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return (state >> 33) ^ state
    }
}
