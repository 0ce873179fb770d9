import EmulatorProtocol
import Glibc
import Host
import Platform

/// The answer to `hello`.
extension EmulatorSession {
    func greet(_ hello: Hello, re: UInt32?) throws(Refusal) {
        guard state == .spawned else { throw Refusal(.order, asked: "hello", message: "it was said before") }
        guard hello.versions.contains(1) else {
            throw Refusal(.unsupported, asked: "protocol versions \(hello.versions.prefix(8))", message: "this coordinator speaks version 1")
        }
        guard waitingHello == nil else { throw Refusal(.order, asked: "hello", message: "it was said before, and is answered when its predecessor is quiet") }
        try chooseMode(hello)
        capabilities = Set(hello.capabilities.prefix(32))
        try noteUnplugClasses(hello)
        stateVersion = hello.stateVersion ?? 1
        try holdings.checkState(hello)
        if mode != .exporter, capabilities.contains("surface") { try context.surfaces.claim(self) }
        guard let greeted else { return try attach(hello, re: re) }
        self.greeted = nil
        waitingHello = (hello, re)
        greeted()
    }

    /// Answers the `hello` that waits.
    func attachNow() {
        guard let (hello, re) = waitingHello else { return }
        waitingHello = nil
        do {
            try attach(hello, re: re)
        } catch {
            send(.error(error), re: re)
            failStart("\(error)")
        }
    }

    private func attach(_ hello: Hello, re: UInt32?) throws(Refusal) {
        do {
            let bag = DescriptorBag()
            bag.add(try holdings.counters.duplicate())
            var attach = mode == .exporter ? try exporterAttachment(bag) : try serverAttachment(bag)
            if let length = hello.state, length != 0 { attach.state = try holdings.grantState(length: length, version: stateVersion, to: bag) }
            if let state = holdings.state { context.recorder.keep(state.descriptor, as: KeptName.holdings(name) + KeptPart.state) }
            if isSuccessor { inherited = Set(context.registry.claims(of: owner).map(\.number)) }
            if mode != .exporter, context.observations.isOpen, capabilities.contains("observe") { attach.observe = grantObservation(bag) }
            state = .greeted
            holdings.mode = mode
            send(.attach(attach), re: re, descriptors: bag)
        } catch let refusal as Refusal {
            throw refusal
        } catch let error as HostError {
            throw Refusal(error.reason == .noFreeServer ? .exhausted : .host, asked: "an ioreq server", message: "\(error)")
        } catch {
            throw Refusal(.host, asked: "attach", message: "\(error)")
        }
    }

    /// What its devices are to a guest that unplugs: as it says, unless the specification says otherwise.
    private func noteUnplugClasses(_ hello: Hello) throws(Refusal) {
        declaredUnplugClasses = mode == .exporter ? [] : Set(hello.unplug ?? [])
        unplugClasses = specification.unplugAs.map(Set.init) ?? declaredUnplugClasses
        guard unplugClasses.isEmpty || !declaredUnplugClasses.isEmpty else {
            throw Refusal(
                .unsupported, asked: "unplug-as \(unplugClasses.text)",
                message: "the emulator says that it has nothing to unplug; take 'unplug-as' out of the specification")
        }
    }

    /// Memory for its latencies. Without it the emulator serves all the same, and nobody sees how long that takes.
    private func grantObservation(_ bag: DescriptorBag) -> ObserveGrant? {
        do {
            let memory = try ObservationMemory(name: name)
            bag.add(try memory.duplicate())
            observation = memory
            context.recorder.keep(memory.descriptor, as: prefix + KeptPart.observation)
            return ObserveGrant(length: ObservationPage.length, slow: Self.slowMilliseconds)
        } catch {
            context.logBook.note(.warning, "emulator '\(name)' is not observed: \(error)")
            return nil
        }
    }

    /// From this on a request is worth a line in the log.
    private static let slowMilliseconds = 500

    private func chooseMode(_ hello: Hello) throws(Refusal) {
        let advice: String
        if mode == .exporter {
            advice = "name an exporter as 'program' under 'vnc' in the specification"
        } else {
            let wanted: AttachMode = specification.mode ?? (context.allowsDirect && hello.modes.contains(.direct) ? .direct : .isolated)
            // Without Xen there is nothing to attach to directly: a specification made for Xen runs on LocalHost unchanged.
            mode = context.allowsDirect ? wanted : .isolated
            advice = hello.modes == [.exporter] ? "an exporter belongs under 'vnc' in the specification" : "change 'mode' in the specification"
        }
        guard hello.modes.contains(mode) else {
            throw Refusal(
                .unsupported, asked: "attach \(mode.rawValue)", message: "the emulator offers \(hello.modes.prefix(8).map(\.rawValue)); \(advice)")
        }
    }

    /// Whether it serves the host's own pages; an isolated emulator that cannot follow pointers into guest memory gets single accesses from
    /// a relay.
    var servesHostPages: Bool { mode == .direct || context.host is any IsolatingHost && capabilities.contains("data-pointer") }

    /// A server, and for an isolated emulator the pages of it.
    private func serverAttachment(_ bag: DescriptorBag) throws -> Attach {
        let server: KeptServer
        if let kept = holdings.server {
            server = kept
        } else {
            server = KeptServer(try context.takeServer(), name: name, context: context, faults: holdings.faults)
            holdings.server = server
        }
        var ring = true
        var vcpus = context.vcpuCount
        if servesHostPages {
            server.useHostPages()
            if mode == .isolated, let host = context.host as? any IsolatingHost {
                let pages = try host.attachmentDescriptors(of: server.id)
                while let descriptor = pages.take() { bag.add(descriptor) }
            }
        } else {
            let relay = try server.useRelay()
            let pages = try relay.attachmentDescriptors()
            while let descriptor = pages.take() { bag.add(descriptor) }
            ring = false
            vcpus = relay.slotCount
        }
        let restricted = context.restrictedTo
        return Attach(
            mode: mode, domain: context.host.domain, server: server.id, vcpus: vcpus, ring: ring, name: name,
            options: specification.options, uid: specification.uid ?? restricted?.uid, gid: specification.gid ?? restricted?.gid)
    }
}
