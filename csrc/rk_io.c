/* Waiting, sending and receiving in chunks: what packet sockets and raw IP sockets have in common
 * (sendmmsg(2), recvmmsg(2), socket(7)). */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define SECOND_NS 1000000000

_Static_assert(sizeof(struct rk_insn) == sizeof(struct sock_filter), "attached as it is");

int64_t rk_io_time(const struct timespec *time)
{
    return (int64_t)time->tv_sec * SECOND_NS + time->tv_nsec;
}

int rk_io_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static int wait_for(struct pollfd *wanted, uint32_t n, int64_t deadline_ns)
{
    int64_t now_ns = rk_monotonic_ns();
    int64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = left_ns / SECOND_NS, .tv_nsec = left_ns % SECOND_NS};
    int ready = ppoll(wanted, n, &timeout, NULL);
    return ready < 0 ? -errno : ready;
}

int rk_io_wait(int fd, short events, int64_t deadline_ns)
{
    struct pollfd wanted = {.fd = fd, .events = events};
    return wait_for(&wanted, 1, deadline_ns);
}

int rk_wait(const int *fds, uint32_t n, int64_t deadline_ns)
{
    struct pollfd wanted[RK_WAIT_MAX];
    if (n > RK_WAIT_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++)
        wanted[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    return wait_for(wanted, n, deadline_ns);
}

int rk_io_send_again(int fd, int error, int64_t deadline_ns, int64_t *pause_ns)
{
    if (error == -EAGAIN || error == -EWOULDBLOCK)
        return rk_io_wait(fd, POLLOUT, deadline_ns);
    if (error != -ENOBUFS)
        return error;
    /* The queue of the device is full, and nothing tells when it is not: ask again, ever more seldom. */
    int64_t now_ns = rk_monotonic_ns();
    if (now_ns >= deadline_ns)
        return -ENOBUFS;
    int64_t pause = *pause_ns == 0 ? 50000 : *pause_ns < 1000000 ? *pause_ns * 2 : *pause_ns;
    *pause_ns = pause;
    if (pause > deadline_ns - now_ns)
        pause = deadline_ns - now_ns;
    struct timespec time = {.tv_sec = 0, .tv_nsec = pause};
    return nanosleep(&time, NULL) == 0 ? 1 : -errno;
}

int rk_io_set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0 ? 0 : -errno;
}

int rk_io_set_buffer(int fd, uint32_t buffer_len)
{
    if (buffer_len == 0)
        return 0;
    int value = buffer_len > INT32_MAX ? INT32_MAX : (int)buffer_len;
    /* The first needs CAP_NET_ADMIN; without it the system's limit (net.core.rmem_max) holds. */
    if (rk_io_set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, value) == 0)
        return 0;
    return rk_io_set_option(fd, SOL_SOCKET, SO_RCVBUF, value);
}

int rk_io_attach_filter(int fd, const struct rk_insn *insns, uint32_t insns_n)
{
    if (insns_n > BPF_MAXINSNS)
        return -EINVAL;
    struct sock_filter copy[BPF_MAXINSNS];
    memcpy(copy, insns, insns_n * sizeof *insns);
    struct sock_fprog program = {.len = (unsigned short)insns_n, .filter = copy};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}

int rk_outbox_offer(struct rk_outbox *outbox, int fd, const struct rk_batch *batch, uint32_t first, uint32_t n,
                    void *sock, rk_prepare *prepare)
{
    if (n > RK_CHUNK)
        n = RK_CHUNK;
    for (uint32_t i = 0; i < n; i++) {
        const struct rk_frame *frame = &batch->frames[first + i];
        int error = -EINVAL;
        outbox->messages[i].msg_hdr = (struct msghdr){0};
        if (rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            error = prepare(sock, frame, batch->arena + frame->offset, i, &outbox->messages[i].msg_hdr);
        if (error != 0 && i == 0)
            return error;
        if (error != 0)
            n = i; /* what comes before it can go */
    }
    int sent = sendmmsg(fd, outbox->messages, n, MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

int rk_outbox_send(struct rk_outbox *outbox, int fd, const struct rk_batch *batch, uint32_t first, uint32_t n,
                   int64_t deadline_ns, void *sock, rk_offer *offer)
{
    if (!rk_range_ok(first, n, batch->n))
        return -EINVAL;
    uint32_t done = 0;
    int64_t pause_ns = 0;
    while (done < n) {
        int sent = offer(sock, batch, first + done, n - done);
        if (sent > 0) {
            done += (uint32_t)sent;
            continue;
        }
        if (sent == -ENOBUFS)
            outbox->full_n++;
        if (done > 0)
            break; /* whatever is wrong with the next frame, the next call meets it again */
        int again = rk_io_send_again(fd, sent, deadline_ns, &pause_ns);
        if (again <= 0)
            return again;
    }
    return (int)done;
}

bool rk_io_is_gone(int fd)
{
    struct sockaddr_ll name;
    socklen_t name_len = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &name_len) == 0 && name.sll_ifindex < 0;
}

bool rk_io_is_up(int fd, int ifindex)
{
    struct ifreq request = {.ifr_ifindex = ifindex};
    return ioctl(fd, SIOCGIFNAME, &request) == 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0 &&
           request.ifr_flags & IFF_UP;
}

uint32_t rk_io_mtu(int fd, int ifindex)
{
    struct ifreq request = {.ifr_ifindex = ifindex};
    if (ioctl(fd, SIOCGIFNAME, &request) != 0 || ioctl(fd, SIOCGIFMTU, &request) != 0)
        return 0;
    return (uint32_t)request.ifr_mtu;
}

uint32_t rk_io_unfit(const struct rk_batch *batch, uint32_t first, uint32_t n, uint32_t longest)
{
    uint32_t unfit = 1;
    while (unfit < n && batch->frames[first + unfit].cap_len > longest)
        unfit++;
    return unfit;
}

void rk_io_put_sll2(const struct sockaddr_ll *name, uint8_t *octets)
{
    memset(octets, 0, RK_SLL2_LEN);
    rk_store_be16(octets, ntohs(name->sll_protocol));
    rk_store_be32(octets + 4, (uint32_t)name->sll_ifindex);
    rk_store_be16(octets + 8, name->sll_hatype);
    octets[10] = name->sll_pkttype;
    octets[11] = name->sll_halen;
    memcpy(octets + 12, name->sll_addr, sizeof name->sll_addr);
}

int rk_inbox_open(struct rk_inbox *inbox)
{
    /* Pages are taken from the system when the first frame touches them: small frames cost one each. */
    void *slots = mmap(NULL, (size_t)RK_CHUNK * RK_SLOT_LEN, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slots == MAP_FAILED)
        return -errno;
    inbox->slots = slots;
    for (uint32_t i = 0; i < RK_CHUNK; i++) {
        inbox->iov[i][0] = (struct iovec){inbox->prefixes[i], sizeof(struct virtio_net_hdr)};
        inbox->iov[i][1] = (struct iovec){inbox->slots + (size_t)i * RK_SLOT_LEN, RK_SLOT_LEN};
    }
    return 0;
}

void rk_inbox_close(struct rk_inbox *inbox)
{
    if (inbox->slots)
        munmap(inbox->slots, (size_t)RK_CHUNK * RK_SLOT_LEN);
    inbox->slots = NULL;
}

/* Receive up to n messages, without waiting, into the empty inbox. */
static int fill(struct rk_inbox *inbox, int fd, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        inbox->messages[i].msg_hdr = (struct msghdr){
            .msg_name = inbox->nameless ? NULL : &inbox->names[i],
            .msg_namelen = inbox->nameless ? 0 : sizeof inbox->names[i],
            .msg_iov = inbox->iov[i] + (inbox->prefixed ? 0 : 1),
            .msg_iovlen = inbox->prefixed ? 2 : 1,
            .msg_control = inbox->control[i],
            .msg_controllen = RK_CONTROL_LEN,
        };
    }
    int got = -1;
    if (inbox->errors)
        got = recvmmsg(fd, inbox->messages, n, MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE, NULL);
    if (got <= 0)
        got = recvmmsg(fd, inbox->messages, n, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (got < 0)
        return -errno;
    inbox->first = 0;
    inbox->n = (uint32_t)got;
    return got;
}

/* Copy as much as there is room for; returns what is left of the room. */
static uint32_t put(uint8_t **to, uint32_t room, const uint8_t *octets, uint32_t len)
{
    if (len > room)
        len = room;
    memcpy(*to, octets, len);
    *to += len;
    return room - len;
}

/* Move the next message to the batch; false when the arena has no room for it. */
static bool hand_out(struct rk_inbox *inbox, struct rk_batch *batch, const void *sock, rk_describe *describe)
{
    uint32_t i = inbox->first;
    uint32_t prefix_len = inbox->prefixed ? sizeof(struct virtio_net_hdr) : 0;
    uint32_t message_len = inbox->messages[i].msg_len;
    uint32_t wire_len = message_len < prefix_len ? 0 : message_len - prefix_len;
    struct rk_arrival arrival = {
        .frame = {.wire_len = wire_len},
        .octets = inbox->slots + (size_t)i * RK_SLOT_LEN,
        .octets_len = wire_len < RK_SLOT_LEN ? wire_len : RK_SLOT_LEN,
    };
    describe(sock, &inbox->messages[i].msg_hdr, inbox->prefixes[i], &arrival);
    if (arrival.unwanted) {
        inbox->first++;
        return true;
    }

    /* Only a frame longer than the whole arena is cut; the record tells. */
    uint32_t room = batch->arena_len - batch->arena_used;
    if (arrival.octets_len + arrival.extra_len > room && batch->n > 0)
        return false;
    uint8_t *to = batch->arena + batch->arena_used;
    uint32_t left = put(&to, room, arrival.octets, arrival.at);
    left = put(&to, left, arrival.extra, arrival.extra_len);
    left = put(&to, left, arrival.octets + arrival.at, arrival.octets_len - arrival.at);
    arrival.frame.offset = batch->arena_used;
    arrival.frame.cap_len = room - left;
    arrival.frame.wire_len += arrival.extra_len;
    if (arrival.frame.time_ns == 0)
        arrival.frame.time_ns = rk_realtime_ns();
    batch->arena_used += arrival.frame.cap_len;
    batch->frames[batch->n++] = arrival.frame;
    inbox->first++;
    return true;
}

int rk_inbox_receive(struct rk_inbox *inbox, int fd, struct rk_batch *batch, int64_t deadline_ns, void *sock,
                     rk_describe *describe, rk_receive_failed *failed)
{
    if (batch->capacity == 0 || batch->arena_len == 0)
        return -EINVAL;
    batch->n = 0;
    batch->arena_used = 0;
    bool waited = false;
    for (;;) {
        while (inbox->first < inbox->n && batch->n < batch->capacity)
            if (!hand_out(inbox, batch, sock, describe))
                return (int)batch->n;
        uint32_t room = batch->capacity - batch->n;
        if (room == 0)
            return (int)batch->n;
        int error = inbox->error;
        if (error != 0) {
            if (batch->n > 0)
                return (int)batch->n;
            inbox->error = 0;
            return error;
        }
        int got = fill(inbox, fd, room < RK_CHUNK ? room : RK_CHUNK);
        if (got >= 0 || got == -EINTR)
            continue;
        if (got == -EAGAIN || got == -EWOULDBLOCK) {
            if (batch->n > 0)
                return (int)batch->n;
            /* What waits may be of another kind (a transmit time stamp): then it waits for ever. */
            if (waited && rk_monotonic_ns() >= deadline_ns)
                return 0;
            int ready = rk_io_wait(fd, POLLIN, deadline_ns);
            if (ready <= 0)
                return ready;
            waited = true;
        } else {
            inbox->error = failed(sock, got);
        }
    }
}
