/// A host whose servers outlive the process that made them: a coordinator's successor takes them over by their ids.
public protocol AdoptingHost: Host {
    /// Takes a server over, as if it had been made here.
    /// - Throws: `noSuchServer` when there is none of that id.
    func adoptServer(_ server: ServerID) throws(HostError)

    /// Knows memory of a device's again that a predecessor made, by the number that it had.
    func adoptRegion(_ region: HostRegion)
}

extension Host {
    /// Gives a server a range that it may have already, from a predecessor that was killed before it could note so.
    public func mapAgain(_ range: IORange, to server: ServerID) throws(HostError) {
        do throws(HostError) { try map(range, to: server) } catch { guard error.reason == .rangeOverlap else { throw error } }
    }
}
