// KVM's interface for Swift, which imports neither ioctl, nor the macros that make its request numbers, nor flexible arrays.
// Linux, Documentation/virt/kvm/api.rst.
#ifndef DEMUX_CKVM_H
#define DEMUX_CKVM_H

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

// Everything here returns what ioctl returned: -1 with errno set when the kernel refuses.

// The system descriptor, of /dev/kvm.
static inline int demux_kvm_api_version(int kvm) { return ioctl(kvm, KVM_GET_API_VERSION, 0UL); }
static inline int demux_kvm_has(int kvm, int capability) { return ioctl(kvm, KVM_CHECK_EXTENSION, (unsigned long)capability); }
static inline int demux_kvm_create_vm(int kvm) { return ioctl(kvm, KVM_CREATE_VM, 0UL); }
static inline int demux_kvm_run_length(int kvm) { return ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL); }

// A virtual machine's descriptor.
static inline int demux_kvm_set_tss(int vm, unsigned long address) { return ioctl(vm, KVM_SET_TSS_ADDR, address); }
static inline int demux_kvm_create_irqchip(int vm) { return ioctl(vm, KVM_CREATE_IRQCHIP, 0UL); }
static inline int demux_kvm_create_pit(int vm) {
    struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
    if (ioctl(vm, KVM_CREATE_PIT2, &pit) != 0) return -1;
    // A tick that the guest missed is not made up for: it would get all that it missed at once.
    struct kvm_reinject_control control = { .pit_reinject = 0 };
    (void)ioctl(vm, KVM_REINJECT_CONTROL, &control);
    return 0;
}
static inline int demux_kvm_create_vcpu(int vm, int number) { return ioctl(vm, KVM_CREATE_VCPU, (unsigned long)number); }
static inline int demux_kvm_set_line(int vm, uint32_t line, int level) {
    struct kvm_irq_level change = { .irq = line, .level = (uint32_t)(level != 0) };
    return ioctl(vm, KVM_IRQ_LINE, &change);
}
static inline int demux_kvm_signal_msi(int vm, uint64_t address, uint32_t data) {
    struct kvm_msi message = { .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data };
    return ioctl(vm, KVM_SIGNAL_MSI, &message);
}
// A length of 0 takes the slot away.
static inline int demux_kvm_set_memory(int vm, uint32_t slot, int log_dirty, uint64_t address, uint64_t length, void *memory) {
    struct kvm_userspace_memory_region region = {
        .slot = slot, .flags = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0, .guest_phys_addr = address, .memory_size = length,
        .userspace_addr = (uint64_t)(uintptr_t)memory };
    return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}
// `bitmap` has a whole number of 64-bit words. Gets and clears.
static inline int demux_kvm_dirty_log(int vm, uint32_t slot, void *bitmap) {
    struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };
    return ioctl(vm, KVM_GET_DIRTY_LOG, &log);
}

// A vCPU's descriptor.
static inline int demux_kvm_run(int vcpu) { return ioctl(vcpu, KVM_RUN, 0UL); }
static inline int demux_kvm_get_registers(int vcpu, struct kvm_regs *registers) { return ioctl(vcpu, KVM_GET_REGS, registers); }
static inline int demux_kvm_set_registers(int vcpu, struct kvm_regs *registers) { return ioctl(vcpu, KVM_SET_REGS, registers); }
static inline int demux_kvm_get_system_registers(int vcpu, struct kvm_sregs *registers) { return ioctl(vcpu, KVM_GET_SREGS, registers); }
static inline int demux_kvm_set_system_registers(int vcpu, struct kvm_sregs *registers) { return ioctl(vcpu, KVM_SET_SREGS, registers); }

// Gives the vCPU every CPU feature that the kernel can give, with its own APIC number.
static inline int demux_kvm_give_features(int kvm, int vcpu, uint32_t apic) {
    enum { most = 256 };
    struct kvm_cpuid2 *list = calloc(1, sizeof *list + most * sizeof list->entries[0]);
    if (!list) { errno = ENOMEM; return -1; }
    list->nent = most;
    int result = ioctl(kvm, KVM_GET_SUPPORTED_CPUID, list);
    if (result == 0) {
        for (uint32_t index = 0; index < list->nent && index < most; index++) {
            struct kvm_cpuid_entry2 *entry = &list->entries[index];
            if (entry->function == 1) entry->ebx = (entry->ebx & 0x00ffffff) | apic << 24;
            if (entry->function == 0xb || entry->function == 0x1f) entry->edx = apic;
        }
        result = ioctl(vcpu, KVM_SET_CPUID2, list);
    }
    int reason = errno;
    free(list);
    errno = reason;
    return result;
}

// The page that KVM shares with whoever runs the vCPU. Its unions have members without names, which Swift does not reach.
static inline uint32_t demux_kvm_exit_reason(const struct kvm_run *run) { return run->exit_reason; }
static inline void demux_kvm_set_immediate_exit(struct kvm_run *run, int on) { __atomic_store_n(&run->immediate_exit, (uint8_t)(on != 0), __ATOMIC_SEQ_CST); }

struct demux_kvm_port_exit { uint64_t data_offset; uint32_t count; uint16_t port; uint8_t size; uint8_t is_write; };
static inline struct demux_kvm_port_exit demux_kvm_port_exit(const struct kvm_run *run) {
    return (struct demux_kvm_port_exit){ run->io.data_offset, run->io.count, run->io.port, run->io.size, run->io.direction == KVM_EXIT_IO_OUT };
}
struct demux_kvm_memory_exit { uint64_t address; uint8_t *data; uint32_t length; uint8_t is_write; };
static inline struct demux_kvm_memory_exit demux_kvm_memory_exit(struct kvm_run *run) {
    return (struct demux_kvm_memory_exit){ run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write };
}
static inline uint32_t demux_kvm_suberror(const struct kvm_run *run) { return run->internal.suberror; }
static inline uint64_t demux_kvm_entry_failure(const struct kvm_run *run) { return run->fail_entry.hardware_entry_failure_reason; }
static inline uint32_t demux_kvm_system_event(const struct kvm_run *run) { return run->system_event.type; }

// A signal that does nothing but interrupt KVM_RUN. (No SA_RESTART: KVM_RUN is to return.)
static inline void demux_kvm_interrupted(int number) { (void)number; }
static inline int demux_kvm_install_interruption(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = demux_kvm_interrupted;
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL);
}
// Lets the calling thread take it: a thread begins with its maker's mask.
static inline int demux_kvm_allow_interruption(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

#endif
