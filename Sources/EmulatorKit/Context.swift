import Host
import Platform

/// What a device can do besides answering: interrupts, guest memory, deadlines, log lines. Lent to a handler for the time of its call.
public struct Context: ~Copyable {
    @usableFromInline let core: UnsafeMutablePointer<Core>
    @usableFromInline init(core: UnsafeMutablePointer<Core>) { self.core = core }

    // MARK: answering later

    /// The right to answer the access that the handler has now; taken by a handler that says `.later`.
    public var token: Token { core.pointee.token() }

    /// Answers a deferred access; `value` is ignored for a write.
    /// - Returns: false when it was answered before, or the token is not one of a deferred access.
    @discardableResult
    public func complete(_ token: Token, _ value: UInt64 = 0) -> Bool { core.pointee.complete(token, value) }

    /// Commits the device's state as it is now; see `StateRegion.commit`. Needed only before something that the guest, or anybody else, sees before
    /// the handler returns.
    public func commit() { core.pointee.commitEarly() }

    // MARK: the guest

    /// The guest's memory; nil when this emulator has no access to it.
    public var memory: (any GuestMemory)? { core.pointee.attachment.memory }

    /// Asserts or deasserts the INTx line of a function. Nothing is sent while the guest has disabled the line or uses messages;
    /// the status register says it all the same.
    public func setInterrupt(_ function: PCIFunction, asserted: Bool) {
        guard holds(function) else { return }
        core.pointee.functions[function.index].setAsserted(asserted)
        core.pointee.driveLine(function.index)
    }

    /// Sends a message-signalled interrupt.
    /// - Returns: false when the guest has not enabled messages, or masks this one (it is then pending).
    @discardableResult
    public func sendMessage(_ function: PCIFunction, vector: Int = 0) -> Bool {
        holds(function) && core.pointee.sendMessage(function.index, vector)
    }

    /// Drives an ISA interrupt line, 0 to 15.
    public func setISAInterrupt(_ line: UInt8, asserted: Bool) {
        guard line < 16 else { return }
        core.pointee.attachment.setISAInterrupt(line, asserted: asserted)
    }

    /// What the guest reads from a function's configuration space; `size` 1 to 8 bytes.
    public func configuration(_ function: PCIFunction, _ offset: Int, size: Int) -> UInt64 {
        guard holds(function) else { return .max }
        return core.pointee.functions[function.index].config.read(offset, size: size)
    }

    /// Writes a function's configuration space as the device: read-only bits too. Not for BARs and the command register.
    public func setConfiguration(_ function: PCIFunction, _ offset: Int, size: Int, _ value: UInt64) {
        guard holds(function) else { return }
        core.pointee.functions[function.index].config.set(offset, size: size, value)
    }

    /// Where the function is.
    public func address(of function: PCIFunction) -> PCIAddress? {
        holds(function) ? core.pointee.functions[function.index].address : nil
    }

    private func holds(_ function: PCIFunction) -> Bool {
        function.index < core.pointee.functionCount && !core.pointee.functions[function.index].isRemoved
    }

    // MARK: regions

    /// Shows a region to the guest at a place, over whatever is claimed there, or (nil) nowhere. Ends with `Event.regionPlaced`.
    ///
    /// Whoever does this because of an access of the guest's says `.later` and gives the access's token: it is answered after the device has
    /// been told `.regionPlaced`, so that the guest finds the memory in its new place, and nobody writes to it between the two.
    ///
    /// Over a claim: not while an access to that claim waits for its answer, on whatever vCPU. Xen would find memory when it carries the instruction
    /// out again, and end the guest (hvmemul_do_io); see `isAlone`.
    /// - Parameter address: guest-physical, a page's first byte; where the guest has RAM it is refused.
    public func place(_ region: DeviceRegion, at address: UInt64?, answering token: Token? = nil) {
        core.pointee.place(region, at: address, answering: token)
    }

    /// Has `Event.regionDirty` told, with the pages that the guest has written since the last one; all of them at first, and whenever nothing
    /// certain is known. Costs the guest something (on Xen it is paused for milliseconds, and pays for its first write to each page
    /// afterwards): ask as seldom as can be, and not at all while nobody looks.
    /// A region that is shown below 1 MiB on Xen is always all dirty: compare it with what it held before.
    /// - Parameter pages: those of interest; the host may tell of others as well. Another range than the last time makes all of it dirty once.
    public func requestDirty(_ region: DeviceRegion, pages: Range<Int>? = nil) { core.pointee.requestDirty(region, pages: pages) }

    /// Lets the guest write at full speed until the next `requestDirty`, which then says that all is dirty.
    public func stopTracking(_ region: DeviceRegion) { core.pointee.stopTracking(region) }

    // MARK: the scan-out

    /// Asks for a scan-out of a size, which takes the place of the last one. Answered by `Event.surface` or `Event.surfaceRefused`.
    public func requestSurface(width: Int, height: Int) { core.pointee.requestSurface(width: width, height: height) }

    // MARK: the loop

    /// Whether a request waits. A device with much to do does it in slices: it looks here every some 100 µs, and when it is asked goes on in
    /// `wake(after: .zero)`. Requests are served between any two events.
    public var isAsked: Bool { core.pointee.somethingWaits() }

    /// Whether no vCPU but the one whose access is being handled has anything in its slot, be it an answer that it has not taken yet. Another one may
    /// ask in the next moment.
    public var isAlone: Bool { core.pointee.isAlone }

    /// Has `Event.timer` told once, this long from now. Nil when there are 32 deadlines already.
    public func wake(after delay: Duration) -> Timer? { core.pointee.events.wake(at: EventLoop.now() &+ delay.clampedNanoseconds) }

    /// Calls a deadline off; one that has passed is left alone.
    public func cancel(_ timer: Timer) { core.pointee.events.cancel(timer) }

    /// Has `Event.readable` told whenever the descriptor can be read. False when 16 are watched already.
    public func watch(_ descriptor: CInt) -> Bool { core.pointee.events.watch(descriptor) }

    /// Stops watching; to be done before the descriptor is closed.
    public func forget(_ descriptor: CInt) { core.pointee.events.forget(descriptor) }

    /// Sends a line to the guest's log. Lines that come too fast are held back and counted, so that a guest cannot fill a disk
    /// through a device's complaints.
    public func log(_ level: LogLevel, _ message: String) { core.pointee.control.log(level, message) }
}
