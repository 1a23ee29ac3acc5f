/* Link relay: an emulated wire between two interfaces.
 *
 * Stands where netem(8) would: many kernels lack it, and its losses cannot be repeated.  Frames are taken from
 * one packet socket (packet(7)), go through the emulated direction (rk_emu.c), which says what becomes of each
 * and when it is due, and leave by another.
 *
 * A frame's time is the kernel's, taken when it came, so that a relay that wakes up late does not delay it more.
 * Hosts hand over what network cards would finish: checksums, and segments of up to 64 kB.  Both are finished
 * here, before fates are dealt (rk_gso.c). */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_gso.h"
#include "rk_internal.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BURST = 32,                     /* frames for each system call */
    HEADROOM = RK_GSO_INFO_LEN + 6, /* what the kernel says of a frame, padded so that its IP header is aligned */
    FRAME_ROOM = 65536 + 80,        /* the largest segment the kernel hands over, and its link header */
    TAG_OFFSET = 2 * ETHER_ADDR_LEN,/* an 802.1Q tag follows the addresses (IEEE 802.1Q, 9.3) */
    TAG_LEN = 4,
    RECEIVE_BUFFER = 4 << 20,
    MOST_BURSTS = 16,               /* taken before what is due gets its turn */
    SECOND = 1000000000,
};

struct counters {
    _Atomic uint64_t received, sent, cut, refused, overflow;
    _Atomic uint64_t late[RK_PACE_BINS]; /* frames by how long after their moment they were sent */
};

struct direction {
    int in, out; /* packet sockets, borrowed from struct rk_link */
    int64_t last_ns; /* when the last frame came */
    struct rk_emu *emu;
    struct counters *counters;
};

struct rk_link {
    int in[2], out[2]; /* a socket that hears and one that speaks, on each interface */
    int ifindex[2];
    int stop;
    bool went_down; /* one of these did, and both were not seen up since */
    int64_t spin_ns, start_ns;
    struct direction directions[2];
    struct counters *counters; /* of two directions; apart, because reading drops changes them */
    uint8_t *scratch;          /* BURST times FRAME_ROOM, each behind HEADROOM */
    uint8_t *segment;          /* FRAME_ROOM */
    struct mmsghdr messages[BURST];
    struct iovec iov[BURST][2];
    struct sockaddr_ll from[BURST];
    struct rk_gso_info info[BURST];
    _Alignas(struct cmsghdr) uint8_t
        control[BURST][CMSG_SPACE(sizeof(struct tpacket_auxdata)) + CMSG_SPACE(sizeof(struct timespec))];
};

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* The 802.1Q tag that the kernel took out of a received frame, rebuilt in tag; NULL when it had none. */
static const uint8_t *taken_tag(struct msghdr *message, uint8_t tag[TAG_LEN])
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct tpacket_auxdata aux;
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA || c->cmsg_len < CMSG_LEN(sizeof aux))
            continue;
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
        if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
            return NULL;
        uint16_t tpid = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETHERTYPE_VLAN;
        tag[0] = (uint8_t)(tpid >> 8);
        tag[1] = (uint8_t)tpid;
        tag[2] = (uint8_t)(aux.tp_vlan_tci >> 8);
        tag[3] = (uint8_t)aux.tp_vlan_tci;
        return tag;
    }
    return NULL;
}

/* How far the monotonic clock is ahead of the one that the kernel's times are of. */
static int64_t measure_ahead(void)
{
    int64_t ahead_ns = 0, best_ns = INT64_MAX;
    for (int i = 0; i < 3 && best_ns > 1000; i++) { /* again, if something came between */
        int64_t before_ns = rk_monotonic_ns(), time_ns = rk_realtime_ns(), took_ns = rk_monotonic_ns() - before_ns;
        if (took_ns < best_ns) {
            best_ns = took_ns;
            ahead_ns = before_ns + took_ns / 2 - time_ns;
        }
    }
    return ahead_ns;
}

/* When a frame came, by the monotonic clock, which is ahead of the clock of the kernel's own times by `ahead`. */
static int64_t arrival_of(struct msghdr *message, int64_t ahead_ns, int64_t now_ns)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct timespec time;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPNS || c->cmsg_len < CMSG_LEN(sizeof time))
            continue;
        memcpy(&time, CMSG_DATA(c), sizeof time);
        int64_t came_ns = rk_io_time(&time) + ahead_ns;
        /* Somebody may set that clock meanwhile. */
        return came_ns > now_ns || came_ns < now_ns - SECOND ? now_ns : came_ns;
    }
    return now_ns;
}

/* What an error on a socket means for the relay: -ENODEV ends it, anything else passes (an interface that is
 * down may come up again). */
static int judge_error(struct rk_link *link, int sock, int error)
{
    if (error == EAGAIN || error == EINTR)
        return 0;
    if (error == ENETDOWN || error == ENXIO)
        link->went_down = true;
    return rk_io_is_gone(sock) ? -ENODEV : 0;
}

/* While an interface is down nothing tells that it is removed: look at both. */
static int look(struct rk_link *link)
{
    link->went_down = false;
    for (int i = 0; i < 2; i++) {
        if (rk_io_is_gone(link->in[i]))
            return -ENODEV;
        if (!rk_io_is_up(link->in[i], link->ifindex[i]))
            link->went_down = true;
    }
    return 0;
}

struct offer {
    struct direction *direction;
    int64_t time_ns;
};

static void offer(void *context, const uint8_t *frame, uint32_t len)
{
    const struct offer *offer = context;
    struct direction *d = offer->direction;
    count(&d->counters->received);
    if (rk_emu_offer(d->emu, offer->time_ns, frame, len) == -EINVAL)
        count(&d->counters->refused);
}

/* Take what has arrived, at most one burst.  Returns how many. */
static int take(struct rk_link *link, struct direction *d)
{
    for (uint32_t i = 0; i < BURST; i++) {
        link->iov[i][0] = (struct iovec){&link->info[i], sizeof link->info[i]};
        link->iov[i][1] = (struct iovec){link->scratch + (size_t)i * FRAME_ROOM + HEADROOM, FRAME_ROOM - HEADROOM};
        link->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &link->from[i],
            .msg_namelen = sizeof link->from[i],
            .msg_iov = link->iov[i],
            .msg_iovlen = 2,
            .msg_control = link->control[i],
            .msg_controllen = sizeof link->control[i],
        };
    }
    int n = recvmmsg(d->in, link->messages, BURST, MSG_DONTWAIT, NULL);
    if (n < 0) {
        if (errno == EINVAL) { /* a kind of segment that it has no words for */
            count(&d->counters->received);
            count(&d->counters->refused);
            return 1;
        }
        return judge_error(link, d->in, errno);
    }

    const int64_t ahead_ns = measure_ahead(), now_ns = rk_monotonic_ns();
    for (int i = 0; i < n; i++) {
        struct msghdr *message = &link->messages[i].msg_hdr;
        uint32_t len = link->messages[i].msg_len;
        if (link->from[i].sll_pkttype == PACKET_OUTGOING)
            continue;
        if ((message->msg_flags & MSG_TRUNC) || len < sizeof link->info[i] + ETHER_HDR_LEN) {
            count(&d->counters->received);
            count(&d->counters->refused);
            continue;
        }
        len -= (uint32_t)sizeof link->info[i];
        uint8_t tag[TAG_LEN], *frame = link->iov[i][1].iov_base;
        struct rk_gso_info info = link->info[i];
        if (taken_tag(message, tag)) {
            frame -= TAG_LEN;
            memmove(frame, frame + TAG_LEN, TAG_OFFSET);
            memcpy(frame + TAG_OFFSET, tag, TAG_LEN);
            len += TAG_LEN;
            info.csum_start = (uint16_t)(info.csum_start + TAG_LEN);
        }
        /* One after the other, whatever the clocks say: copies and the like come in between. */
        int64_t came_ns = arrival_of(message, ahead_ns, now_ns) - link->start_ns;
        d->last_ns = came_ns > d->last_ns ? came_ns : d->last_ns + 1;
        struct offer to = {d, d->last_ns};
        int pieces = rk_gso_finish(&info, frame, len, link->segment, FRAME_ROOM, offer, &to);
        if (pieces < 0) {
            count(&d->counters->received);
            count(&d->counters->refused);
        } else if (pieces > 1) {
            count(&d->counters->cut);
        }
    }
    return n;
}

/* Take all that has arrived: the emulated link is told of frames in the order of what happens there, so what is due
 * may go on only when all that came before is known. */
static int take_all(struct rk_link *link, struct direction *d)
{
    int n = BURST;
    for (int i = 0; i < MOST_BURSTS && n == BURST; i++)
        n = take(link, d);
    return n < 0 ? n : 0;
}

/* Send on what is due at a time. */
static int pass_on(struct rk_link *link, struct direction *d, int64_t until_ns)
{
    struct rk_emu_frame due[BURST];
    while (rk_emu_advance(d->emu, until_ns) > 0) {
        uint32_t n = rk_emu_peek(d->emu, due, BURST);
        for (uint32_t i = 0; i < n; i++) {
            link->iov[i][0] = (struct iovec){(uint8_t *)(uintptr_t)due[i].octets, due[i].len};
            link->messages[i].msg_hdr = (struct msghdr){.msg_iov = link->iov[i], .msg_iovlen = 1};
        }
        const int64_t now_ns = rk_monotonic_ns() - link->start_ns;
        int sent = sendmmsg(d->out, link->messages, n, MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            /* A wire does not wait: a frame that the device has no room for, or that is too large for it, is
             * gone.  An interface that is down loses them one by one. */
            int ended = judge_error(link, d->out, errno);
            if (ended)
                return ended;
            count(&d->counters->refused);
            sent = 1;
        } else {
            atomic_fetch_add_explicit(&d->counters->sent, (uint64_t)sent, memory_order_relaxed);
            for (int i = 0; i < sent; i++)
                count(&d->counters->late[rk_pace_bin(now_ns - due[i].due_ns)]);
        }
        rk_emu_take(d->emu, (uint32_t)sent);
    }
    return 0;
}

static int bind_to(int fd, int ifindex, uint16_t protocol)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = __builtin_bswap16(protocol), .sll_ifindex = ifindex};
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

/* A deaf socket first, everything set, then bound: no frame from before, none in the wrong direction. */
static int open_ear(int ifindex)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int one = 1, buffer_len = RECEIVE_BUFFER;
    struct packet_mreq promiscuous = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
    /* Kernels before 4.20 lack the option; take() looks at each frame's direction anyway. */
    (void)setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
    /* The forced size needs CAP_NET_ADMIN in the first user namespace; the plain one stops at rmem_max. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_len, sizeof buffer_len) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_len, sizeof buffer_len);
    if (setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) != 0
        || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) != 0
        || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) != 0
        || setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0
        || bind_to(fd, ifindex, ETH_P_ALL) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static int open_mouth(int ifindex)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind_to(fd, ifindex, 0) == 0)
        return fd < 0 ? -errno : fd;
    int error = errno;
    close(fd);
    return -error;
}

static int open_all(struct rk_link *link, const struct rk_emu_spec specs[2])
{
    link->counters = calloc(2, sizeof *link->counters);
    link->scratch = malloc((size_t)BURST * FRAME_ROOM);
    link->segment = malloc(FRAME_ROOM);
    if (!link->counters || !link->scratch || !link->segment)
        return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        if ((link->in[i] = open_ear(link->ifindex[i])) < 0)
            return link->in[i];
        if ((link->out[i] = open_mouth(link->ifindex[i])) < 0)
            return link->out[i];
    }
    for (int i = 0; i < 2; i++) {
        struct direction *d = &link->directions[i];
        *d = (struct direction){.in = link->in[i], .out = link->out[1 - i], .counters = &link->counters[i]};
        int error = rk_emu_open(&d->emu, &specs[i]);
        if (error)
            return error;
    }
    rk_emu_pair(link->directions[0].emu, link->directions[1].emu);
    link->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return link->stop < 0 ? -errno : 0;
}

int rk_link_open(struct rk_link **out, int ifindex_a, int ifindex_b, const struct rk_emu_spec specs[2],
                 int64_t spin_ns)
{
    if (ifindex_a <= 0 || ifindex_b <= 0 || ifindex_a == ifindex_b || spin_ns < 0)
        return -EINVAL;
    struct rk_link *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    link->in[0] = link->in[1] = link->out[0] = link->out[1] = link->stop = -1;
    link->ifindex[0] = ifindex_a;
    link->ifindex[1] = ifindex_b;
    link->spin_ns = spin_ns;
    link->start_ns = rk_monotonic_ns();
    int error = open_all(link, specs);
    if (error)
        rk_link_close(link);
    else
        *out = link;
    return error;
}

void rk_link_close(struct rk_link *link)
{
    if (!link)
        return;
    for (int i = 0; i < 2; i++) {
        if (link->in[i] >= 0)
            close(link->in[i]);
        if (link->out[i] >= 0)
            close(link->out[i]);
        rk_emu_close(link->directions[i].emu);
    }
    if (link->stop >= 0)
        close(link->stop);
    free(link->counters);
    free(link->scratch);
    free(link->segment);
    free(link);
}

int rk_link_run(struct rk_link *link)
{
    /* The default slack lets a wait end 50 us late, which would show in every round trip. */
    int slack = prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, 1UL);

    int result = 0;
    for (;;) {
        struct pollfd ready[3] = {
            {.fd = link->in[0], .events = POLLIN},
            {.fd = link->in[1], .events = POLLIN},
            {.fd = link->stop, .events = POLLIN},
        };
        struct timespec wait, *timeout = NULL;
        const int64_t now_ns = rk_monotonic_ns() - link->start_ns;
        int64_t due_ns = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            int64_t next_ns = rk_emu_next(link->directions[i].emu);
            if (next_ns < due_ns)
                due_ns = next_ns;
        }
        if (due_ns != INT64_MAX)
            due_ns -= link->spin_ns; /* from there on it only looks, and does not sleep */
        if (link->went_down && due_ns > now_ns + RK_LOOK_EVERY_NS)
            due_ns = now_ns + RK_LOOK_EVERY_NS;
        if (due_ns != INT64_MAX) {
            int64_t wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
            wait.tv_sec = wait_ns / SECOND;
            wait.tv_nsec = wait_ns % SECOND;
            timeout = &wait;
        }
        if (ppoll(ready, 3, timeout, NULL) < 0) {
            if (errno == EINTR)
                continue;
            result = -errno;
            break;
        }
        if (ready[2].revents)
            break;
        if (link->went_down)
            result = look(link);
        for (int i = 0; i < 2 && !result; i++) {
            const int64_t until_ns = rk_monotonic_ns() - link->start_ns;
            result = take_all(link, &link->directions[i]);
            if (!result)
                result = pass_on(link, &link->directions[i], until_ns);
        }
        if (result)
            break;
    }
    prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
    return result;
}

void rk_link_stop(struct rk_link *link)
{
    const uint64_t one = 1;
    /* Fails only when the counter is full, and then the relay has long been told. */
    ssize_t written = write(link->stop, &one, sizeof one);
    (void)written;
}

void rk_link_read(const struct rk_link *link, struct rk_link_counters out[2])
{
    for (int i = 0; i < 2; i++) {
        struct counters *c = &link->counters[i];
        struct tpacket_stats stats = {0};
        socklen_t stats_len = sizeof stats;
        /* Reading resets the kernel's counters, so each reader adds what it found to the total. */
        if (getsockopt(link->in[i], SOL_PACKET, PACKET_STATISTICS, &stats, &stats_len) == 0)
            atomic_fetch_add_explicit(&c->overflow, stats.tp_drops, memory_order_relaxed);
        out[i] = (struct rk_link_counters){
            .received = atomic_load_explicit(&c->received, memory_order_relaxed),
            .sent = atomic_load_explicit(&c->sent, memory_order_relaxed),
            .cut = atomic_load_explicit(&c->cut, memory_order_relaxed),
            .refused = atomic_load_explicit(&c->refused, memory_order_relaxed),
            .overflow = atomic_load_explicit(&c->overflow, memory_order_relaxed),
        };
        rk_emu_read(link->directions[i].emu, out[i].causes);
    }
}

void rk_link_lateness(const struct rk_link *link, int direction, uint64_t late[RK_PACE_BINS])
{
    for (int i = 0; i < RK_PACE_BINS; i++)
        late[i] = atomic_load_explicit(&link->counters[direction != 0].late[i], memory_order_relaxed);
}
