/// What becomes of an emulator whose process has died. The raw value is what people and checkpoints have of it.
enum RestartStatus: RawRepresentable, Codable, Equatable, Sendable {
    /// Another process is started soon. Why the last one ended.
    case restarting(String)
    /// It died too often: nobody serves until a command, or a late attempt, starts another.
    case parked(String)

    private static let restartingWord = "restarting: "
    private static let parkedWord = "parked: "

    init?(rawValue: String) {
        if rawValue.hasPrefix(Self.restartingWord) {
            self = .restarting(String(rawValue.dropFirst(Self.restartingWord.count)))
        } else if rawValue.hasPrefix(Self.parkedWord) {
            self = .parked(String(rawValue.dropFirst(Self.parkedWord.count)))
        } else {
            return nil
        }
    }

    var rawValue: String {
        switch self {
        case .restarting(let reason): Self.restartingWord + reason
        case .parked(let reason): Self.parkedWord + reason
        }
    }
}
