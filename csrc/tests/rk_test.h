/* rk_test.h: what the socket engine's test programs share. */
#ifndef RK_TEST_H
#define RK_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "rk.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND_NS_ 1000000000LL

static int failures;

#define EXPECT(got, want)                                                                            \
    do {                                                                                             \
        long long got_ = (long long)(got), want_ = (long long)(want);                                \
        if (got_ != want_ && failures++ < 20)                                                        \
            fprintf(stderr, "%s:%d: %s is %lld, want %lld\n", __FILE__, __LINE__, #got, got_, want_); \
    } while (0)

/* A batch with room of its own, to be freed as one block with drop_batch. */
static inline struct rk_batch *new_batch(uint32_t capacity, uint32_t arena_len)
{
    struct rk_batch *batch = calloc(1, sizeof *batch);
    /* Exactly as long as they claim to be, so that the sanitizer sees every octet too far. */
    *batch = (struct rk_batch){.arena = malloc(arena_len),
                               .frames = malloc(capacity * sizeof(struct rk_frame)),
                               .arena_len = arena_len,
                               .capacity = capacity};
    return batch;
}

static inline void drop_batch(struct rk_batch *batch)
{
    free(batch->arena);
    free(batch->frames);
    free(batch);
}

static inline void add(struct rk_batch *batch, const void *octets, uint32_t len)
{
    EXPECT(rk_batch_append(batch, octets, len, &len, 1, 0), 0);
}

static inline bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return done;
}

/* Move into a network namespace of our own, by way of a user namespace where that is needed, and bring
 * loopback up.  False, with the reason told, where that is not permitted. */
static inline bool enter_private_network(void)
{
    char uids[32], gids[32];
    snprintf(uids, sizeof uids, "0 %u 1", (unsigned)geteuid());
    snprintf(gids, sizeof gids, "0 %u 1", (unsigned)getegid());
    if (unshare(CLONE_NEWNET) != 0 &&
        (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 || !write_file("/proc/self/setgroups", "deny") ||
         !write_file("/proc/self/uid_map", uids) || !write_file("/proc/self/gid_map", gids))) {
        printf("skipped: no private network namespace: %s\n", strerror(errno));
        return false;
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    bool done = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &up) == 0;
    if (!done)
        printf("skipped: loopback does not come up: %s\n", strerror(errno));
    if (fd >= 0)
        close(fd);
    return done;
}

static inline int64_t in_ms(int64_t ms)
{
    return rk_monotonic_ns() + ms * 1000000;
}

static inline uint64_t next_number(uint64_t *state) /* xorshift64 */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline int result(void)
{
    if (failures > 0)
        fprintf(stderr, "%d failures\n", failures);
    return failures > 0;
}

#endif
