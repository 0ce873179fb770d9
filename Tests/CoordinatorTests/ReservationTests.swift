import ControlProtocol
import Host
import LocalHost
import Logging
import Platform
import Specification
import Testing

@testable import Coordinator

@Suite("The reservation of servers")
struct ReservationTests {
    private func coordinator(_ count: Int, host: LocalHost) throws -> Coordinator {
        let emulators = (0..<count).map { EmulatorSpecification(name: "e\($0)", program: "/bin/true") }
        return try Coordinator(
            loop: EventLoop(), host: host, specification: GuestSpecification(source: "test", emulators: emulators),
            settings: Coordinator.Settings(guestName: "test", hostKind: "local", directory: ""),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    @Test("However many emulators there are, QEMU gets the lowest id", arguments: 0...6)
    func lowestLeft(count: Int) throws {
        let host = try LocalHost(domain: try #require(DomainID(1)))
        let coordinator = try coordinator(count, host: host)
        try coordinator.reserveServers()
        #expect(try host.createServer(ring: true) == ServerID(0))
    }

    @Test("More emulators than servers are refused, and nothing stays reserved", arguments: [8, 20])
    func tooMany(count: Int) throws {
        let host = try LocalHost(domain: try #require(DomainID(1)))
        let coordinator = try coordinator(count, host: host)
        let error = try #require(throws: HostError.self) { try coordinator.reserveServers() }
        #expect(error.reason == .noFreeServer)
        for id in 0..<8 { #expect(try host.createServer(ring: false) == ServerID(id)) }
    }
}
