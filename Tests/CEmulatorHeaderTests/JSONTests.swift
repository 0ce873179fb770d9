import CEmulatorHeader
import EmulatorProtocol
import Host
import SeededNumbers
import Testing

/// A packet's members as the C reader finds them; the text outlives the values.
private func withParsed<Result>(_ bytes: [UInt8], _ body: (dmx_json?) throws -> Result) rethrows -> Result {
    try bytes.withUnsafeBufferPointer { buffer in
        try buffer.withMemoryRebound(to: CChar.self) { text in
            var object = dmx_json()
            guard let base = text.baseAddress, dmx_json_parse(base, text.count, &object) else { return try body(nil) }
            return try body(object)
        }
    }
}

private func string(_ object: dmx_json, _ name: String) -> String? {
    var value = dmx_json()
    guard dmx_json_get(object, name, &value) else { return nil }
    var text = [CChar](repeating: 0, count: 1024)
    guard dmx_json_string(value, &text, text.count) else { return nil }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

@Suite("The C reader of the protocol's JSON")
struct JSONTests {
    @Test("What the Swift side sends, C reads")
    func readsSwift() throws {
        let domain = try #require(DomainID(12))
        let server = try #require(ServerID(6))
        let attach = Attach(
            mode: .isolated, domain: domain, server: server, vcpus: 3, ring: true, name: "c\"ü\n\u{1F600}", options: ["ports": "0x540", "x": ""])
        try withParsed(Packet(.attach(attach), re: 77).encoded()) { object in
            let object = try #require(object)
            var value = dmx_json()
            var number: UInt64 = 0
            var flag = false
            #expect(string(object, "type") == "attach" && string(object, "mode") == "isolated" && string(object, "name") == attach.name)
            #expect(dmx_json_get(object, "re", &value) && dmx_json_unsigned(value, &number) && number == 77)
            #expect(dmx_json_get(object, "vcpus", &value) && dmx_json_unsigned(value, &number) && number == 3)
            #expect(dmx_json_get(object, "ring", &value) && dmx_json_boolean(value, &flag) && flag)
            #expect(!dmx_json_get(object, "uid", &value))
            #expect(dmx_json_get(object, "options", &value))
            #expect(string(value, "ports") == "0x540" && string(value, "x") == "" && string(value, "y") == nil)
        }
        let grant = MemoryGrant(
            kind: .shared, length: .max,
            regions: [.init(address: GuestAddress(0), length: 4096, offset: 0), .init(address: GuestAddress(1 << 32), length: 8, offset: 4096)])
        try withParsed(Packet(.ok(Reply(memory: grant)), re: 1).encoded()) { object in
            let object = try #require(object)
            var value = dmx_json()
            var regions = dmx_json()
            var key = dmx_json()
            var cursor: UnsafePointer<CChar>?
            var number: UInt64 = 0
            var seen: [UInt64] = []
            #expect(dmx_json_get(object, "memory", &value))
            #expect(dmx_json_get(value, "regions", &regions))
            while dmx_json_next(regions, &cursor, &key, &value) {
                var field = dmx_json()
                #expect(dmx_json_get(value, "address", &field) && dmx_json_number_text(field, &number))
                seen.append(number)
            }
            #expect(seen == [0, 1 << 32])
        }
    }

    @Test("Every text survives from C to the Swift side", arguments: ["", "a\"b\\c", "tab\tnewline\nbell\u{7}", "grüße 日本 \u{1F600}"])
    func quotes(_ message: String) throws {
        var buffer = [CChar](repeating: 0, count: 512)
        let bytes = buffer.withUnsafeMutableBufferPointer { space in
            var text = dmx_text_in(space.baseAddress, space.count)
            dmx_text_quote(&text, message)
            return space.prefix(text.length).map { UInt8(bitPattern: $0) }
        }
        let packet = try Packet.decoded(Array(#"{"type":"log","level":"info","message":"#.utf8) + bytes + Array("}".utf8))
        #expect(packet.body == .log(Log(.info, message)))
    }

    @Test("A text that does not fit is marked as full, and nothing is written beyond its buffer")
    func full() {
        var buffer = [CChar](repeating: 0x55, count: 16)
        buffer.withUnsafeMutableBufferPointer { space in
            var text = dmx_text_in(space.baseAddress, 8)
            dmx_text_quote(&text, "0123456789")
            #expect(text.full && text.length < 8)
        }
        #expect(buffer[8...].allSatisfy { $0 == 0x55 })
    }

    @Test(
        "What is not one JSON object is refused",
        arguments: [
            "", " ", "[]", "1", "{", "{}x", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":01}", "{\"a\":1.}", "{\"a\":+1}", "{\"a\":nul}",
            "{\"a\":\"\\x\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\ud800\\u0041\"}", "{\"a\":\"\u{1}\"}", "{\"a\":[1 2]}", "{\"a\":[}", "{\"a\":\"",
        ])
    func refuses(_ text: String) {
        withParsed(Array(text.utf8)) { #expect($0 == nil) }
    }

    @Test("Bytes that are not UTF-8 are refused", arguments: [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xe2, 0x82]] as [[UInt8]])
    func refusesBytes(_ bytes: [UInt8]) {
        withParsed(Array("{\"a\":\"".utf8) + bytes + Array("\"}".utf8)) { #expect($0 == nil) }
    }

    @Test("Nesting is limited, so that no packet exhausts the stack")
    func depth() {
        func nested(_ count: Int) -> [UInt8] {
            Array((String(repeating: "{\"a\":", count: count) + "1" + String(repeating: "}", count: count)).utf8)
        }
        withParsed(nested(Int(DMX_JSON_DEPTH))) { #expect($0 != nil) }
        withParsed(nested(60_000 / 6)) { #expect($0 == nil) }
    }

    @Test("Numbers that are signed, broken or do not fit are not numbers")
    func numbers() {
        var number: UInt64 = 5
        for text in ["", "0x", "-1", "+1", " 1", "0x1g", "0x10000000000000000", "18446744073709551616", "1.0"] {
            #expect(!dmx_parse_number(text, &number) && number == 5)
        }
        #expect(dmx_parse_number("0xFFFFFFFFFFFFFFFF", &number) && number == .max)
        #expect(dmx_parse_number("18446744073709551615", &number) && number == .max)
        #expect(dmx_parse_number("0", &number) && number == 0)
    }

    @Test("Mutated packets are read or refused, and never read beyond their end")
    func mutations() {
        var generator = SplitMix(state: 7)
        let seed = Array(#"{"type":"attach","options":{"a":"b\u00e9\ud83d\ude00"},"list":[1,-2.5e3,true,null,{"x":[]}],"id":3}"#.utf8)
        var read = 0
        for _ in 0..<20_000 {
            var bytes = seed
            for _ in 0..<(1 + generator.next() % 4) {
                let place = Int(generator.next() % UInt64(bytes.count))
                switch generator.next() % 3 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: generator.next())
                case 1: bytes.remove(at: place)
                default: bytes.insert(seed[Int(generator.next() % UInt64(seed.count))], at: place)
                }
            }
            withParsed(bytes) { object in
                guard let object else { return }
                read += 1
                _ = string(object, "type")
                var value = dmx_json()
                if dmx_json_get(object, "options", &value) { _ = string(value, "a") }
            }
        }
        #expect(read > 0)
    }
}

