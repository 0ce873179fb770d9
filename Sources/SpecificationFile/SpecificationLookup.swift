import Glibc

/// Which specification a guest has when the person who starts it names none.
public enum SpecificationLookup {
    /// `/etc/demux`, or what DEMUX_CONFIG_DIR says.
    public static func directory(environment: [String: String]) -> String {
        if let chosen = environment["DEMUX_CONFIG_DIR"], !chosen.isEmpty { return chosen }
        return "/etc/demux"
    }

    /// The file that was named, else `guests/NAME.yaml`, else `demux.yaml`. A file that exists is taken even when it
    /// cannot be read: a guest must not quietly get another one's devices.
    /// - Throws: one issue when there is none.
    public static func file(named file: String?, guest: String?, environment: [String: String]) throws(SpecificationErrors) -> String {
        if let file { return file }
        let candidates = candidates(guest: guest, environment: environment)
        for candidate in candidates where exists(candidate) { return candidate }
        let directory = directory(environment: environment)
        throw SpecificationErrors([
            SpecificationIssue(
                file: directory,
                problem: "there is no specification" + (guest.map { " for the guest \(Wording.quoted($0))" } ?? "")
                    + " (looked for \(candidates.joined(separator: " and ")))",
                allowed: "write one (the smallest is 'demux: 1'), or name one with --demux-spec=FILE in device_model_args_hvm")
        ])
    }

    /// Where a guest's specification is looked for, in this order.
    public static func candidates(guest: String?, environment: [String: String]) -> [String] {
        let directory = directory(environment: environment)
        var candidates = ["\(directory)/demux.yaml"]
        // A name is one path component, or it would reach out of the folder.
        if let guest, !guest.isEmpty, guest != ".", guest != "..", !guest.contains("/") {
            candidates.insert("\(directory)/guests/\(guest).yaml", at: 0)
        }
        return candidates
    }

    private static func exists(_ path: String) -> Bool {
        var status = stat()
        // A link to nowhere counts: somebody meant a file to be there.
        return lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR)
    }
}
