// bios.S: bios(interrupt, registers): calls the BIOS from 32-bit code, through real mode. See screen.h.
//
// The code and its variables are below 64 KiB (guest.ld puts .low first), so that real mode's segment 0 reaches them. The real-mode
// stack is what the boot sector had, below 0x7c00. Interrupts are off all the time: what the BIOS has for int 10h needs none.
        .section .low, "awx"
        .code32
        .globl  bios
bios:   pushal
        movb    36(%esp), %al
        movb    %al, number
        movl    40(%esp), %esi
        movl    $registers, %edi
        movl    $9, %ecx
        rep movsl
        movl    %esp, stack
        sidt    protected_idt
        lgdt    low_gdt_pointer
        lidt    real_idt
        ljmpl   $24, $1f
        .code16
1:      movw    $32, %ax                // 64 KiB segments, as real mode has them
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        ljmpw   $0, $2f
2:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movl    registers + 0, %eax
        movl    registers + 4, %ebx
        movl    registers + 8, %ecx
        movl    registers + 12, %edx
        movl    registers + 16, %esi
        movl    registers + 20, %edi
        movl    registers + 24, %ebp
        movw    registers + 28, %es
        .byte   0xcd                    // int
number: .byte   0x10
        cli
        cld
        movl    %eax, %cs:registers + 0
        movl    %ebx, %cs:registers + 4
        movl    %ecx, %cs:registers + 8
        movl    %edx, %cs:registers + 12
        movl    %esi, %cs:registers + 16
        movl    %edi, %cs:registers + 20
        movl    %ebp, %cs:registers + 24
        movl    $0, %cs:registers + 28
        movw    %es, %cs:registers + 28
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $3f
        .code32
3:      movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movl    stack, %esp
        lidt    protected_idt
        movl    40(%esp), %edi
        movl    $registers, %esi
        movl    $9, %ecx
        rep movsl
        popal
        ret
        .balign 8
low_gdt: .quad  0, 0x00cf9b000000ffff, 0x00cf93000000ffff      // 8 and 16: as in the boot sector
        .quad   0x00009b000000ffff, 0x000093000000ffff          // 24 and 32: 16-bit code and data
low_gdt_pointer:
        .word   . - low_gdt - 1
        .long   low_gdt
real_idt:
        .word   0x3ff
        .long   0
protected_idt:
        .word   0
        .long   0
        .balign 4
stack:  .long   0
registers: .fill 9, 4, 0
