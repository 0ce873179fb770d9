/// The PV drivers that have a number in the unplug protocol, by the names under which xenstore has their blacklists.
public enum UnplugProduct {
    private static let names: [(number: UInt16, name: String)] = [
        (1, "xensource-windows"), (2, "gplpv-windows"), (3, "linux"), (4, "xenserver-windows-v7.0+"), (5, "xenserver-windows-v7.2+"),
        (0xffff, "experimental"),
    ]

    /// Every name, for messages.
    public static var allNames: [String] { names.map(\.name) }

    /// nil for a number that nobody has.
    public static func name(of number: UInt16) -> String? { names.first { $0.number == number }?.name }

    /// nil for a name that is not known.
    public static func number(of name: String) -> UInt16? { names.first { $0.name == name }?.number }

    /// Where xenstore says that a build must not be loaded; nil for a product without a name.
    public static func blacklistPath(product: UInt16, build: UInt32) -> String? {
        name(of: product).map { "/mh/driver-blacklist/\($0)/\(build)" }
    }
}
