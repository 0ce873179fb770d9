import Glibc
import Platform

/// The limits that libxl starts a device model with: dm_restrict allows files of 256 KiB and no locked memory
/// (tools/libs/light/libxl_linux.c).
///
/// They are meant for QEMU. In the coordinator they would end it by SIGXFSZ as soon as it made a larger shared-memory file
/// (the limit holds for memfds too), so it lifts them for itself and puts them back around the start of QEMU.
public struct InheritedLimits: Sendable {
    private let found: [(resource: CInt, limit: rlimit)]

    // Numbers of asm-generic/resource.h; Swift sees the one as a value of another type and the other not at all.
    private static let fileSize: CInt = 1
    private static let lockedMemory: CInt = 8
    private static let resources: [CInt] = [fileSize, lockedMemory]

    /// Notes the limits as they are.
    public init() {
        found = Self.resources.compactMap { resource in
            var limit = rlimit()
            return getrlimit(resource, &limit) == 0 ? (resource, limit) : nil
        }
    }

    /// Whether there is anything to lift.
    public var areTight: Bool { found.contains { $0.resource == Self.fileSize && $0.limit.rlim_cur != rlim_t.max } }

    /// Lifts them as far as this process may: root may lift them wholly.
    /// - Throws: SystemError when files stay limited.
    public func lift() throws(SystemError) {
        for (resource, limit) in found where limit.rlim_cur != rlim_t.max {
            var wanted = rlimit(rlim_cur: rlim_t.max, rlim_max: rlim_t.max)
            if setrlimit(resource, &wanted) == 0 { continue }
            let code = errno
            wanted = rlimit(rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max)
            guard setrlimit(resource, &wanted) == 0, resource != Self.fileSize || limit.rlim_max == rlim_t.max else {
                throw SystemError("lift", "the limits that dm_restrict sets", code: code, remedy: "the coordinator has to be started as root")
            }
        }
    }

    /// Starts a child with the limits as they were found: it inherits them, and they are lifted again before this returns.
    public func restored<Result: ~Copyable, Failure: Error>(_ start: () throws(Failure) -> Result) throws(Failure) -> Result {
        var present: [(CInt, rlimit)] = []
        for (resource, limit) in found {
            var now = rlimit()
            var then = limit
                // A hard limit is only ever lowered here when `lift` could raise it, and then it can be raised again.
            if getrlimit(resource, &now) == 0, setrlimit(resource, &then) == 0 { present.append((resource, now)) }
        }
        defer {
            for (resource, limit) in present {
                var limit = limit
                _ = setrlimit(resource, &limit)
            }
        }
        return try start()
    }
}
