// The NVM command set, and the way of a command's data.
extension Controller {
    mutating func executeIO(_ place: Int, _ command: Command) {
        guard !command.asksForMore else { return finish(place, .invalidField) }
        switch command.opcode {
        case IOOpcode.flush:
            guard command.namespace == 1 || command.namespace == .max else { return finish(place, .invalidNamespace) }
            begin(place, .flush)
        case IOOpcode.read: transfer(place, command)
        case IOOpcode.write: transfer(place, command)
        case IOOpcode.writeZeroes:
            guard let offset = checked(place, command, writes: true) else { return }
            begin(place, .zero(mayDiscard: command.deallocates, durable: isDurable(command)), offset: offset, length: Int(command.blocks) * 512)
        default: finish(place, .invalidOpcode)
        }
    }

    /// Where a command's blocks begin, in bytes; nil when they are not there: the command is then finished.
    private mutating func checked(_ place: Int, _ command: Command, writes: Bool) -> UInt64? {
        guard command.namespace == 1 else {
            finish(place, .invalidNamespace)
            return nil
        }
        guard command.firstBlock < geometry.blocks, command.blocks <= geometry.blocks - command.firstBlock else {
            finish(place, .outOfRange)
            return nil
        }
        guard !writes || !geometry.isReadOnly else {
            finish(place, .writeProtected)
            return nil
        }
        return command.firstBlock * 512
    }

    private func isDurable(_ command: Command) -> Bool { command.forceUnitAccess || state.feature(Feature.writeCache) & 1 == 0 }

    private mutating func transfer(_ place: Int, _ command: Command) {
        let writes = command.opcode == IOOpcode.write
        guard command.blocks * 512 <= UInt64(Self.mostBytes) else { return finish(place, .invalidField) }
        guard let offset = checked(place, command, writes: writes) else { return }
        let length = Int(command.blocks) * 512
        let status = walk(place, command, length: length)
        guard status.isSuccess else { return finish(place, status) }
        let data = buffer(place)
        if writes {
            guard copyFromGuest(place, to: data) else { return finish(place, .dataTransferError) }
            state.writes &+= 1
            state.blocksWritten &+= command.blocks
        }
        begin(place, writes ? .write(durable: isDurable(command)) : .read, offset: offset, length: length, buffer: data)
    }

    private mutating func begin(_ place: Int, _ kind: DiskJob.Kind, offset: UInt64 = 0, length: Int = 0, buffer: UnsafeMutableRawPointer? = nil) {
        work[place].phase = .disk
        disk.begin(DiskJob(number: place, kind: kind, offset: offset, length: length, buffer: buffer))
    }

    /// The disk has done its part.
    mutating func finishIO(_ place: Int, _ outcome: DiskOutcome) {
        let command = Command(state.slot(place).command)
        switch outcome {
        case .done:
            guard command.opcode == IOOpcode.read else { return finish(place, .success) }
            state.reads &+= 1
            state.blocksRead &+= command.blocks
            finish(place, copyToGuest(place, from: buffer(place)) ? .success : .dataTransferError)
        case .full: finish(place, .capacityExceeded)
        case .failed:
            switch command.opcode {
            case IOOpcode.read: finish(place, .readError)
            case IOOpcode.flush: finish(place, .internalError)
            default: finish(place, .writeFault)
            }
        }
    }

    // MARK: data

    /// Finds the pages of a command's data (specification, section 4.3): each entry is checked, and the walk ends after as many pages as `length` has.
    /// - Parameter length: at most `mostBytes`.
    mutating func walk(_ place: Int, _ command: Command, length: Int) -> Status {
        work[place].length = length
        work[place].pieceCount = 0
        guard command.prp1 & 3 == 0 else { return .invalidPRPOffset }
        let first = min(length, 4096 - Int(command.prp1 & 0xfff))
        addPiece(place, command.prp1, first)
        var remaining = length - first
        guard remaining > 4096 else {
            guard remaining > 0 else { return .success }
            guard command.prp2 & 0xfff == 0 else { return .invalidPRPOffset }
            addPiece(place, command.prp2, remaining)
            return .success
        }
        var list = command.prp2
        guard list & 7 == 0 else { return .invalidPRPOffset }
        while remaining > 0 {
            let room = (4096 - Int(list & 0xfff)) / 8
            let needed = (remaining + 4095) / 4096
            // In a list that is too short for the rest, the last entry is where it goes on.
            let goesOn = needed > room
            let count = goesOn ? room : needed
            guard memory.read(list, into: UnsafeMutableRawBufferPointer(start: page, count: count * 8)) else { return .dataTransferError }
            for index in 0..<(goesOn ? count - 1 : count) {
                let address = page.load(fromByteOffset: index * 8, as: UInt64.self)
                guard address & 0xfff == 0 else { return .invalidPRPOffset }
                addPiece(place, address, min(remaining, 4096))
                remaining -= min(remaining, 4096)
            }
            guard goesOn else { break }
            list = page.load(fromByteOffset: (count - 1) * 8, as: UInt64.self)
            // So that each further page of the list brings some of the data.
            guard list & 0xfff == 0 else { return .invalidPRPOffset }
        }
        return .success
    }

    private mutating func addPiece(_ place: Int, _ address: UInt64, _ length: Int) {
        guard work[place].pieceCount < Self.mostPieces else { return }
        pieces[place * Self.mostPieces + work[place].pieceCount] = Piece(address: address, length: length)
        work[place].pieceCount += 1
    }

    private func copyFromGuest(_ place: Int, to buffer: UnsafeMutableRawPointer) -> Bool {
        var done = 0
        for index in 0..<work[place].pieceCount {
            let piece = pieces[place * Self.mostPieces + index]
            guard memory.read(piece.address, into: UnsafeMutableRawBufferPointer(start: buffer + done, count: piece.length)) else { return false }
            done += piece.length
        }
        return true
    }

    private func copyToGuest(_ place: Int, from buffer: UnsafeRawPointer) -> Bool {
        var done = 0
        for index in 0..<work[place].pieceCount {
            let piece = pieces[place * Self.mostPieces + index]
            guard memory.write(piece.address, from: UnsafeRawBufferPointer(start: buffer + done, count: piece.length)) else { return false }
            done += piece.length
        }
        return true
    }

    /// Gives an admin command's data to the guest.
    mutating func give(_ place: Int, _ command: Command, _ data: borrowing Page, offset: Int = 0, length: Int = 4096) {
        let status = walk(place, command, length: length)
        guard status.isSuccess else { return finish(place, status) }
        let source = data.bytes
        finish(place, source.withUnsafeBytes { copyToGuest(place, $0, offset) } ? .success : .dataTransferError)
    }

    private func copyToGuest(_ place: Int, _ data: UnsafeRawBufferPointer, _ offset: Int) -> Bool {
        guard let base = data.baseAddress, offset >= 0, work[place].length <= data.count - offset else { return false }
        return copyToGuest(place, from: base + offset)
    }
}
