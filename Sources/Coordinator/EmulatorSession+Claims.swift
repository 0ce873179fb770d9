import EmulatorProtocol
import Host
import Platform

/// What a successor has changed of its predecessor's claims, to be undone if it never serves and the predecessor goes on.
struct ClaimChanges {
    var added: Set<Int> = []
    var removed: [ClaimRegistry.Entry] = []
}

/// Claims: who owns which range, and that a successor's are its predecessor's.
extension EmulatorSession {
    /// The host keeps 256 separate ranges of each of three kinds, but any number that touch.
    static let mostClaims = 768

    func claim(_ claim: Claim) throws(Refusal) -> Int {
        guard let range = claim.range else {
            throw Refusal(
                .invalid, asked: "\(claim.space.rawValue) \(Hex.string(claim.first.value))-\(Hex.string(claim.last.value))",
                message: "the range is empty or does not fit its space")
        }
        return try take(range, label: claim.label)
    }

    func take(_ range: IORange, label: String) throws(Refusal) -> Int {
        guard let server, !context.dying else { throw Refusal(.order, asked: "\(range)", message: "the guest is going away") }
        if let number = try adopt(range) { return number }
        guard context.registry.claims(of: owner).count - inherited.count < Self.mostClaims else {
            throw Refusal(.exhausted, asked: "\(range)", message: "an emulator can have \(Self.mostClaims) claims; claim fewer, longer ranges")
        }
        let safeLabel = PrintableText.escaped(String(label.unicodeScalars.prefix(64)))
        if let known = claimAgain(range) { return known }
        let number = try context.registry.claim(range, owner: owner, label: safeLabel, interposing: interposing)
        // Xen cannot list what it routes: first it is written down.
        context.recorder.commit()
        do throws(Refusal) {
            try asHost("\(range) (\(safeLabel))") { () throws(HostError) in try context.host.map(range, to: server) }
        } catch {
            _ = context.registry.release(number, owner: owner)
            throw error
        }
        if isSuccessor, started != nil { changes.added.insert(number) }
        return number
    }

    func release(_ number: Int) throws(Refusal) {
        guard let entry = context.registry.claims(of: owner).first(where: { $0.number == number }), !inherited.contains(number) else {
            // A predecessor of this coordinator may have carried it out and not lived to say so.
            if isRepeating { return }
            throw Refusal(.invalid, asked: "unclaim \(number)", message: "this emulator has no claim of that number")
        }
        if let server, !context.dying {
            // First the host: it can refuse (it keeps 256 separate ranges), and what it still routes to us must not be given away.
            try asHost("\(entry.range)") { () throws(HostError) in try context.host.unmap(entry.range, from: server) }
        }
        if case .pci(let function) = entry.range { lower(lines.filter { $0.device == function.device && $0.isa == nil }) }
        _ = context.registry.release(number, owner: owner)
        if changes.added.remove(number) == nil, isSuccessor, started != nil { changes.removed.append(entry) }
    }

    func assign(_ request: PCIRequest) throws(Refusal) -> (PCIAddress, Int) {
        if let known = assignAgain(label: request.label) { return known }
        let address: PCIAddress
        if let wish = specification.pciSlot ?? request.slot {
            guard let parsed = PCIAddress(parsing: wish), parsed.segment == 0, parsed.bus == 0 else {
                throw Refusal(.invalid, asked: "PCI slot '\(wish.prefix(40))'", message: "it must be like \"00:05.0\", on bus 0 of segment 0")
            }
            address = parsed
        } else if let kept = inheritedFunction(label: request.label) {
            address = kept
        } else {
            guard let free = context.registry.freeDevice() else {
                throw Refusal(.exhausted, asked: "a PCI slot", message: "devices 4 to 31 of bus 0 are all taken")
            }
            address = free
        }
        return (address, try take(.pci(address), label: request.label))
    }

    // MARK: a predecessor's

    /// Takes over a claim of the predecessor's: the host routes it here already, and goes on doing so.
    /// - Returns: its number; nil when the predecessor had no such range. What it had that lies in the way is given back then.
    private func adopt(_ range: IORange) throws(Refusal) -> Int? {
        guard !inherited.isEmpty else { return nil }
        let left = context.registry.claims(of: owner).filter { inherited.contains($0.number) }
        if let entry = left.first(where: { $0.range == range }) {
            inherited.remove(entry.number)
            return entry.number
        }
        for entry in left where entry.range.overlaps(range) {
            guard objection == nil else {
                throw Refusal(.invalid, asked: "\(range)", message: "the program whose place this one is to take has \(entry.range) there, and serves")
            }
            drop(entry)
        }
        return nil
    }

    /// A PCI function of the predecessor's for one that wishes no place.
    private func inheritedFunction(label: String) -> PCIAddress? {
        var functions: [(PCIAddress, String)] = []
        for entry in context.registry.claims(of: owner) where inherited.contains(entry.number) {
            if case .pci(let address) = entry.range { functions.append((address, entry.label)) }
        }
        return (functions.first { $0.1 == label } ?? functions.first)?.0
    }

    /// What it has claimed otherwise than its predecessor; nil: nothing.
    var claimDifference: String? {
        func list(_ title: String, _ numbers: Set<Int>) -> [String] {
            let found = context.registry.claims(of: owner).filter { numbers.contains($0.number) }.map { "\($0.range) (\($0.label))" }
            guard !found.isEmpty else { return [] }
            return [title + " " + found.prefix(4).joined(separator: ", ") + (found.count > 4 ? " and \(found.count - 4) more" : "")]
        }
        let differences = list("it does not claim", inherited) + list("it claims besides", changes.added)
        return differences.isEmpty ? nil : "its claims are not those of the one that serves: " + differences.joined(separator: "; ")
    }

    /// Gives back what the predecessor had and this one has not claimed.
    func dropInherited() {
        for entry in context.registry.claims(of: owner) where inherited.contains(entry.number) { drop(entry) }
        inherited = []
    }

    private func drop(_ entry: ClaimRegistry.Entry) {
        inherited.remove(entry.number)
        if let server, !context.dying {
            do { try context.host.unmap(entry.range, from: server) } catch { context.logBook.note(.warning, "\(owner): \(error)") }
        }
        _ = context.registry.release(entry.number, owner: owner)
        changes.removed.append(entry)
    }

    /// Makes the claims what they were before this process came.
    func undoClaims() {
        inherited = []
        guard let server, !context.dying else { return }
        do {
            for entry in context.registry.claims(of: owner) where changes.added.contains(entry.number) {
                try context.host.unmap(entry.range, from: server)
                _ = context.registry.release(entry.number, owner: owner)
            }
            for entry in changes.removed {
                try context.host.map(entry.range, to: server)
                context.registry.restore(entry)
            }
        } catch {
            context.logBook.note(.error, "\(owner) has not got all of its claims back: \(error)")
        }
        changes = ClaimChanges()
    }
}
