import ControlProtocol
import EmulatorProtocol
import Host

/// Who owns which range of one guest: Xen refuses an overlap only inside one server, so the clash between two is found here.
public struct ClaimRegistry {
    public enum Owner: Hashable, Sendable, CustomStringConvertible {
        case emulator(String)
        case qemu
        /// Ports that the coordinator serves itself.
        case coordinator

        public var description: String {
            switch self {
            case .emulator(let name): "emulator '\(name)'"
            case .qemu: "QEMU"
            case .coordinator: "the coordinator"
            }
        }
    }

    public struct Entry: Equatable, Sendable {
        /// The number by which its owner gives it back; never used twice.
        public let number: Int
        public let owner: Owner
        public let range: IORange
        public let label: String
    }

    public private(set) var entries: [Entry] = []
    private(set) var nextNumber = 1

    public init() {}

    /// As a predecessor kept it.
    init(adopting entries: [Entry], nextNumber: Int) {
        self.entries = entries
        self.nextNumber = max(nextNumber, (entries.map(\.number).max() ?? 0) + 1)
    }

    /// Records a claim, or says who already owns what of it. An overlap with QEMU's ranges is allowed inside a declared
    /// interposition only.
    /// - Parameter interposing: the ranges in which this owner is meant to outrank QEMU.
    public mutating func claim(
        _ range: IORange, owner: Owner, label: String, interposing: [IORange] = []
    ) throws(Refusal) -> Int {
        for entry in entries where entry.range.overlaps(range) {
            if entry.owner == .qemu, interposing.contains(where: { $0.covers(range) }) { continue }
            let advice =
                switch entry.owner {
                case .qemu: "choose another range, or declare it under 'interpose' in the specification"
                case .coordinator: "choose another range"
                case .emulator: "choose another range for one of the two"
                }
            throw Refusal(
                .clash, asked: "\(range) (\(label)) for \(owner)",
                message: "\(entry.owner) has \(entry.range) (\(entry.label)); \(advice)",
                clash: Refusal.Clash(owner: "\(entry.owner)", range: "\(entry.range)"))
        }
        return record(range, owner: owner, label: label)
    }

    /// Records what QEMU has; it asks nobody.
    public mutating func noteQEMU(_ range: IORange, label: String) {
        guard !entries.contains(where: { $0.owner == .qemu && $0.range == range }) else { return }
        _ = record(range, owner: .qemu, label: label)
    }

    private mutating func record(_ range: IORange, owner: Owner, label: String) -> Int {
        let number = nextNumber
        nextNumber += 1
        entries.append(Entry(number: number, owner: owner, range: range, label: label))
        return number
    }

    /// Takes a claim back; nil when the owner has none of that number.
    public mutating func release(_ number: Int, owner: Owner) -> Entry? {
        guard let index = entries.firstIndex(where: { $0.number == number && $0.owner == owner }) else { return nil }
        return entries.remove(at: index)
    }

    /// Gives a claim back to whom it was taken from, under its old number.
    mutating func restore(_ entry: Entry) { if !entries.contains(where: { $0.number == entry.number }) { entries.append(entry) } }

    /// Takes back everything that an owner has.
    public mutating func releaseAll(of owner: Owner) { entries.removeAll { $0.owner == owner } }

    public func claims(of owner: Owner) -> [Entry] { entries.filter { $0.owner == owner } }

    /// Emulators' ranges that lie over QEMU's.
    public var interpositions: [Interposition] {
        var found: [Interposition] = []
        for entry in entries {
            let name: String
            switch entry.owner {
            case .emulator(let emulator): name = emulator
            case .coordinator: name = "(coordinator)"
            case .qemu: continue
            }
            for below in entries where below.owner == .qemu && below.range.overlaps(entry.range) {
                found.append(Interposition(emulator: name, range: "\(entry.range)", over: "\(below.range) (\(below.label))"))
            }
        }
        return found
    }

    /// A device of bus 0 that nobody has, from 31 down: QEMU and the toolstack hand theirs out from below.
    public func freeDevice() -> PCIAddress? {
        for device in stride(from: UInt8(31), through: 4, by: -1) {
            guard let address = PCIAddress(device: device) else { continue }
            let taken = entries.contains { entry in
                if case .pci(let other) = entry.range { other.segment == 0 && other.bus == 0 && other.device == device } else { false }
            }
            if !taken { return address }
        }
        return nil
    }
}

extension IORange {
    /// Whether all of `other` lies inside.
    public func covers(_ other: IORange) -> Bool {
        switch (self, other) {
        case (.ports(let outer), .ports(let inner)): outer.contains(inner)
        case (.memory(let outer), .memory(let inner)): outer.contains(inner)
        case (.pci(let outer), .pci(let inner)): outer == inner
        default: false
        }
    }
}
