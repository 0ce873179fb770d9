import Host

/// The cases that every host must pass, on LocalHost in `swift test` and on real Xen in the rig. Where the two differ, LocalHost
/// is wrong.
public enum ConformanceSuite {
    /// All cases, destructive ones last.
    public static let cases: [ConformanceCase] = {
        let parts: [[ConformanceCase]] = [
            ServerCases.all, RangeCases.all, RoutingCases.all, PortCases.all, MemoryCases.all, StringCases.all, PCICases.all, PostedCases.all,
            SlotCases.all, InterruptCases.all, RegionCases.all,
        ]
        let all = parts.flatMap { $0 }
        return all.filter { !$0.destructive } + all.filter(\.destructive)
    }()

    /// Runs one case and takes away what it made.
    public static func run(
        _ item: ConformanceCase, host: any Host, driver: any GuestDriver, environment: ConformanceEnvironment = ConformanceEnvironment()
    ) throws {
        let context = ConformanceContext(host: host, driver: driver, environment: environment)
        defer { context.cleanUp() }
        try item.body(context)
    }

    /// Runs all cases and reports TAP lines, numbered from `first` on.
    /// - Parameter destructive: whether to run the cases that end the guest.
    /// - Returns: how many cases ran, skipped ones included, and how many failed.
    public static func run(
        host: any Host, driver: any GuestDriver, environment: ConformanceEnvironment = ConformanceEnvironment(), first: Int = 1,
        destructive: Bool = false, report: (String) -> Void
    ) -> (count: Int, failed: Int) {
        var number = first
        var failed = 0
        for item in cases {
            defer { number += 1 }
            if item.vcpus > driver.vcpuCount {
                report("ok \(number) - \(item.sentence) # SKIP needs \(item.vcpus) vCPUs")
                continue
            }
            if item.destructive, !destructive {
                report("ok \(number) - \(item.sentence) # SKIP it ends the guest")
                continue
            }
            do {
                try run(item, host: host, driver: driver, environment: environment)
                report("ok \(number) - \(item.sentence)")
            } catch {
                failed += 1
                report("not ok \(number) - \(item.sentence)")
                report("# \(error)")
            }
        }
        return (number - first, failed)
    }
}
