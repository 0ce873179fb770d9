import Yams

/// A mapping of known keys, read field by field. What is wrong goes to `issues`; a reader returns nil then, and nil without
/// an issue when the key is absent.
struct Fields {
    let issues: Issues
    /// Where the mapping begins.
    let mark: Mark?
    private var values: [String: Node] = [:]

    /// - Parameters:
    ///   - what: what the mapping describes, for messages: "an emulator".
    ///   - keys: every key that it may have.
    /// - Returns: nil when the node is no mapping.
    init?(_ node: Node, what: String, keys: [String], issues: Issues) {
        self.issues = issues
        mark = node.mark
        guard case .mapping(let mapping) = node else {
            issues.add(at: node.mark, "\(what) is a mapping, not \(Self.kind(of: node))", allowed: "its keys are \(Wording.list(keys))")
            return nil
        }
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                issues.add(at: key.mark, "\(Self.kind(of: key)) cannot be a key of \(what)", allowed: "its keys are \(Wording.list(keys))")
                continue
            }
            guard keys.contains(scalar.string) else {
                let meant = Wording.nearest(to: scalar.string, among: keys).map { "did you mean '\($0)'? Its" } ?? "its"
                issues.add(
                    at: scalar.mark, "\(what) has no key \(Wording.quoted(scalar.string))",
                    allowed: "\(meant) keys are \(Wording.list(keys))")
                continue
            }
            // Two keys that YAML tells apart (`name` and `!x name`) and we do not.
            guard values.updateValue(value, forKey: scalar.string) == nil else {
                issues.add(at: scalar.mark, "the key '\(scalar.string)' is given twice", allowed: "each key may be given once")
                continue
            }
        }
    }

    func has(_ key: String) -> Bool { values[key] != nil }
    func mark(of key: String) -> Mark? { values[key]?.mark ?? mark }
    func node(_ key: String) -> Node? { values[key] }

    /// The text of a field, exactly as written.
    func text(_ key: String, allowed: String) -> String? {
        guard let node = values[key] else { return nil }
        return text(node, what: "'\(key)'", allowed: allowed)
    }

    /// A field turned into a value by `parse`; what it refuses is an issue.
    func value<Value>(_ key: String, allowed: String, _ parse: (String) -> Value?) -> Value? {
        guard let text = text(key, allowed: allowed) else { return nil }
        guard let value = parse(text) else {
            issues.add(at: mark(of: key), "'\(key)' cannot be \(Wording.quoted(text))", allowed: allowed)
            return nil
        }
        return value
    }

    /// A list of texts, each with its place; empty when the key is absent or holds nothing.
    func texts(_ key: String, allowed: String) -> [(text: String, mark: Mark?)] {
        guard let node = values[key], !Self.isNothing(node) else { return [] }
        guard case .sequence(let sequence) = node else {
            issues.add(at: node.mark, "'\(key)' is a list, not \(Self.kind(of: node))", allowed: allowed)
            return []
        }
        return sequence.compactMap { element in
            text(element, what: "an entry of '\(key)'", allowed: allowed).map { ($0, element.mark) }
        }
    }

    /// A scalar's text; anything else, and a scalar without a value, is an issue.
    func text(_ node: Node, what: String, allowed: String) -> String? {
        guard case .scalar(let scalar) = node else {
            issues.add(at: node.mark, "\(what) cannot be \(Self.kind(of: node))", allowed: allowed)
            return nil
        }
        guard !Self.isNothing(node) else {
            issues.add(at: node.mark, "\(what) has no value", allowed: allowed)
            return nil
        }
        return plain(scalar, what: what) ? scalar.string : nil
    }

    /// The text of a mapping's key.
    func keyText(_ node: Node, what: String, allowed: String) -> String? {
        guard case .scalar(let scalar) = node else {
            issues.add(at: node.mark, "\(what) cannot be \(Self.kind(of: node))", allowed: allowed)
            return nil
        }
        // Yams has compared the keys by now, and for that given each a tag.
        guard !scalar.string.isEmpty, holdsNoNUL(scalar, what: what) else {
            if scalar.string.isEmpty { issues.add(at: scalar.mark, "\(what) is empty", allowed: allowed) }
            return nil
        }
        return scalar.string
    }

    /// A scalar's text, which may be empty.
    func textOrNothing(_ node: Node, what: String, allowed: String) -> String? {
        guard case .scalar(let scalar) = node else {
            issues.add(at: node.mark, "\(what) cannot be \(Self.kind(of: node))", allowed: allowed)
            return nil
        }
        return plain(scalar, what: what) ? scalar.string : nil
    }

    /// Neither a tag, which would say how to read the text, nor a NUL, which no argument can hold.
    private func plain(_ scalar: Node.Scalar, what: String) -> Bool {
        let tag = scalar.tag.description
        guard tag.isEmpty || tag == "!" || tag == Tag.Name.str.rawValue else {
            issues.add(at: scalar.mark, "\(what) has the YAML tag \(Wording.quoted(tag))", allowed: "values are written without tags")
            return false
        }
        return holdsNoNUL(scalar, what: what)
    }

    private func holdsNoNUL(_ scalar: Node.Scalar, what: String) -> Bool {
        guard !scalar.string.unicodeScalars.contains("\0") else {
            issues.add(at: scalar.mark, "\(what) holds a NUL character", allowed: "text without one")
            return false
        }
        return true
    }

    /// Whether a key stands there without a value.
    static func isNothing(_ node: Node) -> Bool {
        guard case .scalar(let scalar) = node, scalar.style == .plain else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    static func kind(of node: Node) -> String {
        switch node {
        case .scalar(let scalar): isNothing(node) ? "nothing" : Wording.quoted(scalar.string)
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }
}
