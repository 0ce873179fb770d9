// agent.c: the guest program that makes whatever access dom0 asks for, on any vCPU. See mailbox.h.
#include "guest.h"
#include "mailbox.h"

static void run(struct agent_mailbox *m)
{
    u32 opcode = m->opcode, size = m->size, count = m->count, buffer = m->buffer, address = m->address;
    int down = m->flags & AGENT_FLAG_DOWN, single = opcode == AGENT_MMIO_READ || opcode == AGENT_MMIO_WRITE;
    if (opcode != AGENT_NOP && size != 1 && size != 2 && size != 4 && !(size == 8 && single)) {
        m->status = AGENT_REFUSED;
        return;
    }
    m->status = AGENT_OK;
    switch (opcode) {
    case AGENT_PORT_READ: m->value = in(address, size); break;
    case AGENT_PORT_WRITE: out(address, size, m->value); break;
    case AGENT_REP_INS: rep_ins(address, buffer, size, count, down); break;
    case AGENT_REP_OUTS: rep_outs(address, buffer, size, count, down); break;
    case AGENT_MMIO_READ: m->value = mmio_read(address, size); break;
    case AGENT_MMIO_WRITE: mmio_write(address, size, m->value); break;
    case AGENT_REP_MOVS_OUT: rep_movs(address, buffer, size, count, down); break;
    case AGENT_REP_MOVS_IN: rep_movs(buffer, address, size, count, down); break;
    case AGENT_REP_STOS: rep_stos(address, m->value, size, count, down); break;
    case AGENT_REP_MOVS_MMIO: rep_movs(m->value, address, size, count, down); break;
    case AGENT_PCI_READ: out(0xcf8, 4, address & ~3u); m->value = in(0xcfc + (address & 3), size); break;
    case AGENT_PCI_WRITE: out(0xcf8, 4, address & ~3u); out(0xcfc + (address & 3), size, m->value); break;
    case AGENT_NOP: break;
    default: m->status = AGENT_REFUSED;
    }
}

void vcpu_main(unsigned vcpu)
{
    struct agent_mailbox *m = (void *)(AGENT_MAILBOXES + vcpu * AGENT_MAILBOX_SIZE);
    if (vcpu == 0) {
        for (u32 *p = (u32 *)AGENT_MAILBOXES; p < (u32 *)(AGENT_MAILBOXES + 4096); p++) *p = 0;
        start_vcpus();
    }
    // An interrupt only ends doze(), so an access is never disturbed by one.
    m->magic = AGENT_MAGIC;
    print("AGENT up on vCPU %u\n", vcpu);
    for (u32 idle = 0;;) {
        u32 wanted = __atomic_load_n(&m->submitted, __ATOMIC_ACQUIRE);
        if (wanted != m->done) {
            run(m);
            __atomic_store_n(&m->done, wanted, __ATOMIC_RELEASE);
            if (idle >= 200) timer(0);
            idle = 0;
        } else if (idle < 200) {
            pauses(2000);               // busy: the next command comes soon
            idle++;
        } else {
            if (idle == 200) { timer(20); idle++; }
            doze();                     // idle: look every 20 ms
        }
    }
}
