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
        try chooseMode(hello)
        capabilities = Set(hello.capabilities.prefix(32))
        try noteUnplugClasses(hello)
        if mode != .exporter, capabilities.contains("surface") { try context.surfaces.claim(self) }
        do {
            let bag = DescriptorBag()
            bag.add(try counterMemory.descriptor.duplicate())
            var attach = mode == .exporter ? try exporterAttachment(bag) : try serverAttachment(bag)
            if let length = hello.state, length != 0 {
                attach.state = try holdings.grantState(length: length, version: hello.stateVersion ?? 1, accepts: hello.stateAccepts ?? [], to: bag)
            }
            if mode != .exporter, context.observations.isOpen, capabilities.contains("observe") { attach.observe = grantObservation(bag) }
            state = .greeted
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

    /// A server, and for an isolated emulator the pages of it.
    private func serverAttachment(_ bag: DescriptorBag) throws -> Attach {
        if isSuccessor, let server { context.vacate(server, of: owner) }
        let server = try self.server ?? context.takeServer()
        self.server = server
        var ring = true
        var vcpus = context.vcpuCount
        if mode == .isolated {
            // An emulator that cannot follow pointers into guest memory gets single accesses from a relay.
            if let host = context.host as? any IsolatingHost, capabilities.contains("data-pointer") {
                let pages = try host.attachmentDescriptors(of: server)
                while let descriptor = pages.take() { bag.add(descriptor) }
            } else {
                let relay = try Relay(name: name, context: context, channel: try context.host.openChannel(server))
                self.relay = relay
                let pages = try relay.attachmentDescriptors()
                while let descriptor = pages.take() { bag.add(descriptor) }
                ring = false
                vcpus = relay.slotCount
            }
        }
        let restricted = context.restrictedTo
        return Attach(
            mode: mode, domain: context.host.domain, server: server, vcpus: vcpus, ring: ring, name: name,
            options: specification.options, uid: specification.uid ?? restricted?.uid, gid: specification.gid ?? restricted?.gid)
    }
}
