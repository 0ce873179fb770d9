import Host
import LocalCPU
import LocalHost
import Platform
import Testing

@Suite("A guest's own code on KVM", .enabled(if: KVM.runs, "guest code does not run here"))
struct LocalCPUTests {
    private static let ports = PortRange(first: 0x500, count: 16).map(IORange.ports)
    private static func memory(_ first: UInt64, _ length: UInt64) throws -> IORange {
        .memory(try #require(MMIORange(first: GuestAddress(first), length: length)))
    }
    private static func read(_ port: UInt64, _ size: UInt32) -> IORequest { IORequest(kind: .portIO, direction: .read, address: port, size: size) }
    private static func write(_ port: UInt64, _ size: UInt32, _ data: UInt64) -> IORequest {
        IORequest(kind: .portIO, direction: .write, address: port, data: data, size: size)
    }

    @Test("in and out of 1, 2 and 4 bytes are requests of their size, and the answers reach the guest's registers")
    func plainPorts() throws {
        let machine = try Machine()
        try machine.serve([try #require(Self.ports)])
        try machine.load(
            try Assembler.assemble(
                """
                mov $0x500, %dx
                mov $0x44332211, %eax
                outb %al, %dx
                inc %dx
                outw %ax, %dx
                outl %eax, %dx
                xor %eax, %eax
                mov %ax, %ds
                inb %dx, %al
                mov %eax, 0x600
                inw %dx, %ax
                mov %eax, 0x604
                inl %dx, %eax
                mov %eax, 0x608
                hlt
                """))
        #expect(try machine.run(answering: { _ in 0x8877_6655_a1b2_c3d4 }) == .halted)
        #expect(
            machine.requests == [
                Self.write(0x500, 1, 0x11), Self.write(0x501, 2, 0x2211), Self.write(0x501, 4, 0x4433_2211), Self.read(0x501, 1), Self.read(0x501, 2),
                Self.read(0x501, 4),
            ])
        #expect(machine.bytes(0x600, 12) == [0xd4, 0, 0, 0, 0xd4, 0xc3, 0, 0, 0xd4, 0xc3, 0xb2, 0xa1])
    }

    @Test("nobody's port reads all-ones, and a write to it vanishes")
    func unclaimed() throws {
        let machine = try Machine()
        try machine.load(try Assembler.assemble("mov $0x1234, %dx; outl %eax, %dx; xor %eax, %eax; mov %ax, %ds; inw %dx, %ax; mov %eax, 0x600; hlt"))
        #expect(try machine.run() == .halted)
        #expect(machine.bytes(0x600, 4) == [0xff, 0xff, 0, 0])
    }

    @Test("rep outs and rep ins are as many requests as elements, forwards and backwards, and move the guest's own memory")
    func strings() throws {
        let machine = try Machine()
        try machine.serve([try #require(Self.ports)])
        #expect(machine.write(0x600, [1, 2, 3, 4, 5, 6]))
        try machine.load(
            try Assembler.assemble(
                """
                xor %ax, %ax; mov %ax, %ds; mov %ax, %es
                mov $0x500, %dx
                cld; mov $0x600, %si; mov $3, %cx; rep outsw
                std; mov $0x602, %si; mov $3, %cx; rep outsb
                cld; mov $0x700, %di; mov $4, %cx; rep insl
                hlt
                """))
        var next: UInt64 = 0
        #expect(
            try machine.run(answering: { request in
                guard request.direction == .read else { return 0 }
                next += 1
                return next
            }) == .halted)
        #expect(
            machine.requests == [
                Self.write(0x500, 2, 0x0201), Self.write(0x500, 2, 0x0403), Self.write(0x500, 2, 0x0605), Self.write(0x500, 1, 3), Self.write(0x500, 1, 2),
                Self.write(0x500, 1, 1),
            ] + Array(repeating: Self.read(0x500, 4), count: 4))
        #expect(machine.bytes(0x700, 16) == [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    }

    @Test("loads and stores where there is no RAM are requests; over a page's end in parts")
    func memoryMapped() throws {
        let machine = try Machine()
        try machine.serve([try Self.memory(0xa0000, 0x20000)])
        try machine.load(
            try Assembler.assemble(
                """
                mov $0xa000, %ax; mov %ax, %es
                mov $0x44332211, %eax
                movb %al, %es:0x10
                movw %ax, %es:0x12
                movl %eax, %es:0x14
                movl %eax, %es:0xffe
                xor %bx, %bx; mov %bx, %ds
                movl %es:0x20, %eax
                movl %eax, 0x600
                movb %es:0x21, %al
                movb %al, 0x604
                hlt
                """))
        #expect(try machine.run(answering: { _ in 0x8877_6655 }) == .halted)
        func store(_ address: UInt64, _ size: UInt32, _ data: UInt64) -> IORequest {
            IORequest(kind: .copy, direction: .write, address: address, data: data, size: size)
        }
        func load(_ address: UInt64, _ size: UInt32) -> IORequest { IORequest(kind: .copy, direction: .read, address: address, size: size) }
        #expect(
            machine.requests == [
                store(0xa0010, 1, 0x11), store(0xa0012, 2, 0x2211), store(0xa0014, 4, 0x4433_2211), store(0xa0ffe, 2, 0x2211), store(0xa1000, 2, 0x4433),
                load(0xa0020, 4), load(0xa0021, 1),
            ])
        #expect(machine.bytes(0x600, 5) == [0x55, 0x66, 0x77, 0x88, 0x55])
    }

    @Test("stores into the legacy window of a server with a ring are posted, repeated ones too")
    func posted() throws {
        let machine = try Machine()
        try machine.serve([try Self.memory(0xa0000, 0x20000)], ring: true)
        try machine.load(
            try Assembler.assemble(
                "cld; mov $0xb800, %ax; mov %ax, %es; xor %di, %di; mov $0x0741, %ax; mov $4, %cx; rep stosw; movb %es:0, %al; hlt"))
        #expect(try machine.run() == .halted)
        #expect(
            machine.posted
                == (0..<4).map { BufferedEntry(type: 1, direction: .write, size: 2, address: 0xb8000 + $0 * 2, data: 0x0741) })
        #expect(machine.requests.map(\.direction) == [.read])
    }

    @Test("PCI configuration by 0xcf8 and 0xcfc is a configuration request to the function's server")
    func configuration() throws {
        let machine = try Machine()
        try machine.serve([.pci(try #require(PCIAddress(device: 5)))])
        try machine.load(
            try Assembler.assemble(
                """
                mov $0xcf8, %dx; mov $0x80002804, %eax; outl %eax, %dx
                mov $0xcfe, %dx; inw %dx, %ax
                xor %bx, %bx; mov %bx, %ds; mov %ax, 0x600
                mov $0xcf8, %dx; mov $0x80002810, %eax; outl %eax, %dx
                mov $0xcfc, %dx; mov $0xffffffff, %eax; outl %eax, %dx
                hlt
                """))
        #expect(try machine.run(answering: { _ in 0x1280 }) == .halted)
        let function: UInt64 = (5 << 3) << 32
        #expect(
            machine.requests == [
                IORequest(kind: .pciConfig, direction: .read, address: function | 6, size: 2),
                IORequest(kind: .pciConfig, direction: .write, address: function | 0x10, data: 0xffff_ffff, size: 4),
            ])
        #expect(machine.bytes(0x600, 2) == [0x80, 0x12])
    }

    @Test("protected mode: a device's window far above 1 MiB")
    func protectedMode() throws {
        let machine = try Machine()
        try machine.serve([try Self.memory(0xfed8_0000, 0x1000)])
        try machine.load(
            try Assembler.assemble(
                """
                cli
                mov $0x1000, %ax; mov %ax, %ds
                lgdtl table - _start
                mov %cr0, %eax; or $1, %al; mov %eax, %cr0
                ljmpl $8, $0x10000 + inside - _start
                .code32
                inside:
                mov $16, %eax; mov %eax, %ds; mov %eax, %es
                movl $0x11223344, 0xfed80100
                mov 0xfed80104, %eax
                mov %eax, 0x600
                mov $0x100000, %edi; mov $0x5a, %al; mov $256, %ecx; rep stosb
                hlt
                .balign 8
                gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
                table: .word 23; .long 0x10000 + gdt - _start
                """))
        #expect(try machine.run(answering: { _ in 0xcafe }) == .halted)
        #expect(
            machine.requests == [
                IORequest(kind: .copy, direction: .write, address: 0xfed8_0100, data: 0x1122_3344, size: 4),
                IORequest(kind: .copy, direction: .read, address: 0xfed8_0104, size: 4),
            ])
        #expect(machine.bytes(0x600, 4) == [0xfe, 0xca, 0, 0])
        #expect(machine.bytes(0x10_0000, 256).allSatisfy { $0 == 0x5a })
    }

    @Test("a triple fault ends the run")
    func tripleFault() throws {
        let machine = try Machine()
        // In protected mode: KVM without hardware for real mode looks at no limit of the interrupt table there.
        try machine.load(
            try Assembler.assemble(
                """
                cli
                mov $0x1000, %ax; mov %ax, %ds
                lgdtl table - _start
                lidtl none - _start
                mov %cr0, %eax; or $1, %al; mov %eax, %cr0
                ljmpl $8, $0x10000 + inside - _start
                .code32
                inside: mov $0x1230, %eax; mov %eax, %ds; 1: jmp 1b
                .balign 8
                gdt: .quad 0, 0x00cf9b000000ffff
                table: .word 15; .long 0x10000 + gdt - _start
                none: .word 0; .long 0
                """))
        // KVM without hardware for this mode may not be able to emulate the fault; it says so and where, which ends the run as well.
        let end = try machine.run()
        #expect(end == .shutdown || end.description.contains("at code 0x0 + 0x100"), "\(end)")
    }

    @Test("a guest that loops is stopped, and one that waits for an answer ends with its domain")
    func stops() throws {
        let machine = try Machine()
        try machine.load(try Assembler.assemble("1: jmp 1b"))
        #expect(try machine.run(until: { _ in true }) == .stopped)
        #expect(machine.cpu.run() == .stopped)

        let waiting = try Machine()
        let server = try waiting.host.createServer(ring: false)
        try waiting.host.map(try #require(Self.ports), to: server)
        try waiting.host.setServer(server, enabled: true)
        try waiting.load(try Assembler.assemble("mov $0x500, %dx; inb %dx, %al; hlt"))
        #expect(
            try waiting.run(until: { machine in
                machine.host.destroyDomain()
                return false
            }) == .guest(.destroyed))
    }

    // MARK: interrupts

    /// Initialises both PICs (vectors 0x20 and 0x28), lets every line through, counts interrupts at 0:0x600 + vector, and tells the host at
    /// port 0x500 that it is ready; ends when a byte read at port 0x501 is not 0. The handlers say at port 0x502 which vector came.
    private static let interruptProgram = """
        cli
        xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $0x7000, %sp
        cld
        xor %di, %di; mov $256, %cx
        mov $handlers - _start, %bx
        1: mov %bx, %ax; stosw; mov $0x1000, %ax; stosw; add $8, %bx; loop 1b
        mov $0x11, %al; out %al, $0x20; out %al, $0xa0
        mov $0x20, %al; out %al, $0x21; mov $0x28, %al; out %al, $0xa1
        mov $4, %al; out %al, $0x21; mov $2, %al; out %al, $0xa1
        mov $1, %al; out %al, $0x21; out %al, $0xa1
        mov MASK, %al; out %al, $0x21; xor %al, %al; out %al, $0xa1
        sti
        mov $0x500, %dx; outb %al, %dx
        1: hlt
        jmp 1b
        common:
        push %bp; mov %sp, %bp; push %ax; push %dx
        mov 2(%bp), %ax
        mov $0x502, %dx; outb %al, %dx
        mov $0x20, %al; out %al, $0xa0; out %al, $0x20
        pop %dx; pop %ax; pop %bp; add $2, %sp; iret
        .balign 8
        handlers:
        .set vector, 0
        .rept 256
        .balign 8
        pushw $vector
        jmp common
        .set vector, vector + 1
        .endr
        """

    @Test("an ISA line asserted by an emulator reaches the guest through the kernel's PIC, while it halts")
    func isaInterrupts() throws {
        let machine = try Machine(interruptController: true)
        try #require(machine.kvm.hasInterruptController)
        try machine.serve([try #require(Self.ports)])
        try machine.load(try Assembler.assemble(Self.interruptProgram.replacing("MASK", with: "$1")))
        let host = machine.host
        var vectors: [UInt64] = []
        // Each answer sets off the next interrupt: the keyboard's line, the mouse's, then a PCI device's.
        let end = try machine.run(until: { _ in vectors.count >= 3 }, answering: { request in
            if request.address == 0x502 { vectors.append(request.data) }
            switch vectors.count {
            case 0: try? host.setISAInterrupt(1, asserted: true)
            case 1:
                try? host.setISAInterrupt(1, asserted: false)
                try? host.setISAInterrupt(12, asserted: true)
            case 2:
                try? host.setISAInterrupt(12, asserted: false)
                try? host.setINTx(device: 4, pin: 1, asserted: true)
            default: try? host.setINTx(device: 4, pin: 1, asserted: false)
            }
            return 0
        })
        #expect(end == .stopped)
        #expect(vectors.prefix(3) == [0x21, 0x2c, 0x2b])
    }

    @Test("the kernel's timer interrupts the guest by itself")
    func timer() throws {
        let machine = try Machine(interruptController: true)
        try #require(machine.kvm.hasTimer)
        try machine.serve([try #require(Self.ports)])
        let program = "mov $0x34, %al; out %al, $0x43; mov $0, %al; out %al, $0x40; mov $16, %al; out %al, $0x40\n" + Self.interruptProgram
        try machine.load(try Assembler.assemble(program.replacing("MASK", with: "$0xfe")))
        var ticks = 0
        let end = try machine.run(until: { _ in ticks >= 5 }, answering: { request in
            if request.address == 0x502, request.data == 0x20 { ticks += 1 }
            return 0
        })
        #expect(end == .stopped)
        #expect(ticks >= 5)
    }

    // MARK: regions

    @Test("a device region is memory at its place, its written pages are told once, and it can move and go")
    func regions() throws {
        let machine = try Machine()
        try machine.serve([try Self.memory(0xa0000, 0x20000)])
        let pages = 16
        let memory = try SharedMemory(name: "demux-test-region", length: pages << 12)
        let mapping = try memory.map(what: "a region")
        let bytes = UnsafeMutableRawBufferPointer(start: mapping.base, count: mapping.length)
        func dirty() throws -> [Int] {
            var bitmap = [UInt8](repeating: 0, count: 2)
            try bitmap.withUnsafeMutableBytes { buffer in try machine.kvm.collectDirty(region: 3, into: buffer) }
            return (0..<pages).filter { bitmap[$0 / 8] & (1 << ($0 % 8)) != 0 }
        }
        try machine.kvm.map(region: 3, at: GuestAddress(0xa0000), memory: bytes)
        let program = try Assembler.assemble(
            "mov $0xa000, %ax; mov %ax, %es; movb $1, %es:0x0010; movb $2, %es:0x5000; movb %es:0x7000, %al; xor %bx, %bx; mov %bx, %ds; movb %al, 0x600; hlt")
        bytes[0x7000] = 0x77
        try machine.load(program)
        #expect(try machine.run() == .halted)
        #expect(machine.requests == [])
        #expect(bytes[0x10] == 1 && bytes[0x5000] == 2)
        #expect(machine.bytes(0x600, 1) == [0x77])
        #expect(try dirty() == [0, 5])
        #expect(try dirty() == [])
        // Written, and moved before anybody asked.
        try machine.load(program)
        #expect(try machine.run() == .halted)
        try machine.kvm.map(region: 3, at: GuestAddress(0xb0000), memory: bytes)
        #expect(try dirty() == [0, 5])
        try machine.load(program)
        #expect(try machine.run() == .halted)
        #expect(machine.requests.count == 3)
        try machine.load(try Assembler.assemble("mov $0xb000, %ax; mov %ax, %es; movb $9, %es:0x3000; hlt"))
        #expect(try machine.run() == .halted)
        try machine.kvm.unmap(region: 3)
        try machine.kvm.unmap(region: 3)
        #expect(try dirty() == [3])
        #expect(bytes[0x3000] == 9)
        #expect(try dirty() == [])
    }

    @Test("a region that is no pages, lies over RAM or over another region is refused with the reason")
    func badRegions() throws {
        let machine = try Machine()
        let memory = try SharedMemory(name: "demux-test-region", length: 1 << 16)
        let mapping = try memory.map(what: "a region")
        let bytes = UnsafeMutableRawBufferPointer(start: mapping.base, count: mapping.length)
        try machine.kvm.map(region: 1, at: GuestAddress(0xfd00_0000), memory: bytes)
        for (address, length) in [(0xfd00_0800, 1 << 16), (0xfd00_8000, 1 << 16), (0x10000, 1 << 16), (0x9f000, 1 << 16), (0xfe00_0000, 100), (0xfe00_0000, 0)]
            as [(UInt64, Int)]
        {
            #expect(throws: SystemError.self, "\(Hex.string(address)), \(length) bytes") {
                try machine.kvm.map(region: 2, at: GuestAddress(address), memory: UnsafeMutableRawBufferPointer(rebasing: bytes[..<length]))
            }
        }
    }
}

@Suite("Without KVM")
struct WithoutKVMTests {
    @Test("either guest code runs here, or the reason that it does not is said")
    func obstacle() { #expect(KVM.runs || KVM.obstacle?.isEmpty == false) }
}
