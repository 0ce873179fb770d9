import Platform

/// Time that libxl grants a device model from the start of its process until it runs (libxl_internal.h,
/// LIBXL_DEVICE_MODEL_START_TIMEOUT), less a margin in which a failure can still be said in our own words.
///
/// A busy host takes what it takes: whatever is waited for during a start is waited for until this ends, and no shorter.
public struct StartLimit: Sendable {
    /// What libxl grants.
    public static let granted = Duration.seconds(60)
    /// What is kept back to end everything and say why before libxl does.
    public static let margin = Duration.seconds(5)
    /// After this long without an answer, what is waited for is said in the log.
    public static let patience = Duration.seconds(8)

    /// On EventLoop's clock.
    private let end: UInt64

    /// - Parameter began: when the process started, on EventLoop's clock.
    public init(began: UInt64 = EventLoop.now()) {
        end = began &+ (Self.granted - Self.margin).clampedNanoseconds
    }

    /// What is left of it in whole milliseconds; zero when it has passed.
    public func left(at now: UInt64 = EventLoop.now()) -> Duration {
        .milliseconds(Int64(clamping: (end > now ? end &- now : 0) / 1_000_000))
    }
}

extension QMPClient {
    /// Asks a QEMU that is only just starting for its PCI functions: for as long as libxl waits for it.
    /// - Parameters:
    ///   - patience: how long before `slow` is called.
    ///   - slow: called at most once, with how far QEMU has come, when there is no answer yet.
    ///   - reply: called once.
    public func queryPCI(
        within limit: StartLimit, patience: Duration = StartLimit.patience, slow: @escaping (String) -> Void,
        reply: @escaping (Result<[PCIFunctionReport], QMPError>) -> Void
    ) {
        let timer = loop.after(patience) { [weak self] in
            guard let self else { return }
            slow("QEMU has not said within \(patience) which PCI slots it has (\(progress)); it has \(limit.left().components.seconds) s more")
        }
        queryPCI(deadline: limit.left()) { [loop] result in
            loop.cancel(timer)
            reply(result)
        }
    }
}
