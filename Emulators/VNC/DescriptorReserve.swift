import Glibc

/// Keeps descriptors free for what the coordinator sends: a surface whose descriptor finds no room is lost.
enum DescriptorReserve {
    /// More than any message of the coordinator's carries.
    private static let count: CInt = 32
    /// libvncserver puts numbers into sets of this many bits.
    private static let mostForLibrary: CInt = 1024

    /// Whether a descriptor that was just opened for a viewer leaves the reserve alone. The kernel gives the lowest free number, so that one
    /// below the reserve leaves all of it.
    static func allows(_ number: CInt) -> Bool {
        var limit = rlimit()
        let most = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? CInt(clamping: limit.rlim_cur) : mostForLibrary
        return number < min(most, mostForLibrary) - count
    }
}
