import EmulatorProtocol
import Host

/// A device: what its author writes. One process serves one value of this type.
///
/// The shortest device has a name, claims its ranges in `init` and answers `read` and `write`. A device that raises
/// interrupts, touches guest memory or answers later implements the forms that take a `Context` instead of the short ones.
/// The value may be noncopyable, so that it can own descriptors and memory. Every method is called on the one thread that serves
/// the guest: a handler that waits makes a vCPU wait.
public protocol Emulator: ~Copyable {
    /// What the emulator is called: 1 to 32 letters, digits, '-' and '_'.
    static var name: String { get }

    /// How long the serving loop may look for the next request before it sleeps, while requests keep coming. Whoever runs the emulator
    /// has the last word: DEMUX_SPIN_MICROSECONDS in its environment (0: never).
    static var spinLimit: Duration { get }

    /// Bytes of the device's own state that outlive the process: `Setup.state`. Nothing unless said otherwise: the device then begins anew after its
    /// process has died. With any, EmulatorKit keeps its own part beside it, the PCI functions' configuration space, and the coordinator
    /// starts a successor by itself.
    static var stateLength: Int { get }

    /// The version of the layout of `Setup.state`: 1 to begin with, and one more whenever a successor of another version could not read it. The
    /// coordinator keeps it with the state, and starts no successor that does not accept it.
    static var stateVersion: Int { get }

    /// The versions of a predecessor's state from which this device goes on: `StateRegion.version` says which one it found. Only its own unless said
    /// otherwise.
    static var stateAccepts: [Int] { get }

    /// What the coordinator may ask of the emulator beyond the minimum: "surface" (it has a scan-out: readers and mode hints are told) and
    /// "input" (it takes keys and pointers).
    static var capabilities: [String] { get }

    /// What the emulator's devices are to the PV unplug protocol (Protocols/unplug.md). One that names any is told `Event.unplug` when the guest's
    /// own drivers take over, and has to answer it.
    static var unplugClasses: [UnplugClass] { get }

    /// Claims ranges and reads options. Nothing is served before it returns. (In a noncopyable type, what can throw has to come
    /// before the first stored property is assigned.)
    /// - Throws: SetupError when a range is taken or an option is not one that the device understands; the process then
    ///   exits with the error as its last words.
    init(_ setup: inout Setup) throws(SetupError)

    /// Answers a read of 1, 2, 4 or 8 bytes; bits beyond the access's size are cut off.
    mutating func read(_ access: Access) -> UInt64

    /// Carries a write out; `value` has no bits beyond the access's size.
    mutating func write(_ access: Access, _ value: UInt64)

    /// Answers a read, or says `.later` and answers with `Context.complete`.
    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer

    /// Carries a write out, or says `.later`: the guest waits until `Context.complete`.
    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer

    /// A timer, a watched descriptor, or a change in the guest's life.
    mutating func event(_ event: Event, _ context: borrowing Context)

    /// A BAR has moved. The guest's configuration write waits until this returns.
    /// - Parameter address: the BAR's port or guest-physical address; nil when it is no longer decoded.
    mutating func moved(_ window: Window, to address: UInt64?, _ context: borrowing Context)

    /// The guest has set its clock (IOREQ_TYPE_TIMEOFFSET), by that many seconds from the host's.
    mutating func timeOffset(_ seconds: Int64)
}

extension Emulator where Self: ~Copyable {
    public static var spinLimit: Duration { .microseconds(100) }
    public static var stateLength: Int { 0 }
    public static var stateVersion: Int { 1 }
    public static var stateAccepts: [Int] { [stateVersion] }
    public static var capabilities: [String] { [] }
    public static var unplugClasses: [UnplugClass] { [] }

    @inlinable public mutating func read(_ access: Access) -> UInt64 { .max }
    @inlinable public mutating func write(_ access: Access, _ value: UInt64) {}

    @inlinable public mutating func read(_ access: Access, _ context: borrowing Context) -> Answer { .value(read(access)) }

    @inlinable public mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        write(access, value)
        return .done
    }

    public mutating func event(_ event: Event, _ context: borrowing Context) {}
    public mutating func moved(_ window: Window, to address: UInt64?, _ context: borrowing Context) {}
    public mutating func timeOffset(_ seconds: Int64) {}
}

/// A claim, or a BAR, as the device knows it: the same for the device's whole life, wherever the guest puts it.
public struct Window: Hashable, Sendable {
    @usableFromInline let index: UInt16
    @usableFromInline init(index: UInt16) { self.index = index }
}

/// One access by the guest, wholly inside one window.
public struct Access: Hashable, Sendable {
    public let window: Window
    /// Bytes from the window's start.
    public let offset: Int
    /// 1, 2, 4 or 8 bytes.
    public let size: Int
    /// Whether it is a posted write out of the ring: nobody waits for it, so that it cannot be answered later.
    public let isPosted: Bool

    public init(window: Window, offset: Int, size: Int, isPosted: Bool = false) {
        self.window = window
        self.offset = offset
        self.size = size
        self.isPosted = isPosted
    }

    /// All-ones of the access's size: what a register gives that is not there.
    public var allOnes: UInt64 { AccessSize.allOnes(UInt32(truncatingIfNeeded: size)) }
}

/// What a handler says.
public enum Answer: Equatable, Sendable {
    /// The value of a read; of a write, that it has been carried out.
    case value(UInt64)
    /// The access has been carried out, and this is its value; only the guest is to wait for it until `Context.complete`, whose value then means nothing. A
    /// successor does not carry it out again, as it does with `.later`, and answers at once. A posted write cannot wait: it is done.
    case held(UInt64)
    /// The answer comes by `Context.complete` with the token taken in this call. A posted write cannot wait: it is done. A successor is given the
    /// access again, on a state in which this call, and what was done for it since, may have been committed.
    case later

    /// A write was carried out.
    @inlinable public static var done: Answer { .value(0) }
}

/// The right to answer one access, once. Taken from `Context.token` inside the handler that says `.later`.
public struct Token: Hashable, Sendable {
    let slot: Int16
    let sequence: UInt32
}

/// A deadline set by `Context.wake`.
public struct Timer: Hashable, Sendable { let number: UInt32 }

/// What happens to an emulator besides accesses.
public enum Event: Equatable, Sendable {
    /// A deadline has passed.
    case timer(Timer)
    /// A watched descriptor can be read, or its other side has closed. It is told again until it is read or forgotten.
    case readable(CInt)
    /// No request is being served, and none will be until `resumed`.
    case paused
    case resumed
    /// The process ends after this returns: the last moment to write out what is held.
    case stopping

    // Regions (`Setup.region`).
    /// A region is where `Context.place` was to put it, or where it was before if that could not be: `DeviceRegion.address` says.
    case regionPlaced(DeviceRegion)
    /// The answer to `Context.requestDirty`: `DeviceRegion.isDirty` and `dirtyWords` say what the guest has written.
    case regionDirty(DeviceRegion)
    /// The guest has written to the region since the last `Context.requestDirty`. Told once after each, where there is a doorbell.
    case regionTouched(DeviceRegion)

    // The scan-out, for emulators with the capability "surface".
    /// The answer to `Context.requestSurface`: its memfd, to be written.
    case surface(width: Int, height: Int, EventDescriptors)
    /// The other answer.
    case surfaceRefused(width: Int, height: Int, reason: String)
    /// Somebody reads the scan-out from now on. The descriptors: the reader's page (read-only), the doorbell to ring after each update, the
    /// doorbell that the reader rings after it has changed its page.
    case readerAdded(Int, EventDescriptors)
    /// A reader is gone: its descriptors are to be let go of.
    case readerGone(Int)
    /// A viewer, or a person, wishes the guest's screen to have this size. 1 to 16384 each.
    case modeHint(width: Int, height: Int)

    /// The guest's own drivers take over: the devices of these classes are to finish what is in flight, to write out what they hold, and to go
    /// (`Context.remove`); then `Context.answer` or `Context.refuse`. The guest waits for it. Comes again when the guest says so again, and
    /// before anything is served in a process that was started afterwards.
    case unplug(Set<UnplugClass>, UnplugRequest)

    /// What a person did at a viewer, oldest first, for emulators with the capability "input". At most 64 at a time.
    case input([InputEvent])
}

/// The right to answer one `Event.unplug`, once.
public struct UnplugRequest: Hashable, Sendable { let id: UInt32 }

/// What devices are to the PV unplug protocol.
public typealias UnplugClass = EmulatorProtocol.UnplugClass

/// One event of a keyboard or a pointer.
public typealias InputEvent = EmulatorProtocol.InputEvent

/// How loud a log line is.
public enum LogLevel: Sendable {
    case debug, info, warning, error
    /// What the guest's own software printed.
    case guest
}
