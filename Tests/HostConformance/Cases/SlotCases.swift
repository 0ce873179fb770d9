import Host

/// The synchronous slots and their states (ioreq_send, wait_for_io).
enum SlotCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("two vCPUs wait in two slots, and each is released by its own answer", vcpus: 2) { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portRead, context.port(0), size: 2), on: 0)
            try context.start(GuestAccess(.portRead, context.port(4), size: 2), on: 1)
            try context.expect("vCPU 0's request", try context.take(0, from: server).address, context.port(0))
            try context.expect("vCPU 1's request", try context.take(1, from: server).address, context.port(4))
            context.answer(1, in: server, 0x1111)
            try context.expect("vCPU 1's value", try context.finish([1], serving: []) { _, _, _ in 0 }, [0x1111])
            try context.expectWaiting(0, "the vCPU that was not answered")
            context.answer(0, in: server, 0x2222)
            try context.expect("vCPU 0's value", try context.finish([0], serving: []) { _, _, _ in 0 }, [0x2222])
        },
        ConformanceCase("two vCPUs are served by two servers at once", vcpus: 2) { context in
            let first = try context.server([try context.ports(0, 4)])
            let second = try context.server([try context.ports(4, 4)])
            for round in 0..<50 as Range<UInt64> {
                try context.start(GuestAccess(.portRead, context.port(round % 2 == 0 ? 0 : 4), size: 4), on: 0)
                try context.start(GuestAccess(.portRead, context.port(round % 2 == 0 ? 4 : 0), size: 4), on: 1)
                let values = try context.finish([0, 1], serving: [first, second]) { server, vcpu, _ in
                    UInt64(server.id.rawValue) << 16 | UInt64(vcpu) << 8 | round
                }
                let order = round % 2 == 0 ? [first, second] : [second, first]
                try context.expect(
                    "round \(round)", values, [0, 1].map { UInt64(order[$0].id.rawValue) << 16 | UInt64($0) << 8 | round })
            }
        },
        ConformanceCase("a request made before anybody bound the channel is still there for who attaches later") { context in
            let server = try context.server([try context.ports(0, 8)], enabled: false)
            try context.host.setServer(server.id, enabled: true)
            try context.start(GuestAccess(.portRead, context.port(0), size: 1))
            try context.waitForRequest(of: 0, in: server)
            try context.expectWaiting(0, "a vCPU whom nobody serves")
            try server.channel.bind()
            try context.expect("the value", try context.finish([0], serving: [server]) { _, _, _ in 0x42 }, [0x42])
        },
        ConformanceCase("every vCPU's slot has an event channel of its own once the server is enabled") { context in
            let server = try context.server([])
            let vcpus = try context.host.vcpuCount()
            let ports = (0..<vcpus).map { server.channel.slots.remotePort($0) }
            try context.expect("none is 0", ports.contains(0), false)
            try context.expect("different ones", Set(ports).count, vcpus)
        },
        ConformanceCase("notifications that bring nothing new release nobody") { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portRead, context.port(0), size: 1))
            server.channel.notify(0)
            _ = try context.take(0, from: server)
            server.channel.notify(0)
            try context.expectWaiting(0, "a vCPU that was notified without an answer")
            server.channel.notify(0)
            context.answer(0, in: server, 0x99)
            try context.expect("the value", try context.finish([0], serving: []) { _, _, _ in 0 }, [0x99])
        },
        ConformanceCase("an answer may be given without INPROCESS in between") { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portWrite, context.port(0), value: 1, size: 1))
            try context.waitForRequest(of: 0, in: server)
            server.channel.slots.force(0, rawState: IORequest.State.responseReady.rawValue)
            server.channel.notify(0)
            _ = try context.finish([0], serving: []) { _, _, _ in 0 }
            try context.expect("the slot", server.channel.slots.state(0), IORequest.State.none)
        },
        ConformanceCase("a slot that goes to NONE without an answer reads as all-ones") { context in
            let server = try context.server([try context.ports(0, 8), try context.mmio(0, 0x1000)])
            for (access, ones) in [
                (GuestAccess(.portRead, context.port(0), size: 2), 0xffff), (GuestAccess(.memoryRead, context.memory(0), size: 4), 0xffff_ffff),
            ] as [(GuestAccess, UInt64)] {
                try context.start(access)
                _ = try context.take(0, from: server)
                server.channel.slots.force(0, rawState: IORequest.State.none.rawValue)
                server.channel.notify(0)
                try context.expect("\(access.operation)", try context.finish([0], serving: []) { _, _, _ in 0 }, [ones])
            }
            let read = try context.access(GuestAccess(.portRead, context.port(0), size: 2), serving: [server]) { _, _, _ in 0x1234 }
            try context.expect("a read afterwards", read, 0x1234)
        },
        ConformanceCase("the slot is NONE after the answer, and takes the next request") { context in
            let server = try context.server([try context.ports(0, 8)])
            for round in 0..<100 as Range<UInt64> {
                let read = try context.access(GuestAccess(.portRead, context.port(0), size: 4), serving: [server]) { _, _, _ in round }
                try context.expect("round \(round)", read, round)
                try context.expect("the slot after round \(round)", server.channel.slots.state(0), IORequest.State.none)
            }
        },
        ConformanceCase("a request in flight is still answered after its range was unmapped") { context in
            let range = try context.ports(0, 8)
            let server = try context.server([range])
            try context.start(GuestAccess(.portRead, context.port(0), size: 1))
            _ = try context.take(0, from: server)
            try context.host.unmap(range, from: server.id)
            context.answer(0, in: server, 0x77)
            try context.expect("the value", try context.finish([0], serving: []) { _, _, _ in 0 }, [0x77])
        },
        ConformanceCase("disabling leaves a request in flight to be answered: disable, drain, destroy is the safe order") { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portRead, context.port(0), size: 1))
            try context.waitForRequest(of: 0, in: server)
            try context.host.setServer(server.id, enabled: false)
            try context.expectWaiting(0, "a vCPU whose server was disabled")
            _ = try context.take(0, from: server)
            context.answer(0, in: server, 0x55)
            try context.expect("the value", try context.finish([0], serving: []) { _, _, _ in 0 }, [0x55])
            try context.retire(server)
            let read = try context.access(GuestAccess(.portRead, context.port(0), size: 1), serving: [])
            try context.expect("a read after it was destroyed", read, 0xff)
        },
        ConformanceCase("a server that was disabled and enabled again goes on with the channel it had") { context in
            let server = try context.server([try context.ports(0, 8)])
            let access = GuestAccess(.portRead, context.port(0), size: 1)
            try context.expect("before", try context.access(access, serving: [server]) { _, _, _ in 1 }, 1)
            try context.host.setServer(server.id, enabled: false)
            try context.expect("while disabled", try context.access(access, serving: [server]) { _, _, _ in 2 }, 0xff)
            try context.host.setServer(server.id, enabled: true)
            try context.expect("after", try context.access(access, serving: [server]) { _, _, _ in 3 }, 3)
        },
        ConformanceCase("a state that there is not crashes the domain", destructive: true) { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portRead, context.port(0), size: 1))
            _ = try context.take(0, from: server)
            server.channel.slots.force(0, rawState: 9)
            server.channel.notify(0)
            var found: GuestOutcome?
            try context.wait(for: "the guest's end") {
                found = context.outcome(of: 0)
                return found != nil
            }
            guard case .crashed = found else { throw ConformanceFailure("the guest", expected: "a crash", found: "\(String(describing: found))") }
        },
    ]
}
