import Glibc

/// What the environment says of spinning: a machine with few processors may want none, whatever a device's author thought.
@usableFromInline
enum SpinSetting {
    private static let variable = "DEMUX_SPIN_MICROSECONDS"
    /// Longer than this is a processor given away, in microseconds.
    private static let most: Int64 = 1_000_000

    /// - Parameter wanted: the device's own limit, which holds when the variable is not set or not a number from 0 to 1000000.
    @usableFromInline
    static func limit(_ wanted: Duration) -> Duration {
        guard let text = getenv(variable).map({ String(cString: $0) }), let number = Int64(text), (0...most).contains(number) else { return wanted }
        return .microseconds(number)
    }
}
