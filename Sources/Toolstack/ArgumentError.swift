/// An argument of the device model's command line that Demux cannot go on with.
public struct ArgumentError: Error, Equatable, CustomStringConvertible {
    /// The argument, as it was given (shortened when it is very long).
    public let argument: String
    /// Why it will not do.
    public let reason: String
    /// What to do about it.
    public let remedy: String

    public init(_ argument: String, reason: String, remedy: String) {
        self.argument = argument.count <= 200 ? argument : argument.prefix(200) + "…"
        self.reason = reason
        self.remedy = remedy
    }

    public var description: String { "could not use the argument '\(argument)': \(reason); \(remedy)" }
}
