/// A request that was not carried out: a code for programs, words for people.
public struct Refusal: Codable, Equatable, Sendable {
    public enum Code: String, Codable, Sendable {
        /// The packet is not what the protocol allows.
        case malformed
        /// Nothing of this version, mode or type is offered here.
        case unsupported
        /// The range or slot belongs to somebody else; `clash` says to whom.
        case clash
        /// The range or value is empty, out of bounds, or not one that was given.
        case invalid
        /// The host has no more of it (servers, ranges).
        case exhausted
        /// Not now: before attach, after ready, or for a dying guest.
        case order
        /// The host refused; the message has its words.
        case host
    }
    public struct Clash: Codable, Equatable, Sendable {
        /// Who owns the other range.
        public var owner: String
        /// The other range, in words.
        public var range: String
        public init(owner: String, range: String) {
            self.owner = owner
            self.range = range
        }
    }
    public var code: Code
    /// What was asked, in words.
    public var asked: String
    /// Why not, and what to do.
    public var message: String
    public var clash: Clash?
    public init(_ code: Code, asked: String, message: String, clash: Clash? = nil) {
        self.code = code
        self.asked = asked
        self.message = message
        self.clash = clash
    }
}

extension Refusal: Error, CustomStringConvertible {
    public var description: String { "\(asked): \(message) (\(code.rawValue))" }
}
