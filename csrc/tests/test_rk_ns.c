/* Namespaces: there and back, refusals, and death with the parent. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rk.h"

enum { SKIPPED = 77 };

static int failures;

#define EXPECT(got, want, ...)                                                  \
    do {                                                                        \
        long long got_ = (got), want_ = (want);                                 \
        if (got_ != want_ && failures++ < 20) {                                 \
            fprintf(stderr, "line %d: %lld, want %lld: ", __LINE__, got_, want_); \
            fprintf(stderr, __VA_ARGS__);                                       \
            fputc('\n', stderr);                                                \
        }                                                                       \
    } while (0)

/* What tells one namespace from another. */
static ino_t current_network(void)
{
    struct stat status = {0};
    EXPECT(stat("/proc/thread-self/ns/net", &status), 0, "stat");
    return status.st_ino;
}

static void check_arguments(void)
{
    EXPECT(rk_ns_unshare(0), -EINVAL, "nothing");
    EXPECT(rk_ns_unshare(1u << 20), -EINVAL, "an unknown kind");
    EXPECT(rk_ns_unshare(RK_NS_NET | 1u << 20), -EINVAL, "a known and an unknown kind");
    EXPECT(rk_ns_enter(0, RK_NS_NET | RK_NS_USER), -EINVAL, "two kinds");
    EXPECT(rk_ns_enter(-1, RK_NS_NET), -EBADF, "no descriptor");
}

static void check_round_trip(void)
{
    ino_t before = current_network();
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    EXPECT(rk_ns_unshare(RK_NS_NET), 0, "unshare");
    ino_t inside = current_network();
    EXPECT(inside != before, 1, "another namespace");
    EXPECT(rk_ns_enter(home, RK_NS_USER), -EINVAL, "a network namespace is no user namespace");
    EXPECT(current_network() == inside, 1, "a refusal moves nothing");
    EXPECT(rk_ns_enter(home, RK_NS_NET), 0, "enter");
    EXPECT(current_network() == before, 1, "home again");
    close(home);
}

/* A child whose parent ends, waiting on a pipe that only it holds open at the far end: end-of-file within the
 * test's time means that the kernel killed it. */
static void check_death_with_parent(void)
{
    int ready[2], held[2];
    if (pipe(ready) != 0 || pipe(held) != 0) {
        EXPECT(errno, 0, "pipe");
        return;
    }
    pid_t parent = fork();
    if (parent == 0) {
        pid_t self = getpid();
        if (fork() == 0) {
            char result = (char)-rk_ns_die_with_parent(self);
            if (write(ready[1], &result, 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        char result = 1;
        _exit(read(ready[0], &result, 1) == 1 ? result : 1);
    }
    close(held[1]);
    int status = -1;
    EXPECT(waitpid(parent, &status, 0), parent, "wait");
    EXPECT(status, 0, "asked for death with the parent");
    char octet;
    EXPECT(read(held[0], &octet, 1), 0, "end-of-file");
    close(held[0]);
    close(ready[0]);
    close(ready[1]);
    EXPECT(rk_ns_die_with_parent(-1), -ESRCH, "a parent that is gone");
}

int main(void)
{
    check_death_with_parent();
    check_arguments();
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        fprintf(stderr, "no namespaces allowed here\n");
        return failures ? 1 : SKIPPED;
    }
    check_round_trip();
    if (failures)
        fprintf(stderr, "%d failures\n", failures);
    return failures != 0;
}
