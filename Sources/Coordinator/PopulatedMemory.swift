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
    /// - Returns: its first frame; where the request names none, the host has chosen it.
    mutating func add(_ request: Populate, host: any Host) throws(Refusal) -> GFN {
        let asked = "populate \(request.count) pages at " + (request.gfn.map { "gfn \(Hex.string($0.value))" } ?? "any gfn")
        guard request.count > 0, request.count <= Self.limit - pages, request.gfn.map({ $0.value < 1 << 36 }) ?? true else {
            throw Refusal(.invalid, asked: asked, message: "an emulator may have 1 to \(Self.limit) pages in all, below gfn \(Hex.string(UInt64(1) << 36))")
        }
        guard let host = host as? any PopulatingHost else {
            throw Refusal(.unsupported, asked: asked, message: "this host gives its guests no further memory; use a claim")
        }
        do throws(HostError) {
            // Xen would put the new page in the old one's place without a word.
            let memory = try host.guestMemory()
            // What is cached of the guest's pages would be stale, and what stays mapped could not be given back.
            memory.invalidate()
            defer { memory.invalidate() }
            let first = if let gfn = request.gfn { GFN(gfn.value) } else { try host.freeFrames(pages: request.count) }
            for index in 0..<UInt64(request.count) {
                let gfn = GFN(first.rawValue + index)
                guard memory.load(gfn.address, size: 1) == nil else {
                    throw HostError("populate", "\(gfn)", .invalid, detail: "the guest has memory at \(gfn) already")
                }
            }
            try host.populate(first: first, pages: request.count)
            runs.append((first, request.count))
            return first
        } catch {
            guard error.reason == .invalid else { throw Refusal(.exhausted, asked: asked, message: "\(error)") }
            throw Refusal(.invalid, asked: asked, message: error.detail)
        }
    }

    /// Gives one run back, exactly as it was populated.
    mutating func remove(_ request: Populate, host: any Host) throws(Refusal) {
        let asked = "depopulate \(request.count) pages at " + (request.gfn.map { "gfn \(Hex.string($0.value))" } ?? "no gfn")
        guard let index = runs.firstIndex(where: { $0.first.rawValue == request.gfn?.value && $0.pages == request.count }) else {
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
