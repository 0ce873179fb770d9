/// What gives us a guest: Xen, or LocalHost in its place. One value serves one domain.
///
/// The control plane only: making servers, giving them ranges, interrupts. Every method is one request to the host and
/// returns when it is done. Create, destroy, enable and disable pause the domain for a moment on Xen.
public protocol Host: AnyObject {
    var domain: DomainID { get }

    /// How many vCPUs the domain has at most: each has a slot in every server (XEN_DMOP_nr_vcpus).
    func vcpuCount() throws(HostError) -> Int

    /// Makes a server, disabled and without ranges. Ids are handed out lowest free first.
    /// - Parameter ring: whether it takes posted writes through a buffered ring (ATOMIC mode).
    /// - Throws: `noFreeServer` when there are eight.
    func createServer(ring: Bool) throws(HostError) -> ServerID

    /// Takes a server away. A request in flight stays unanswered: disable and drain first.
    func destroyServer(_ server: ServerID) throws(HostError)

    /// Enables (requests arrive, INVALIDATE included) or disables (accesses pass it by).
    func setServer(_ server: ServerID, enabled: Bool) throws(HostError)

    /// Gives a server a range. Only overlaps inside the same server are refused.
    func map(_ range: IORange, to server: ServerID) throws(HostError)

    /// Takes a range back: exactly one that was given.
    func unmap(_ range: IORange, from server: ServerID) throws(HostError)

    /// The slots and ring of a server, for who serves it or watches over it. On LocalHost the emulator's end of the doorbells.
    func openChannel(_ server: ServerID) throws(HostError) -> any SharedChannel

    /// Drives an INTx line of a device on bus 0: `pin` 0 (INTA) to 3 (INTD).
    func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError)

    /// Drives an ISA interrupt line, 0 to 15.
    func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError)

    /// Sends a message-signalled interrupt: all 64 address bits, 32 data bits.
    func injectMSI(address: UInt64, data: UInt32) throws(HostError)

    /// Ends the guest as a crash of its own would: its vCPUs stop for good, and the toolstack does what it does on a crash.
    func crashGuest(_ reason: String) throws(HostError)

    /// The guest's memory, as far as this process may touch it.
    func guestMemory() throws(HostError) -> any GuestMemory
}
