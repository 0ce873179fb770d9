extension Coordinator {
    /// Has the host's watchdog look whether our emulators go on.
    /// - Parameters:
    ///   - base: the run directory of all guests of this host.
    ///   - program: the watchdog's path.
    func startWatching(base: String, program: String) {
        let client = WatchdogClient(loop: loop, base: base, program: program, logBook: logBook)
        client.hung = { $0.hangs(slot: $1, on: $2, milliseconds: $3) }
        client.answered = { $0.goesOn(slot: $1) }
        context.watchdog = client
    }
}
