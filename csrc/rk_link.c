/* Link relay: an emulated wire between two interfaces.
 *
 * Stands where netem(8) would: many kernels lack it, and its losses cannot be repeated.  Frames are taken from
 * one packet socket (packet(7)), wait in a queue for their constant delay, which keeps them in order, and leave
 * by the other.  A direction may be a bottleneck, too, whose frames enter one at a time.  Each direction draws its losses, one draw for each frame, from its own seeded generator, so
 * that the same frames meet the same fate on each run whatever happens in the other direction. */
#define _GNU_SOURCE
#include "rk_io.h"

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
    FRAME_ROOM = 65536 + 64,        /* the largest segment the kernel hands over, and its link header */
    FRAME_ORDINARY = 2048,          /* room in the queue for each of its frames: MTU 1500 and to spare */
    TAG_OFFSET = 2 * ETHER_ADDR_LEN,/* an 802.1Q tag follows the addresses (IEEE 802.1Q, 9.3) */
    TAG_LEN = 4,
    MAX_QUEUE = 1 << 20,
    RECEIVE_BUFFER = 4 << 20,
    NO_ROOM = -1,
};

struct waiting {
    int64_t due_ns;
    uint32_t offset; /* in octets */
    uint32_t len;
};

struct direction {
    int in, out; /* packet sockets, borrowed from struct rk_link */
    int64_t delay_ns, interval_ns, free_ns; /* free: when the wire's entrance will be */
    double loss;
    uint64_t random;
    struct waiting *queue; /* a ring of queue_n, the oldest at head */
    uint32_t queue_n, head, n;
    uint8_t *octets; /* a ring too: the frames of the queue, one behind the other, each in one piece */
    uint32_t octets_len;
};

struct counters {
    _Atomic uint64_t received, sent, lost, queue_full, refused, overflow;
};

struct rk_link {
    int sockets[2];
    int ifindex[2]; /* what they are bound to */
    int stop;
    bool went_down; /* one of these did, and both were not seen up since */
    struct direction directions[2];
    struct counters *counters; /* of two directions; apart, because reading drops changes them */
    uint8_t *scratch;          /* BURST times FRAME_ROOM */
    struct mmsghdr messages[BURST];
    struct iovec iov[BURST];
    struct sockaddr_ll from[BURST];
    _Alignas(struct cmsghdr) uint8_t control[BURST][CMSG_SPACE(sizeof(struct tpacket_auxdata))];
};

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* SplitMix64 (Steele, Lea, Flood 2014): any seed is a good one, and one add moves on. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* True with the direction's probability; always draws, so that frame n has the n-th draw. */
static int draw_loss(struct direction *d)
{
    return (double)(next_random(&d->random) >> 11) * 0x1p-53 < d->loss;
}

/* Where len octets in one piece are free behind the youngest frame, or NO_ROOM. */
static int64_t find_room(const struct direction *d, uint32_t len)
{
    if (d->n == 0)
        return 0;
    const struct waiting *last = &d->queue[(d->head + d->n - 1) % d->queue_n];
    uint32_t head = d->queue[d->head].offset, tail = last->offset + last->len;
    if (tail > head) {
        if (d->octets_len - tail >= len)
            return tail;
        return head >= len ? 0 : NO_ROOM;
    }
    return head - tail >= len ? (int64_t)tail : NO_ROOM;
}

/* Queue one frame, with a tag put back behind its addresses when there is one. */
static int enqueue(struct direction *d, const uint8_t *frame, uint32_t len, const uint8_t *tag, int64_t due_ns)
{
    uint32_t tag_len = tag ? TAG_LEN : 0;
    int64_t offset = d->n < d->queue_n ? find_room(d, len + tag_len) : NO_ROOM;
    if (offset == NO_ROOM)
        return -ENOBUFS;
    uint8_t *to = d->octets + offset;
    if (tag) {
        memcpy(to, frame, TAG_OFFSET);
        memcpy(to + TAG_OFFSET, tag, TAG_LEN);
        memcpy(to + TAG_OFFSET + TAG_LEN, frame + TAG_OFFSET, len - TAG_OFFSET);
    } else {
        memcpy(to, frame, len);
    }
    d->queue[(d->head + d->n) % d->queue_n] =
        (struct waiting){.due_ns = due_ns, .offset = (uint32_t)offset, .len = len + tag_len};
    d->n++;
    return 0;
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
        if (rk_io_is_gone(link->sockets[i]))
            return -ENODEV;
        if (!rk_io_is_up(link->sockets[i], link->ifindex[i]))
            link->went_down = true;
    }
    return 0;
}

/* Take what has arrived, at most one burst, so that the other direction and due frames get their turn. */
static int take(struct rk_link *link, struct direction *d, struct counters *counters)
{
    for (uint32_t i = 0; i < BURST; i++) {
        link->iov[i] = (struct iovec){link->scratch + (size_t)i * FRAME_ROOM, FRAME_ROOM};
        link->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &link->from[i],
            .msg_namelen = sizeof link->from[i],
            .msg_iov = &link->iov[i],
            .msg_iovlen = 1,
            .msg_control = link->control[i],
            .msg_controllen = sizeof link->control[i],
        };
    }
    int n = recvmmsg(d->in, link->messages, BURST, MSG_DONTWAIT, NULL);
    if (n < 0)
        return judge_error(link, d->in, errno);

    int64_t arrived_ns = now_ns();
    for (int i = 0; i < n; i++) {
        struct msghdr *message = &link->messages[i].msg_hdr;
        uint32_t len = link->messages[i].msg_len;
        uint8_t tag[TAG_LEN];
        if (link->from[i].sll_pkttype == PACKET_OUTGOING)
            continue;
        count(&counters->received);
        if (draw_loss(d))
            count(&counters->lost);
        else if ((message->msg_flags & MSG_TRUNC) || len < ETHER_HDR_LEN)
            count(&counters->refused);
        else {
            int64_t enters_ns = (d->free_ns > arrived_ns ? d->free_ns : arrived_ns) + d->interval_ns;
            if (enqueue(d, link->iov[i].iov_base, len, taken_tag(message, tag), enters_ns + d->delay_ns) < 0)
                count(&counters->queue_full);
            else
                d->free_ns = enters_ns;
        }
    }
    return 0;
}

/* Send on what is due. */
static int pass_on(struct rk_link *link, struct direction *d, struct counters *counters)
{
    while (d->n > 0) {
        int64_t now = now_ns();
        uint32_t n = 0;
        for (; n < d->n && n < BURST; n++) {
            const struct waiting *w = &d->queue[(d->head + n) % d->queue_n];
            if (w->due_ns > now)
                break;
            link->iov[n] = (struct iovec){d->octets + w->offset, w->len};
            link->messages[n].msg_hdr = (struct msghdr){.msg_iov = &link->iov[n], .msg_iovlen = 1};
        }
        if (n == 0)
            return 0;
        int sent = sendmmsg(d->out, link->messages, n, MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            /* A wire does not wait: a frame that the device has no room for, or that is too large for it, is
             * gone.  An interface that is down loses them one by one. */
            int ended = judge_error(link, d->out, errno);
            if (ended)
                return ended;
            count(&counters->refused);
            sent = 1;
        } else {
            atomic_fetch_add_explicit(&counters->sent, (uint64_t)sent, memory_order_relaxed);
        }
        d->head = (d->head + (uint32_t)sent) % d->queue_n;
        d->n -= (uint32_t)sent;
    }
    return 0;
}

/* A deaf socket first, everything set, then bound: no frame from before, none in the wrong direction. */
static int open_socket(int ifindex)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int one = 1, buffer_len = RECEIVE_BUFFER;
    struct packet_mreq promiscuous = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = __builtin_bswap16(ETH_P_ALL),
        .sll_ifindex = ifindex,
    };
    /* Kernels before 4.20 lack the option; take() looks at each frame's direction anyway. */
    (void)setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
    /* The forced size needs CAP_NET_ADMIN in the first user namespace; the plain one stops at rmem_max. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_len, sizeof buffer_len) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_len, sizeof buffer_len);
    if (setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) != 0
        || setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0
        || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static int open_direction(struct direction *d, const struct rk_link_direction *wanted, int in, int out)
{
    *d = (struct direction){
        .in = in,
        .out = out,
        .delay_ns = wanted->delay_ns,
        .interval_ns = wanted->interval_ns,
        .loss = wanted->loss,
        .random = wanted->seed,
        .queue_n = wanted->queue_n,
        .octets_len = wanted->queue_n * FRAME_ORDINARY,
    };
    if (d->octets_len < FRAME_ROOM + TAG_LEN)
        d->octets_len = FRAME_ROOM + TAG_LEN;
    d->queue = calloc(d->queue_n, sizeof *d->queue);
    d->octets = malloc(d->octets_len);
    return d->queue && d->octets ? 0 : -ENOMEM;
}

static int valid(const struct rk_link_direction *d)
{
    /* Written so that a loss that is no number fails. */
    return d->delay_ns >= 0 && d->interval_ns >= 0 && d->loss >= 0 && d->loss <= 1 && d->queue_n >= 1 && d->queue_n < MAX_QUEUE;
}

int rk_link_open(struct rk_link **out, int ifindex_a, int ifindex_b,
                 const struct rk_link_direction directions[2])
{
    if (ifindex_a <= 0 || ifindex_b <= 0 || ifindex_a == ifindex_b || !valid(&directions[0])
        || !valid(&directions[1]))
        return -EINVAL;
    struct rk_link *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    link->sockets[0] = link->sockets[1] = link->stop = -1;

    int error = 0;
    link->counters = calloc(2, sizeof *link->counters);
    link->scratch = malloc((size_t)BURST * FRAME_ROOM);
    if (!link->counters || !link->scratch) {
        error = -ENOMEM;
        goto out;
    }
    link->ifindex[0] = ifindex_a;
    link->ifindex[1] = ifindex_b;
    for (int i = 0; i < 2; i++) {
        link->sockets[i] = open_socket(link->ifindex[i]);
        if (link->sockets[i] < 0) {
            error = link->sockets[i];
            goto out;
        }
    }
    for (int i = 0; i < 2 && !error; i++)
        error = open_direction(&link->directions[i], &directions[i], link->sockets[i], link->sockets[1 - i]);
    if (error)
        goto out;
    link->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->stop < 0)
        error = -errno;
out:
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
        if (link->sockets[i] >= 0)
            close(link->sockets[i]);
        free(link->directions[i].queue);
        free(link->directions[i].octets);
    }
    if (link->stop >= 0)
        close(link->stop);
    free(link->counters);
    free(link->scratch);
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
            {.fd = link->sockets[0], .events = POLLIN},
            {.fd = link->sockets[1], .events = POLLIN},
            {.fd = link->stop, .events = POLLIN},
        };
        struct timespec wait, *timeout = NULL;
        int64_t due_ns = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            const struct direction *d = &link->directions[i];
            if (d->n > 0 && d->queue[d->head].due_ns < due_ns)
                due_ns = d->queue[d->head].due_ns;
        }
        if (link->went_down && due_ns > now_ns() + RK_LOOK_EVERY_NS)
            due_ns = now_ns() + RK_LOOK_EVERY_NS;
        if (due_ns != INT64_MAX) {
            int64_t wait_ns = due_ns - now_ns();
            if (wait_ns < 0)
                wait_ns = 0;
            wait.tv_sec = wait_ns / 1000000000;
            wait.tv_nsec = wait_ns % 1000000000;
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
        for (int i = 0; i < 2 && !result; i++)
            if (ready[i].revents)
                result = take(link, &link->directions[i], &link->counters[i]);
        for (int i = 0; i < 2 && !result; i++)
            result = pass_on(link, &link->directions[i], &link->counters[i]);
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
        if (getsockopt(link->sockets[i], SOL_PACKET, PACKET_STATISTICS, &stats, &stats_len) == 0)
            atomic_fetch_add_explicit(&c->overflow, stats.tp_drops, memory_order_relaxed);
        out[i] = (struct rk_link_counters){
            .received = atomic_load_explicit(&c->received, memory_order_relaxed),
            .sent = atomic_load_explicit(&c->sent, memory_order_relaxed),
            .lost = atomic_load_explicit(&c->lost, memory_order_relaxed),
            .queue_full = atomic_load_explicit(&c->queue_full, memory_order_relaxed),
            .refused = atomic_load_explicit(&c->refused, memory_order_relaxed),
            .overflow = atomic_load_explicit(&c->overflow, memory_order_relaxed),
        };
    }
}
