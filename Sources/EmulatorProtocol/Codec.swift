import FoundationEssentials

/// A packet that could not be read, in words for the one who sent it.
public struct MalformedPacket: Error, Equatable, CustomStringConvertible {
    public let reason: String
    /// The request's number when at least that could be read, so that the refusal can be matched.
    public let id: UInt32?
    /// Whether the type is one that is reserved or not known, rather than broken.
    public let unsupported: Bool
    /// Whether it says that it is an answer, `ok` or `error`: those are never answered, not even broken ones.
    public let isAnswer: Bool

    public init(reason: String, id: UInt32?, unsupported: Bool, isAnswer: Bool = false) {
        self.reason = reason
        self.id = id
        self.unsupported = unsupported
        self.isAnswer = isAnswer
    }

    public var description: String { reason }
}

extension Packet {
    /// The largest packet, in bytes; the socket carries no more.
    public static let largest = 65_536

    /// As JSON, in one line.
    public func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Every field is a string, a small integer, a Boolean or a list of such: encoding cannot fail.
        return (try? encoder.encode(self)).map { [UInt8]($0) } ?? []
    }

    /// Reads one packet. Unknown keys are ignored, so that later versions can add some.
    public static func decoded(_ bytes: [UInt8]) throws(MalformedPacket) -> Packet {
        do {
            return try JSONDecoder().decode(Packet.self, from: Data(bytes))
        } catch let error as UnknownType {
            throw MalformedPacket(reason: error.description, id: error.id, unsupported: true)
        } catch let error as DecodingError {
            let id = (try? JSONDecoder().decode(JustID.self, from: Data(bytes)))?.id
            let type = (try? JSONDecoder().decode(JustType.self, from: Data(bytes)))?.type
            throw MalformedPacket(reason: describe(error), id: id, unsupported: false, isAnswer: type == "ok" || type == "error")
        } catch {
            throw MalformedPacket(reason: "it is not a JSON object", id: nil, unsupported: false)
        }
    }

    private static func describe(_ error: DecodingError) -> String {
        func place(_ context: DecodingError.Context, _ last: (any CodingKey)? = nil) -> String {
            let path = (context.codingPath + (last.map { [$0] } ?? [])).map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
            return path.isEmpty ? "the packet" : "'\(path.joined(separator: "."))'"
        }
        switch error {
        case .keyNotFound(let key, let context): return "\(place(context, key)) is missing"
        case .typeMismatch(let type, let context): return "\(place(context)) is not of the type \(type)"
        case .valueNotFound(_, let context): return "\(place(context)) is null"
        case .dataCorrupted(let context): return "\(place(context)): \(context.debugDescription)"
        @unknown default: return "it is not a JSON object of the protocol"
        }
    }
}

private struct JustID: Decodable { let id: UInt32? }
private struct JustType: Decodable { let type: String? }

private struct UnknownType: Error, CustomStringConvertible {
    let type: String
    let id: UInt32?
    var description: String {
        Message.reserved.contains(type)
            ? "the type '\(type)' is kept for a later version of the protocol" : "the type '\(type.prefix(40))' is not known"
    }
}

extension Packet: Codable {
    private enum Key: String, CodingKey { case type, id, re }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        id = try container.decodeIfPresent(UInt32.self, forKey: .id)
        re = try container.decodeIfPresent(UInt32.self, forKey: .re)
        let type = try container.decode(String.self, forKey: .type)
        switch type {
        case "hello": body = .hello(try Hello(from: decoder))
        case "attach": body = .attach(try Attach(from: decoder))
        case "claim": body = .claim(try Claim(from: decoder))
        case "unclaim": body = .unclaim(try Unclaim(from: decoder))
        case "pci": body = .pci(try PCIRequest(from: decoder))
        case "ready": body = .ready
        case "start": body = .start
        case "pause": body = .pause
        case "resume": body = .resume
        case "release": body = .release
        case "vcpu": body = .vcpu(try VCPUChange(from: decoder))
        case "intx": body = .intx(try INTx(from: decoder))
        case "msi": body = .msi(try MSI(from: decoder))
        case "memory": body = .memory
        case "dma": body = .dma(try DMA(from: decoder))
        case "modified": body = .modified(try Modified(from: decoder))
        case "populate": body = .populate(try Populate(from: decoder))
        case "depopulate": body = .depopulate(try Populate(from: decoder))
        case "dirty-logging": body = .dirtyLogging(try DirtyLogging(from: decoder))
        case "log": body = .log(try Log(from: decoder))
        case "region": body = .region(try RegionRequest(from: decoder))
        case "region-place": body = .regionPlace(try RegionPlace(from: decoder))
        case "region-dirty": body = .regionDirty(try RegionDirty(from: decoder))
        case "surface": body = .surface(try SurfaceSize(from: decoder))
        case "surface-reader": body = .surfaceReader(try SurfaceReaderChange(from: decoder))
        case "mode-hint": body = .modeHint(try SurfaceSize(from: decoder))
        case "input": body = .input(try Input(from: decoder))
        case "input-mode": body = .inputMode(try InputMode(from: decoder))
        case "vnc": body = .vnc(try VNCCommand(from: decoder))
        case "vnc-status": body = .vncStatus(try VNCStatus(from: decoder))
        case "unplug": body = .unplug(try Unplug(from: decoder))
        case "adopted": body = .adopted
        case "quit": body = .quit
        case "ok": body = .ok(try Reply(from: decoder))
        case "error": body = .error(try Refusal(from: decoder))
        default: throw UnknownType(type: type, id: id)
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encodeIfPresent(id, forKey: .id)
        try container.encodeIfPresent(re, forKey: .re)
        try container.encode(body.type, forKey: .type)
        switch body {
        case .hello(let payload): try payload.encode(to: encoder)
        case .attach(let payload): try payload.encode(to: encoder)
        case .claim(let payload): try payload.encode(to: encoder)
        case .unclaim(let payload): try payload.encode(to: encoder)
        case .pci(let payload): try payload.encode(to: encoder)
        case .vcpu(let payload): try payload.encode(to: encoder)
        case .intx(let payload): try payload.encode(to: encoder)
        case .msi(let payload): try payload.encode(to: encoder)
        case .dma(let payload): try payload.encode(to: encoder)
        case .modified(let payload): try payload.encode(to: encoder)
        case .populate(let payload), .depopulate(let payload): try payload.encode(to: encoder)
        case .dirtyLogging(let payload): try payload.encode(to: encoder)
        case .log(let payload): try payload.encode(to: encoder)
        case .region(let payload): try payload.encode(to: encoder)
        case .regionPlace(let payload): try payload.encode(to: encoder)
        case .regionDirty(let payload): try payload.encode(to: encoder)
        case .surface(let payload): try payload.encode(to: encoder)
        case .surfaceReader(let payload): try payload.encode(to: encoder)
        case .modeHint(let payload): try payload.encode(to: encoder)
        case .input(let payload): try payload.encode(to: encoder)
        case .inputMode(let payload): try payload.encode(to: encoder)
        case .vnc(let payload): try payload.encode(to: encoder)
        case .vncStatus(let payload): try payload.encode(to: encoder)
        case .unplug(let payload): try payload.encode(to: encoder)
        case .ok(let payload): try payload.encode(to: encoder)
        case .error(let payload): try payload.encode(to: encoder)
        case .ready, .start, .pause, .resume, .release, .memory, .adopted, .quit: break
        }
    }
}

extension Message {
    /// The word that names it in a packet.
    public var type: String {
        switch self {
        case .hello: "hello"
        case .attach: "attach"
        case .claim: "claim"
        case .unclaim: "unclaim"
        case .pci: "pci"
        case .ready: "ready"
        case .start: "start"
        case .pause: "pause"
        case .resume: "resume"
        case .release: "release"
        case .vcpu: "vcpu"
        case .intx: "intx"
        case .msi: "msi"
        case .memory: "memory"
        case .dma: "dma"
        case .modified: "modified"
        case .populate: "populate"
        case .depopulate: "depopulate"
        case .dirtyLogging: "dirty-logging"
        case .log: "log"
        case .region: "region"
        case .regionPlace: "region-place"
        case .regionDirty: "region-dirty"
        case .surface: "surface"
        case .surfaceReader: "surface-reader"
        case .modeHint: "mode-hint"
        case .input: "input"
        case .inputMode: "input-mode"
        case .vnc: "vnc"
        case .vncStatus: "vnc-status"
        case .unplug: "unplug"
        case .adopted: "adopted"
        case .quit: "quit"
        case .ok: "ok"
        case .error: "error"
        }
    }
}
