// The stable Xen libraries (Debian: libxen-dev), and what Swift cannot call of the C library for giving up privileges.
// libxenctrl is not among them: its ABI changes with every Xen, so the coordinator loads it at run time.
// What a toolstack may see of hvm_op.h: the modes of the buffered ring.
#define __XEN_TOOLS__ 1
#include <xendevicemodel.h>
#include <xenforeignmemory.h>
#include <xenevtchn.h>
#include <xenstore.h>
#include <xentoolcore.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/dm_op.h>
#include <xen/memory.h>
#include <grp.h>
#include <stddef.h>
#include <sys/types.h>

_Static_assert(sizeof(ioreq_t) == 32, "CIoreq's demux_ioreq must match struct ioreq");
_Static_assert(offsetof(ioreq_t, vp_eport) == 24, "CIoreq's demux_ioreq must match struct ioreq");
_Static_assert(offsetof(ioreq_t, type) == 31, "CIoreq's demux_ioreq must match struct ioreq");
_Static_assert(sizeof(buffered_iopage_t) == 4096, "CIoreq's demux_ring must match struct buffered_iopage");

enum { DEMUX_XENMEM_RESOURCE_IOREQ_SERVER = XENMEM_resource_ioreq_server };
enum { DEMUX_BUFIOREQ_OFF = HVM_IOREQSRV_BUFIOREQ_OFF, DEMUX_BUFIOREQ_ATOMIC = HVM_IOREQSRV_BUFIOREQ_ATOMIC };

// The C library's own functions, not the bare system calls: those would change only the calling thread. They are
// declared here because the headers show them to _GNU_SOURCE only (see CLinux).
extern int setresuid(uid_t, uid_t, uid_t);
extern int setresgid(gid_t, gid_t, gid_t);
extern int getresuid(uid_t *, uid_t *, uid_t *);
extern int getresgid(gid_t *, gid_t *, gid_t *);
extern int prctl(int, ...);

static inline int demux_drop_groups(void) { return setgroups(0, NULL); }
static inline int demux_set_ids(uid_t uid, gid_t gid) { return setresgid(gid, gid, gid) < 0 ? -1 : setresuid(uid, uid, uid); }
// 1 when all three of each kind are these, 0 when not.
static inline int demux_ids_are(uid_t uid, gid_t gid) {
    uid_t u[3];
    gid_t g[3];
    if (getresuid(&u[0], &u[1], &u[2]) < 0 || getresgid(&g[0], &g[1], &g[2]) < 0) return 0;
    for (int i = 0; i < 3; i++) if (u[i] != uid || g[i] != gid) return 0;
    return 1;
}
// 1 when the process can become root again, or a member of root's group that it is not, in whichever way. To be called
// once it must not: it stays root when it can.
static inline int demux_can_return_to_root(gid_t gid) {
    uid_t same = (uid_t)-1;
    gid_t same_group = (gid_t)-1;
    if (setresuid(same, 0, same) == 0 || setresuid(0, same, same) == 0 || setresuid(same, same, 0) == 0) return 1;
    if (gid == 0) return 0;
    return setresgid(same_group, 0, same_group) == 0 || setresgid(0, same_group, same_group) == 0 || setgroups(0, NULL) == 0;
}
static inline int demux_no_new_privileges(void) { return prctl(38 /* PR_SET_NO_NEW_PRIVS */, 1L, 0L, 0L, 0L); }
