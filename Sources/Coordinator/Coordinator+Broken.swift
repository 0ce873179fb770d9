import Host
import Platform

/// A guest whose QEMU has died.
extension Coordinator {
    /// Says so wherever a person or a program looks, and answers in QEMU's place so that no vCPU waits for ever.
    public func guestIsBroken(_ reason: String) {
        guard broken == nil else { return }
        broken = reason
        logBook.note(.critical, "the guest is broken: \(reason); its emulators serve on, 'xl destroy \(context.host.domain.rawValue)' ends it")
    }
}
