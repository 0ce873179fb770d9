import Host
import HostConformance
import LocalHost
import Testing

@Suite("LocalHost passes the host conformance suite")
struct ConformanceTests {
    private static func environment() throws -> (LocalHost, LocalGuestDriver) {
        let host = try LocalHost(domain: try #require(DomainID(7)), vcpus: 2, memoryBytes: 16 << 20)
        return (host, try LocalGuestDriver(host))
    }

    @Test("on a host of its own", arguments: ConformanceSuite.cases)
    func alone(_ item: ConformanceCase) throws {
        let (host, driver) = try Self.environment()
        try ConformanceSuite.run(item, host: host, driver: driver)
    }

    @Test("on one host, one case after the other, with somebody else's servers beside it")
    func together() throws {
        let (host, driver) = try Self.environment()
        // As QEMU on Xen: the lowest id, enabled, with ranges of its own.
        let other = try host.createServer(ring: true)
        try host.map(.ports(try #require(PortRange(first: 0x1f0, count: 8))), to: other)
        try host.setServer(other, enabled: true)
        var lines: [String] = []
        let (count, failed) = ConformanceSuite.run(host: host, driver: driver, destructive: true) { lines.append($0) }
        #expect(failed == 0, "\(lines.filter { !$0.hasPrefix("ok") }.joined(separator: "\n"))")
        #expect(count == ConformanceSuite.cases.count)
        #expect(lines.count == count)
    }

    @Test("every case has a sentence of its own")
    func sentences() {
        #expect(Set(ConformanceSuite.cases.map(\.sentence)).count == ConformanceSuite.cases.count)
    }
}
