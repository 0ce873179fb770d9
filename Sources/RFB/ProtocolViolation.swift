/// What a viewer sent that it may not: the reason for which its connection is closed.
public struct ProtocolViolation: Error, Equatable, CustomStringConvertible, Sendable {
    /// In words, without anything the viewer could have chosen at length.
    public let description: String
    public init(_ description: String) { self.description = description }
}
