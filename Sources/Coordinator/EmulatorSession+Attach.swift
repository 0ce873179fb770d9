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
        unplugClasses = mode == .exporter ? [] : Set(hello.unplug ?? [])
        if mode != .exporter, capabilities.contains("surface") { try context.surfaces.claim(self) }
        do {
            let bag = DescriptorBag()
            bag.add(try counterMemory.descriptor.duplicate())
            var attach = mode == .exporter ? try exporterAttachment(bag) : try serverAttachment(bag)
            if let length = hello.state, length != 0 {
                attach.state = try holdings.grantState(length: length, to: bag)
                if let state = holdings.state { context.recorder.keep(state.descriptor, as: KeptName.state(name)) }
            }
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
                relay.keepDescriptors(context.recorder, prefix)
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
