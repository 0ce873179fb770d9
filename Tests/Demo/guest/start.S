# The demo guest's first instructions and what C cannot say. The ROM lies at 0xf0000; the program is linked for 0x1000 and copies itself
# there. It stays in real mode, with data segments that reach 4 GiB ("unreal" mode), so that BIOS calls and a linear frame buffer go together.
        .code16
        .section .text.start, "ax"
        .globl _start
_start: cli
        cld
        mov $0xf000, %ax
        mov %ax, %ds
        xor %ax, %ax
        mov %ax, %es
        mov %ax, %ss
        mov $0xfff0, %esp
        xor %si, %si
        mov $0x1000, %di
        mov $program_words, %cx
        rep movsl
        ljmp $0, $inside
inside: xor %ax, %ax
        mov %ax, %ds
        lgdtl table
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        mov $8, %bx
        mov %bx, %ds
        mov %bx, %es
        and $0xfe, %al
        mov %eax, %cr0
        ljmp $0, $flat
flat:   xor %ax, %ax
        mov %ax, %ds
        mov %ax, %es
        calll guest_main
1:      hlt
        jmp 1b

        .balign 8
segments: .quad 0, 0x00cf93000000ffff
table:  .word 15
        .long segments

        .text
# void bios_video(struct registers *): int 0x10 with AX, BX, CX, DX, ES, DI, BP from there, and back.
        .globl bios_video
bios_video:
        pushal
        mov 36(%esp), %esi
        pushl %esi
        mov 0(%esi), %eax
        mov 4(%esi), %ebx
        mov 8(%esi), %ecx
        mov 12(%esi), %edx
        mov 20(%esi), %edi
        mov 24(%esi), %ebp
        movw 16(%esi), %es
        int $0x10
        cli
        popl %esi
        pushw $0
        popw %ds
        mov %eax, 0(%esi)
        mov %ebx, 4(%esi)
        mov %ecx, 8(%esi)
        mov %edx, 12(%esi)
        movw %es, 16(%esi)
        mov %edi, 20(%esi)
        mov %ebp, 24(%esi)
        xor %ax, %ax
        mov %ax, %es
        cld
        sti
        popal
        retl

# void rom_start(unsigned function): the expansion ROM's initialisation at 0xc000:3, AX telling where its function is.
        .globl rom_start
rom_start:
        pushal
        mov 36(%esp), %eax
        lcallw $0xc000, $3
        xor %ax, %ax
        mov %ax, %ds
        mov %ax, %es
        cld
        popal
        retl

# void copy_words(unsigned to, unsigned from, unsigned count), void fill_words(unsigned to, unsigned value, unsigned count)
        .globl copy_words, fill_words
copy_words:
        pushl %esi
        pushl %edi
        mov 12(%esp), %edi
        mov 16(%esp), %esi
        mov 20(%esp), %ecx
        addr32 rep movsl
        popl %edi
        popl %esi
        retl
fill_words:
        pushl %edi
        mov 8(%esp), %edi
        mov 12(%esp), %eax
        mov 16(%esp), %ecx
        addr32 rep stosl
        popl %edi
        retl

# void wait_interrupt(void)
        .globl wait_interrupt
wait_interrupt:
        sti
        hlt
        retl

# Interrupts: the timer counts, the keyboard keeps its byte, everything else returns.
        .globl on_timer, on_keyboard, on_nothing, on_master, on_slave
on_timer:
        pushl %eax
        pushw %ds
        pushw $0
        popw %ds
        incl ticks
        mov $0x20, %al
        out %al, $0x20
        popw %ds
        popl %eax
        iret
on_keyboard:
        pushal
        pushw %ds
        pushw $0
        popw %ds
        in $0x60, %al
        movzbl key_head, %ebx
        mov %al, keys(%ebx)
        incb key_head
        mov $0x20, %al
        out %al, $0x20
        popw %ds
        popal
        iret
on_slave:
        pushw %ax
        mov $0x20, %al
        out %al, $0xa0
        out %al, $0x20
        popw %ax
        iret
on_master:
        pushw %ax
        mov $0x20, %al
        out %al, $0x20
        popw %ax
on_nothing:
        iret

# The reset vector.
        .section .reset, "ax"
        ljmp $0xf000, $0
        .ascii "DEMUX DEMO"
        .byte 0
