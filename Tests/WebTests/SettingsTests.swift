import Testing

@testable import demux_web

@Suite("The page's command line")
struct SettingsTests {
    @Test("addresses are numbers with a port", arguments: ["127.0.0.1:6080", "[::1]:6080", "0.0.0.0:80", "[::]:1"])
    func addresses(text: String) { #expect(ListenAddress(text)?.text == text) }

    @Test("localhost is the loopback address")
    func localhost() { #expect(ListenAddress("localhost:6080") == .standard) }

    @Test("what is not one is refused", arguments: ["", "6080", ":6080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "example:80", "::1:80", "[::1]", "[1.2.3.4]:5", "1.2.3:4"])
    func refused(text: String) { #expect(ListenAddress(text) == nil) }

    @Test("options are read, and unknown ones refused")
    func options() throws {
        let settings = try WebSettings(arguments: ["--host", "Xen1", "--listen", "[::1]:7", "--novnc", "/nonexistent"], environment: ["DEMUX_RUN_DIR": "/r"])
        #expect(settings.base == "/r")
        #expect(settings.listen.text == "[::1]:7")
        #expect(settings.hostNames == ["xen1"])
        #expect(settings.noVNC == nil)
        #expect(try WebSettings(arguments: ["--run-dir", "/q"], environment: [:]).base == "/q")
        for wrong in [["--listen"], ["--listen", "x"], ["-x"], ["--port", "7"]] {
            #expect(throws: (any Error).self) { _ = try WebSettings(arguments: wrong, environment: [:]) }
        }
    }
}
