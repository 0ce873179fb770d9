import EmulatorProtocol

/// What a guest has unplugged and the driver that did it, as it is saved with the guest.
public struct SavedUnplug: Equatable, Sendable {
    public var classes: Set<UnplugClass>
    public var product: UInt16?
    public var build: UInt32?
    public var isBlacklisted: Bool
    public var isROMLocked: Bool

    public init(classes: Set<UnplugClass>, product: UInt16?, build: UInt32?, isBlacklisted: Bool, isROMLocked: Bool) {
        self.classes = classes
        self.product = product
        self.build = build
        self.isBlacklisted = isBlacklisted
        self.isROMLocked = isROMLocked
    }
}
