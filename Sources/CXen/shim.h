// The stable Xen libraries (Debian: libxen-dev). libxenctrl is not among them: its ABI changes with every Xen, so
// the coordinator loads it at run time.
#include <xendevicemodel.h>
#include <xenforeignmemory.h>
#include <xenevtchn.h>
#include <xenstore.h>
#include <xentoolcore.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/dm_op.h>
#include <xen/memory.h>
#include <stddef.h>

_Static_assert(sizeof(ioreq_t) == 32, "CIoreq's demux_ioreq must match struct ioreq");
_Static_assert(offsetof(ioreq_t, vp_eport) == 24, "CIoreq's demux_ioreq must match struct ioreq");
_Static_assert(offsetof(ioreq_t, type) == 31, "CIoreq's demux_ioreq must match struct ioreq");
_Static_assert(sizeof(buffered_iopage_t) == 4096, "CIoreq's demux_ring must match struct buffered_iopage");

enum { DEMUX_XENMEM_RESOURCE_IOREQ_SERVER = XENMEM_resource_ioreq_server };
