/* Namespaces: the few system calls that the lab and the sockets need (namespaces(7), user_namespaces(7)).
 *
 * Nothing here gives a namespace a name in the file system: it lives as long as a process in it or a file
 * descriptor that refers to it, so that nothing is left behind however a program ends. */
#define _GNU_SOURCE
#include "rk.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The kernel's flags for a set of RK_NS_...; -1 for a set that is empty or holds something unknown. */
static int clone_flags(uint32_t namespaces)
{
    static const struct {
        uint32_t kind;
        int flag;
    } kinds[] = {
        {RK_NS_NET, CLONE_NEWNET},
        {RK_NS_USER, CLONE_NEWUSER},
        {RK_NS_PID, CLONE_NEWPID},
        {RK_NS_MOUNT, CLONE_NEWNS},
    };
    int flags = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (namespaces & kinds[i].kind) {
            flags |= kinds[i].flag;
            namespaces &= ~kinds[i].kind;
        }
    }
    return namespaces == 0 && flags != 0 ? flags : -1;
}

int rk_ns_unshare(uint32_t namespaces)
{
    int flags = clone_flags(namespaces);
    if (flags < 0)
        return -EINVAL;
    return unshare(flags) == 0 ? 0 : -errno;
}

int rk_ns_enter(int fd, uint32_t kind)
{
    int flag = clone_flags(kind);
    /* More than one kind would be valid for a pid file descriptor only; a namespace has exactly one. */
    if (flag < 0 || (kind & (kind - 1)) != 0)
        return -EINVAL;
    return setns(fd, flag) == 0 ? 0 : -errno;
}

int rk_ns_die_with_parent(int parent_pid)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return -errno;
    /* The parent may have ended before the request was in place; then nobody would ever send the signal. */
    return getppid() == parent_pid ? 0 : -ESRCH;
}

int rk_ns_mount_proc(void)
{
    /* Private first: otherwise the new /proc would propagate to the namespace this one was copied from. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return -errno;
    return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0 ? 0 : -errno;
}
