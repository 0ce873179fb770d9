import EmulatorProtocol
import Host

/// The guest memory that one emulator had populated: only what it asked for can it give back, and what it leaves is taken back.
struct PopulatedMemory {
    /// Pages one emulator may have: 256 MiB.
    static let limit = 65_536

    private(set) var runs: [(first: GFN, pages: Int)] = []
    init() {}

    /// As a predecessor kept it.
    init(adopting runs: [(first: GFN, pages: Int)]) { self.runs = runs }

    var pages: Int { runs.reduce(0) { $0 + $1.pages } }

    /// Populates a run of frames that hold no memory so far.
    mutating func add(_ request: Populate, host: any Host) throws(Refusal) {
        let asked = "populate \(request.count) pages at gfn \(Hex.string(request.gfn.value))"
        guard request.count > 0, request.count <= Self.limit - pages, request.gfn.value < 1 << 36 else {
            throw Refusal(.invalid, asked: asked, message: "an emulator may have 1 to \(Self.limit) pages in all, below gfn \(Hex.string(UInt64(1) << 36))")
        }
        guard let host = host as? any PopulatingHost else {
            throw Refusal(.unsupported, asked: asked, message: "this host gives its guests no further memory; use a claim")
        }
        do {
            // Xen would put the new page in the old one's place without a word.
            let memory = try host.guestMemory()
            // What is cached of the guest's pages would be stale, and what stays mapped could not be given back.
            memory.invalidate()
            defer { memory.invalidate() }
            for index in 0..<UInt64(request.count) {
                let gfn = GFN(request.gfn.value + index)
                guard memory.load(gfn.address, size: 1) == nil else {
                    throw Refusal(.invalid, asked: asked, message: "the guest has memory at \(gfn) already")
                }
            }
            try host.populate(first: GFN(request.gfn.value), pages: request.count)
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw Refusal(.exhausted, asked: asked, message: "\(error)")
        }
        runs.append((GFN(request.gfn.value), request.count))
    }

    /// Gives one run back, exactly as it was populated.
    mutating func remove(_ request: Populate, host: any Host) throws(Refusal) {
        let asked = "depopulate \(request.count) pages at gfn \(Hex.string(request.gfn.value))"
        guard let index = runs.firstIndex(where: { $0.first.rawValue == request.gfn.value && $0.pages == request.count }) else {
            throw Refusal(.invalid, asked: asked, message: "this emulator populated no such run")
        }
        do {
            try (host as? any PopulatingHost)?.depopulate(first: runs[index].first, pages: runs[index].pages)
        } catch {
            throw Refusal(.host, asked: asked, message: "\(error)")
        }
        runs.remove(at: index)
    }

    /// Gives everything back; the first thing that went wrong, if anything did.
    mutating func removeAll(host: any Host) -> HostError? {
        var trouble: HostError?
        for run in runs {
            do { try (host as? any PopulatingHost)?.depopulate(first: run.first, pages: run.pages) } catch { trouble = trouble ?? error }
        }
        runs = []
        return trouble
    }
}
