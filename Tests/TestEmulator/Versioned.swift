import EmulatorKit
import Glibc

/// Scratch's registers and sum at ports 0x500, in a layout that depends on the version that the first argument names: a program that can be
/// replaced by another build of itself. The second argument lists the versions that it goes on from; the third is a way to fail.
struct Versioned: Emulator, ~Copyable {
    static let name = "versioned"
    static var stateLength: Int {
        switch word(4) {
        case "stateless": 0
        case "larger": 1 << 16
        default: 256
        }
    }
    static var stateVersion: Int { Int(word(2) ?? "") ?? 1 }
    static var stateAccepts: [Int] { (word(3) ?? "").split(separator: ",").compactMap { Int($0) } }

    private static func word(_ place: Int) -> String? { CommandLine.arguments.count > place ? CommandLine.arguments[place] : nil }

    private let state: StateRegion
    /// The registers begin here, so that a program that read another version's state as its own would be wrong at once.
    private let base: Int

    init(_ setup: inout Setup) throws(SetupError) {
        state = setup.state
        base = Self.stateVersion * 32
        if !state.isFresh, state.version != Self.stateVersion {
            let source = state.version * 32
            let old = (0..<32).map { state[source + $0, UInt8.self] }
            for place in 0..<32 { state[source + place] = UInt8(0) }
            for place in 0..<32 { state[base + place] = old[place] }
        }
        let claimed: Int = Self.word(4) == "fewer" ? 16 : 32
        let first: UInt16 = Self.word(4) == "elsewhere" ? 0x508 : 0x500
        if Self.word(4) != "none" { _ = try setup.claim(ports: first, count: claimed, label: "registers") }
        switch Self.word(4) {
        case "slow":
            // Until it is ended: what it is told on its socket is not read.
            while true { pause() }
        case "dies": kill(getpid(), SIGKILL)
        case "gives-up": exit(1)
        case "besides": _ = try setup.claim(ports: 0x520, count: 4, label: "besides")
        case "more":
            // Another claim than its predecessor's, which is to be taken back when it fails.
            _ = try setup.claim(ports: 0x520, count: 4, label: "more")
            exit(1)
        default: break
        }
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        if Self.word(4) == "poisoned" { kill(getpid(), SIGKILL) }
        if access.offset == 0x10 { return .value(UInt64(Self.stateVersion)) }
        return .value(UInt64(state[base + access.offset, UInt32.self]))
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        if Self.word(4) == "poisoned" { kill(getpid(), SIGKILL) }
        let word = UInt32(truncatingIfNeeded: value)
        if access.offset == 0x14 { state[base + 0x14] = state[base + 0x14, UInt32.self] &+ word } else { state[base + access.offset] = word }
        return .done
    }
}
