/// Why a guest's access does not come to its end.
public enum GuestError: Error, Equatable, CustomStringConvertible {
    /// The domain crashed, now or earlier; why.
    case crashed(String)
    /// The domain was destroyed.
    case destroyed
    /// The access alone failed: the guest gets a general protection fault and lives on.
    case fault(String)

    public var description: String {
        switch self {
        case .crashed(let reason): "the guest crashed: \(reason)"
        case .destroyed: "the guest was destroyed"
        case .fault(let reason): "the guest's access faulted: \(reason)"
        }
    }
}
