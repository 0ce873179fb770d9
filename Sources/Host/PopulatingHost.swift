/// A host whose guest can be given memory beyond what the toolstack gave it: Xen. It takes full privilege, so that the coordinator
/// does it for its emulators (a display's video memory is such).
public protocol PopulatingHost: Host {
    /// Gives the guest new memory at frames that have none, and raises what it may have by as much. When it fails, what had been
    /// given already is taken back.
    func populate(first: GFN, pages: Int) throws(HostError)

    /// Finds frames at which the guest has nothing, where neither it nor its firmware puts anything by itself, and which do not make saving it slower.
    func freeFrames(pages: Int) throws(HostError) -> GFN

    /// Takes memory back, and lowers what the guest may have by as much.
    func depopulate(first: GFN, pages: Int) throws(HostError)
}
