// What the controller says of itself: identify data and log pages.
extension Controller {
    /// Kelvin: what the guest is told, and from where on it is to worry.
    static let temperature: UInt32 = 310
    static let warningTemperature: UInt32 = 343

    mutating func identify(_ place: Int, _ command: Command) {
        switch command.words.0 & 0xff {
        case 0x00:
            guard command.namespace == 1 else { return finish(place, .invalidNamespace) }
            give(place, command, namespacePage)
        case 0x01: give(place, command, controllerPage)
        case 0x02:
            // Those with a higher number, in order.
            guard command.namespace < 0xffff_fffe else { return finish(place, .invalidNamespace) }
            var page = Page()
            if command.namespace < 1 { page.set(0, UInt32(1)) }
            give(place, command, page)
        case 0x03:
            guard command.namespace == 1 else { return finish(place, .invalidNamespace) }
            var page = Page()
            page.set(0, bytes: [1, 8, 0, 0] + uniqueNumber)
            give(place, command, page)
        default: finish(place, .invalidField)
        }
    }

    /// An EUI-64 of the serial number, so that the guest finds the same name each time; marked as one that nobody assigned.
    private var uniqueNumber: [UInt8] {
        // FNV-1a.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in identity.serial.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        var bytes = (0..<8).map { UInt8(truncatingIfNeeded: hash >> UInt64($0 * 8)) }
        bytes[0] = bytes[0] & ~1 | 2
        return bytes
    }

    private var controllerPage: Page {
        var page = Page()
        page.set(0, identity.vendor)
        page.set(2, identity.subsystemVendor)
        page.set(4, identity.serial, length: 20)
        page.set(24, identity.model, length: 40)
        page.set(64, identity.firmware, length: 8)
        page.set(77, Self.transferExponent)
        page.set(80, Register.versionValue)
        page.set(258, UInt8(3))  // abort commands at once, less one
        page.set(259, UInt8(Self.eventLimit))
        page.set(260, UInt8(0x03))  // one firmware slot, read-only
        page.set(261, UInt8(0x04))  // log pages have offsets
        page.set(262, UInt8(ErrorLog.length - 1))
        page.set(266, UInt16(Self.warningTemperature))
        page.set(268, UInt16(Self.warningTemperature + 20))
        page.set(512, UInt8(0x66))
        page.set(513, UInt8(0x44))
        page.set(516, UInt32(1))  // namespaces
        page.set(520, UInt16(0x0008))  // Write Zeroes
        page.set(525, UInt8(1))  // a volatile write cache
        page.set(768, "nqn.2026-01.demux:nvme:\(identity.serial)", length: 223, padding: 0)
        page.set(2048, UInt16(2500))  // power state 0: 25 W
        return page
    }

    private var namespacePage: Page {
        var page = Page()
        for place in [0, 8, 16] { page.set(place, geometry.blocks) }
        page.set(33, UInt8(0x09))  // deallocated blocks read as zero, and Write Zeroes may deallocate
        page.set(99, UInt8(geometry.isReadOnly ? 1 : 0))
        page.set(120, bytes: uniqueNumber)
        page.set(130, UInt8(9))  // format 0: 512 bytes
        return page
    }

    // MARK: log pages

    mutating func getLogPage(_ place: Int, _ command: Command) {
        let number = UInt8(truncatingIfNeeded: command.words.0)
        let length = (UInt64(command.words.1 & 0xffff) << 16 | UInt64(command.words.0 >> 16)) &* 4 &+ 4
        let offset = UInt64(command.words.3) << 32 | UInt64(command.words.2)
        guard offset & 3 == 0 else { return finish(place, .invalidField) }
        let page: Page
        switch number {
        case LogPage.errors: page = errors.page
        case LogPage.health:
            guard command.namespace == 0 || command.namespace == .max else { return finish(place, .invalidField) }
            page = healthPage
        case LogPage.firmware:
            var slots = Page()
            slots.set(0, UInt8(1))
            slots.set(8, identity.firmware, length: 8)
            page = slots
        default: return finish(place, .invalidLogPage)
        }
        guard offset < 4096 else { return finish(place, .invalidField) }
        // Beyond a log's end are zeros; no log is longer than a page.
        let given = min(length, 4096 - offset)
        let keeps = command.words.0 & 1 << 15 != 0
        give(place, command, page, offset: Int(offset), length: Int(given))
        if number == LogPage.errors, !keeps {
            state.maskedEvents = 0
            deliverEvents()
        }
    }

    private var healthPage: Page {
        var page = Page()
        page.set(1, UInt16(Self.temperature))
        page.set(3, UInt8(100))  // spare, and from where on there is too little
        page.set(4, UInt8(10))
        // In thousands of blocks, rounded up.
        page.set(32, state.blocksRead / 1000 &+ (state.blocksRead % 1000 == 0 ? 0 : 1))
        page.set(48, state.blocksWritten / 1000 &+ (state.blocksWritten % 1000 == 0 ? 0 : 1))
        page.set(64, state.reads)
        page.set(80, state.writes)
        page.set(176, errors.count)
        return page
    }
}

/// Identifiers of log pages.
enum LogPage {
    static let errors: UInt8 = 0x01
    static let health: UInt8 = 0x02
    static let firmware: UInt8 = 0x03
}

/// The last commands that failed.
struct ErrorLog {
    static let length = 4

    private struct Entry {
        var count: UInt64
        var queue: UInt16
        var command: UInt16
        var status: UInt16
        var block: UInt64
        var namespace: UInt32
    }

    private var entries: [Entry] = []
    private(set) var count: UInt64 = 0

    mutating func note(_ status: Status, _ command: Command, queue: Int) {
        count &+= 1
        if entries.count == Self.length { entries.removeLast() }
        entries.insert(
            Entry(
                count: count, queue: UInt16(truncatingIfNeeded: queue), command: command.identifier, status: status.word,
                block: queue == 0 ? 0 : command.firstBlock, namespace: command.namespace), at: 0)
    }

    /// The newest one first.
    var page: Page {
        var page = Page()
        for (number, entry) in entries.enumerated() {
            let place = number * 64
            page.set(place, entry.count)
            page.set(place + 8, entry.queue)
            page.set(place + 10, entry.command)
            page.set(place + 12, entry.status)
            page.set(place + 14, UInt16.max)  // which part of the command was wrong is not told
            page.set(place + 16, entry.block)
            page.set(place + 24, entry.namespace)
        }
        return page
    }
}
