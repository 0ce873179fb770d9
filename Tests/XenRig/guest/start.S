// start.S: the boot sector, the way into 32-bit flat protected mode, the second vCPU's way in, and the exception stubs.
//
// Memory, all below 1 MiB:
//   0x01000  trampoline of the further vCPUs (copied there by start_vcpus in lib.c)
//   0x07c00  the image: this sector, then the rest, loaded behind it; then zeroed memory; must end below 0x20000
//   0x20000  the agent's mailboxes (mailbox.h)       0x30000-0x5ffff  scratch buffers
//   0x60000  stacks, 4 KiB a vCPU: vCPU v's starts at 0x61000 + v * 0x1000 and grows down

        .section .boot, "ax"
        .code16
        .globl _start
_start: cli
        cld
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        ljmpw   $0, $1f
1:      // Read the other sectors, 16 at a time, with the BIOS's extended read (dl is the drive).
        movw    $chunks, %cx
2:      pushw   %cx
        movw    $packet, %si
        movb    $0x42, %ah
        int     $0x13
        popw    %cx
        jc      failed
        addw    $16, packet + 8         // next sectors …
        addw    $0x200, packet + 6      // … to the next segment
        loopw   2b
        lgdtl   gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $entry32
failed: movw    $message, %si
3:      lodsb
        testb   %al, %al
        jz      4f
        outb    %al, $0xe9
        jmp     3b
4:      sti                             // with interrupts off Xen would take the guest for powered off
        hlt
        jmp     4b
message: .asciz "BOOT failed: the BIOS could not read the image\n"
        .balign 4
packet: .byte   16, 0
        .word   16                      // sectors
        .word   0, 0x7e0                // offset, segment
        .long   1, 0                    // first sector
        .balign 8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
        // What the image is to expect and do; the scenarios may patch it in the image file, at offset 0x1f8.
        .org    0x1f8
        .globl  config
config: .long   7
        .org    0x1fe
        .word   0xaa55

        .text
        .code32
entry32:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    %ax, %fs
        movw    %ax, %gs
        movl    $bss_start, %edi
        movl    $bss_end, %ecx
        subl    %edi, %ecx
        xorl    %eax, %eax
        rep stosb
        movl    $0x61000, %esp
        call    enter
1:      pause                           // main is not to return
        jmp     1b

        // --- further vCPUs: real mode at 0x1000, on every vCPU at once
        .code16
        .globl  trampoline, trampoline_end
trampoline:
        cli
        cld
        xorw    %ax, %ax
        movw    %ax, %ds
        lgdtl   gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $further32
trampoline_end:
        .code32
further32:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    %ax, %fs
        movw    %ax, %gs
        movl    0xfee00020, %eax        // local APIC identifier; Xen gives vCPU v the identifier 2v
        shrl    $25, %eax
        movl    %eax, %esp
        shll    $12, %esp
        addl    $0x61000, %esp
        call    enter
1:      pause
        jmp     1b

        // --- exceptions: say which and where, stay there. Vectors that push no error code push a 0.
        .globl  exception_stubs
        .balign 16
exception_stubs:
        .set    v, 0
        .rept   32
        .balign 16
        .if     !((v == 8) | ((v >= 10) & (v <= 14)) | (v == 17) | (v == 21) | (v == 29) | (v == 30))
        pushl   $0
        .endif
        pushl   $v
        jmp     exception_common
        .set    v, v + 1
        .endr
exception_common:
        call    exception               // (vector, error code, eip)

        // --- the local APIC's timer: count the tick, end the interrupt
        .globl  tick_stub, ignore_stub
tick_stub:
        pushl   %eax
        movl    0xfee00020, %eax
        shrl    $25, %eax
        andl    $31, %eax
        incl    ticks(, %eax, 4)
        movl    $0, 0xfee000b0
        popl    %eax
ignore_stub:
        iret
