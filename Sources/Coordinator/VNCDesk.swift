import ControlProtocol
import EmulatorProtocol
import Glibc
import Platform
import Specification

/// What the coordinator knows of the VNC exporter, and keeps for it: its sockets, the password, who is connected.
///
/// The exporter can die at any time: its successor gets the same sockets and is let know the password as it is then.
final class VNCDesk {
    /// What is kept of an exporter's own account.
    private static let mostClients = 64
    private static let mostStatistics = 64
    /// Seconds that a viewer has for its handshake.
    private static let handshakeSeconds = 10

    let specification: VNCSpecification
    /// What viewers are shown as the desktop's name unless the specification has one; an exporter is told it when it
    /// starts.
    var guestName: String
    private(set) var listeners: VNCListeners
    private(set) var password: String? { didSet { changed?() } }
    /// Called when there is something that a coordinator's successor has to know.
    var changed: (() -> Void)?
    /// From when on the password lets nobody in.
    enum Expiry: Equatable {
        case never
        /// Seconds since 1970.
        case at(Int64)

        /// As `expire-password` has it; an absolute time means the same to a successor.
        var text: String {
            switch self {
            case .never: "never"
            case .at(let seconds): "\(seconds)"
            }
        }
    }
    private(set) var expiry = Expiry.never { didSet { changed?() } }
    private weak var exporter: EmulatorSession?
    private var pulse: ExporterPulse?
    private(set) var reported = VNCStatus()
    /// Counts changes of password and expiry; what the present exporter's `attach` said was of `givenGeneration`.
    private var generation = 0
    private var givenGeneration = 0
    /// Whether the present exporter has not been told the password, because it had expired.
    private(set) var isWithheld = false { didSet { changed?() } }

    /// Takes over a predecessor's sockets and what it knew.
    init(adopting kept: KeptVNC, _ specification: VNCSpecification, guestName: String, directory: String, _ recorder: Recorder) throws(SystemError) {
        self.specification = specification
        self.guestName = guestName
        password = kept.password
        listeners = try VNCListeners(adopting: kept.sockets, ownPath: directory.isEmpty ? nil : directory + "/vnc.sock", recorder)
        expiry = kept.expiry.map { .at($0) } ?? .never
        isWithheld = kept.isWithheld
    }

    /// What a successor of this coordinator has to know.
    var kept: KeptVNC {
        var at: Int64?
        if case .at(let seconds) = expiry { at = seconds }
        return KeptVNC(sockets: listeners.kept, password: password, expiry: at, isWithheld: isWithheld)
    }

    /// The exporter serves on, and knows all it has to.
    func exporterGoesOn(_ session: EmulatorSession) {
        exporter = session
        pulse = ExporterPulse(session)
        // It may have hung for as long as nobody was there.
        pulse?.ask()
    }

    /// Somebody wants to know how it is: has it asked whether it goes on.
    func lookAtExporter() { pulse?.ask() }

    /// Opens the sockets.
    init(_ specification: VNCSpecification, guestName: String, directory: String) throws(SystemError) {
        self.specification = specification
        self.guestName = guestName
        password = specification.password
        // A trial without a guest has no folder.
        listeners = try VNCListeners(specification.listen, ownPath: directory.isEmpty ? nil : directory + "/vnc.sock")
    }

    /// The exporter as one more process of the guest's.
    var emulator: EmulatorSpecification {
        EmulatorSpecification(
            name: VNCSpecification.name, program: specification.program, arguments: specification.arguments, mode: .exporter,
            readyWithinMilliseconds: specification.readyWithinMilliseconds, uid: specification.uid, gid: specification.gid,
            restart: specification.restart, whenHung: specification.whenHung, hungAfterMilliseconds: specification.hungAfterMilliseconds)
    }

    /// Its settings as they are now, as text, for its `attach`.
    func giveOptions() -> [String: String] {
        givenGeneration = generation
        return options
    }

    private var options: [String: String] {
        func word(_ flag: Bool) -> String { flag ? "yes" : "no" }
        var options = [
            "password-required": word(specification.passwordRequired), "share": specification.share.rawValue, "clipboard": word(specification.clipboard),
            "view-only": word(specification.viewOnly), "clients": "\(specification.clients)", "websocket": word(specification.websocket),
            "name": specification.desktopName ?? guestName, "handshake-seconds": "\(Self.handshakeSeconds)", "tls": "no",
        ]
        options["keymap"] = specification.keymap
        options["origins"] = specification.origins?.joined(separator: " ")
        if let password, !isExpired { options["password"] = password }
        switch specification.tls {
        case nil: break
        case .anonymous: options["tls"] = "anonymous"
        case .certificate(let certificate, let key, let authority):
            options["tls"] = "x509"
            options["tls-certificate"] = certificate
            options["tls-key"] = key
            options["tls-ca"] = authority
        }
        return options
    }

    private var isExpired: Bool {
        if case .at(let seconds) = expiry { seconds <= Int64(time(nil)) } else { false }
    }

    /// Whether nobody can get in at present.
    var isClosed: Bool { specification.passwordRequired && (password == nil || isExpired) }

    // MARK: the exporter's life

    /// It serves: what its `attach` could not say is said now.
    func exporterServes(_ session: EmulatorSession) {
        exporter = session
        pulse = ExporterPulse(session)
        if generation != givenGeneration { session.request(.vnc(VNCCommand(.setPassword, password: isExpired ? nil : password))) { _ in } }
        if expiry != .never, !isExpired { session.request(.vnc(VNCCommand(.expirePassword, at: expiry.text))) { _ in } }
        isWithheld = password != nil && isExpired
    }

    func exporterEnded(_ session: EmulatorSession) {
        guard exporter === session else { return }
        exporter = nil
        pulse = nil
        reported.clients = []
    }

    /// Tells the exporter which kind of pointer the guest has.
    func tell(_ mode: InputMode) { _ = exporter?.offer(.inputMode(mode)) }

    /// Its own account, cut to what is shown.
    func note(_ status: VNCStatus) {
        func cut(_ text: String) -> String { PrintableText.escaped(String(text.unicodeScalars.prefix(128))) }
        reported = VNCStatus(
            clients: status.clients.prefix(Self.mostClients).map {
                VNCStatus.Client(
                    host: cut($0.host), service: cut($0.service), family: cut($0.family), websocket: $0.websocket, security: cut($0.security),
                    shared: $0.shared)
            },
            statistics: Dictionary(
                status.statistics.sorted { $0.key < $1.key }.prefix(Self.mostStatistics).map { (cut($0.key), $0.value) }, uniquingKeysWith: { first, _ in first }))
        pulse?.note(hasViewers: !reported.clients.isEmpty)
    }

    // MARK: commands

    /// Changes the password; nil lets nobody in any more where one is required.
    func setPassword(_ new: String?, _ done: @escaping (Refusal?) -> Void) {
        if let new {
            guard new.utf8.count <= 256, !new.utf8.contains(0) else {
                return done(Refusal(.invalid, asked: "a VNC password", message: "it may have 256 bytes and no NUL"))
            }
        }
        command(
            VNCCommand(.setPassword, password: new),
            keep: {
                $0.password = new
                $0.isWithheld = false
            }, done)
    }

    /// Changes when the password stops to let anybody in.
    /// - Parameter at: "now", "never", "+30" (seconds from now) or seconds since 1970, as QEMU's expire_password takes it.
    func expirePassword(_ at: String, _ done: @escaping (Refusal?) -> Void) {
        guard let expiry = Self.expiry(at, now: Int64(time(nil))) else {
            return done(
                Refusal(
                    .invalid, asked: "the password's expiry '\(PrintableText.escaped(String(at.unicodeScalars.prefix(40))))'",
                    message: "it is 'now', 'never', '+SECONDS' or seconds since 1970"))
        }
        command(VNCCommand(.expirePassword, at: expiry.text), keep: { $0.expiry = expiry }) { [weak self] refusal in
            if refusal == nil { self?.giveWithheld() }
            done(refusal)
        }
    }

    /// A password that had expired is good again: an exporter that was started in between has never heard of it.
    private func giveWithheld() {
        guard isWithheld, !isExpired, let password, let exporter else { return }
        isWithheld = false
        exporter.request(.vnc(VNCCommand(.setPassword, password: password))) { _ in }
    }

    /// Sends every viewer away.
    func disconnect(_ done: @escaping (Refusal?) -> Void) { command(VNCCommand(.disconnect), keep: { _ in }, done) }

    /// What a text means that QEMU's expire_password takes; nil: nothing.
    static func expiry(_ text: String, now: Int64) -> Expiry? {
        if text == "never" { return .never }
        if text == "now" { return .at(now) }
        let isRelative = text.hasPrefix("+")
        let digits = isRelative ? text.dropFirst() : text[...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int64(digits) else { return nil }
        guard isRelative else { return .at(number) }
        let (sum, overflow) = now.addingReportingOverflow(number)
        return overflow ? nil : .at(sum)
    }

    private func command(_ command: VNCCommand, keep: @escaping (VNCDesk) -> Void, _ done: @escaping (Refusal?) -> Void) {
        guard let exporter else {
            // It is being started again: its successor is told by `attach`.
            keep(self)
            generation += 1
            return done(nil)
        }
        exporter.request(.vnc(command)) { [weak self, weak exporter] refusal in
            guard let self else { return done(refusal) }
            // One that died over it has a successor, which gets what is kept.
            let died = exporter == nil || exporter?.isGone == true
            guard refusal == nil || died else { return done(refusal) }
            keep(self)
            done(nil)
        }
    }

    // MARK: for people and toolstacks

    var status: ExporterStatus {
        ExporterStatus(
            emulator: VNCSpecification.name, addresses: listeners.publicListeners.map(\.text), authentication: specification.authentication,
            isClosed: isClosed, clients: reported.clients, statistics: reported.statistics)
    }

    var information: VNCInformation {
        // TCP comes first in the list, and is what `xl vncviewer` connects to.
        let first = listeners.publicListeners.first
        return VNCInformation(
            host: first?.path == nil ? first?.host ?? "" : "", service: first?.path ?? first?.port.map { "\($0)" } ?? "",
            family: first?.path != nil ? "unix" : first?.host?.contains(":") == true ? "ipv6" : "ipv4",
            authentication: specification.authentication, clients: reported.clients, listeners: listeners.publicListeners)
    }
}

/// What QMP's query-vnc wants to know.
public struct VNCInformation: Equatable, Sendable {
    /// The address of the first listener; "" for a UNIX socket.
    public var host: String
    /// The port, or the path, as text.
    public var service: String
    /// "ipv4", "ipv6" or "unix".
    public var family: String
    /// "none", "vnc", "vencrypt+x509+vnc", …
    public var authentication: String
    public var clients: [VNCStatus.Client]
    /// All of them, without the coordinator's own socket.
    public var listeners: [Listener]
}
