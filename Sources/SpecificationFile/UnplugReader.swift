import Specification
import Unplug
import Yams

/// Reads `unplug`: what happens when the guest's own drivers take over.
struct UnplugReader {
    private static let keys = ["deadline", "on-failure", "blacklist"]

    let issues: Issues

    func read(_ node: Node) -> UnplugSpecification {
        var unplug = UnplugSpecification()
        guard let fields = Fields(node, what: "'unplug'", keys: Self.keys, issues: issues) else { return unplug }
        if let deadline = fields.value(
            "deadline", allowed: "a time from 10ms to 600s, written as 500ms or 10s",
            { Quantities.milliseconds($0).flatMap { (10...600_000).contains($0) ? $0 : nil } })
        {
            unplug.deadlineMilliseconds = deadline
        }
        let policies = UnplugSpecification.FailurePolicy.allCases.map(\.rawValue)
        if let policy = fields.value("on-failure", allowed: "one of \(Wording.list(policies))", { UnplugSpecification.FailurePolicy(rawValue: $0) }) {
            unplug.onFailure = policy
        }
        let allowed = "each is a driver and its build, as in 'linux/1', or '*' for every build; the drivers are \(Wording.list(UnplugProduct.allNames))"
        for (text, mark) in fields.texts("blacklist", allowed: allowed) {
            if let entry = Self.blacklisted(text) {
                unplug.blacklist.append(entry)
            } else {
                issues.add(at: mark, "\(Wording.quoted(text)) is no driver's build", allowed: allowed)
            }
        }
        return unplug
    }

    private static func blacklisted(_ text: String) -> UnplugSpecification.Blacklisted? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let product = UnplugProduct.number(of: String(parts[0])) else { return nil }
        if parts[1] == "*" { return .init(product: product, build: nil) }
        guard let build = Quantities.decimal(parts[1]).flatMap(UInt32.init(exactly:)) else { return nil }
        return .init(product: product, build: build)
    }
}
