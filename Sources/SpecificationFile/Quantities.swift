import Host

/// Sizes, times and counts as people write them.
enum Quantities {
    /// "64M", "64MiB", "1G" or "1GiB", in MiB; nil for anything else.
    static func mebibytes(_ text: String) -> Int? {
        for (suffix, factor) in [("MiB", 1), ("GiB", 1024), ("M", 1), ("G", 1024)] where text.hasSuffix(suffix) {
            return decimal(text.dropLast(suffix.count))?.multiplied(by: factor)
        }
        return nil
    }

    /// "500ms" or "5s", in milliseconds; nil for anything else.
    static func milliseconds(_ text: String) -> Int? {
        for (suffix, factor) in [("ms", 1), ("s", 1000)] where text.hasSuffix(suffix) {
            return decimal(text.dropLast(suffix.count))?.multiplied(by: factor)
        }
        return nil
    }

    /// "yes" or "no", and what else YAML has for them; nil for anything else.
    static func flag(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "yes", "on", "true": true
        case "no", "off", "false": false
        default: nil
        }
    }

    /// "1024x768", in pixels; nil for anything else and for sizes that no screen has.
    static func mode(_ text: String) -> (width: Int, height: Int)? {
        let parts = text.split(separator: "x", omittingEmptySubsequences: false)
        guard parts.count == 2, let width = decimal(parts[0]), let height = decimal(parts[1]), (64...8192).contains(width),
            (64...8192).contains(height)
        else { return nil }
        return (width, height)
    }

    /// Decimal digits only: no sign, no space.
    static func decimal(_ text: some StringProtocol) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return Int(text)
    }

    /// A slot of the guest's first bus: "00:05.0", or "5" as a device number in hexadecimal.
    static func slot(_ text: String) -> PCIAddress? {
        // The address parser takes what Swift's integers take, a sign included.
        guard text.utf8.allSatisfy({ $0 == 0x2e || $0 == 0x3a || Character(Unicode.Scalar($0)).isHexDigit }),
            let address = PCIAddress(parsing: text), address.segment == 0, address.bus == 0
        else { return nil }
        return address
    }
}

extension Int {
    /// nil on overflow.
    fileprivate func multiplied(by factor: Int) -> Int? {
        let (product, overflow) = multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}
