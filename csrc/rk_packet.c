/* Packet sockets: frames as the link layer sees them (packet(7)).
 *
 * What the kernel takes out of a frame on its way up is put back here or kept in the record: the VLAN
 * tag, the state of the transport checksum, the segment length of merged frames. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"
#include "rk_txring.h"
#include "rk_xsk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAC_ADDRESSES_LEN 12
#define TAG_LEN 4
#define RING_FROM 8 /* frames from which on a ring is faster than messages (measured: from 6 or so) */
#define STATISTICS_EVERY 0x1000000 /* frames; the kernel counts in 32 bits */

struct rk_packet {
    int fd;
    int ifindex;
    uint32_t flags;
    uint8_t broadcast[8]; /* destination of cooked frames */
    /* One thread may send while another receives; these two they share. */
    _Atomic bool went_down; /* ENETDOWN was reported, and it was not seen up since */
    _Atomic int send_error; /* met while sending, to be reported by the next receive */
    uint32_t since_read;  /* frames received since the kernel's counters were read */
    struct rk_counters counters;
    struct rk_inbox inbox;
    /* Frames are prefixed on the way out as well as in; receiving may switch that off meanwhile. */
    pthread_mutex_t prefix_lock;
    struct rk_outbox outbox;
    struct iovec out_iov[RK_CHUNK][2];
    struct sockaddr_ll out_names[RK_CHUNK];
    struct virtio_net_hdr out_prefix; /* all zero: nothing is asked of the kernel */
    /* For many frames at a time, or NULL. */
    struct rk_xsk *xsk;
    struct rk_txring *txring;
};

/* ---- opening -------------------------------------------------------------------------------- */

/* The link-layer type (ARPHRD_...) of an interface. */
static int hardware_type(int fd, int ifindex)
{
    struct ifreq request = {.ifr_ifindex = ifindex};
    if (ioctl(fd, SIOCGIFNAME, &request) != 0 || ioctl(fd, SIOCGIFHWADDR, &request) != 0)
        return -errno;
    return request.ifr_hwaddr.sa_family;
}

static int set_up(struct rk_packet *sock, uint16_t protocol, const struct rk_insn *insns, uint32_t insns_n,
                  uint32_t buffer_len)
{
    int fd = sock->fd;
    int error = 0;
    if (insns_n > 0) {
        error = rk_io_attach_filter(fd, insns, insns_n);
        if (error == 0)
            error = rk_io_set_option(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
        if (error != 0)
            return error;
    }
    if (protocol != 0) {
        if ((error = rk_io_set_buffer(fd, buffer_len)) != 0 ||
            (!(sock->flags & RK_PACKET_BARE) && (error = rk_io_set_option(fd, SOL_PACKET, PACKET_AUXDATA, 1)) != 0) ||
            (error = rk_io_set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1)) != 0)
            return error;
        /* Only this header says how long the segments of a merged frame were.  It is a convenience: old
         * kernels know it for their ring buffers only. */
        if (!(sock->flags & RK_PACKET_COOKED))
            sock->inbox.prefixed = rk_io_set_option(fd, SOL_PACKET, PACKET_VNET_HDR, 1) == 0;
    }
    if (sock->flags & RK_PACKET_IGNORE_OUTGOING &&
        (error = rk_io_set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)) != 0)
        return error;
    if (sock->ifindex != 0) {
        int type = hardware_type(fd, sock->ifindex);
        if (type < 0)
            return type;
        if (type == ARPHRD_ETHER)
            memset(sock->broadcast, 0xff, ETH_ALEN);
        if (protocol == 0 && !(sock->flags & RK_PACKET_COOKED) &&
            (error = rk_txring_open(&sock->txring, sock->ifindex, type)) != 0 && error != -EOPNOTSUPP)
            return error;
    }
    /* Last of all, when it has become choosy: from here on frames arrive. */
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = sock->ifindex};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -errno;
    if (sock->flags & RK_PACKET_PROMISCUOUS) {
        struct packet_mreq request = {.mr_ifindex = sock->ifindex, .mr_type = PACKET_MR_PROMISC};
        if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) != 0)
            return -errno;
    }
    return 0;
}

int rk_packet_open(struct rk_packet **out, int ifindex, uint16_t protocol, uint32_t flags,
                   const struct rk_insn *insns, uint32_t insns_n, uint32_t buffer_len)
{
    const uint32_t known = RK_PACKET_COOKED | RK_PACKET_PROMISCUOUS | RK_PACKET_IGNORE_OUTGOING | RK_PACKET_SLL2 |
                           RK_PACKET_BARE;
    if (flags & ~known || ifindex < 0 || (flags & RK_PACKET_PROMISCUOUS && ifindex == 0))
        return -EINVAL;
    if ((flags & RK_PACKET_SLL2) && (flags & RK_PACKET_BARE))
        return -EINVAL;
    if (flags & (RK_PACKET_SLL2 | RK_PACKET_BARE))
        flags |= RK_PACKET_COOKED;
    struct rk_packet *sock = calloc(1, sizeof *sock);
    if (!sock)
        return -ENOMEM;
    sock->ifindex = ifindex;
    sock->flags = flags;
    sock->inbox.nameless = flags & RK_PACKET_BARE;
    pthread_mutex_init(&sock->prefix_lock, NULL);
    int error;
    /* Protocol 0: deaf until it is bound. */
    int type = flags & RK_PACKET_COOKED ? SOCK_DGRAM : SOCK_RAW;
    sock->fd = socket(AF_PACKET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock->fd < 0)
        error = -errno;
    else if ((error = rk_inbox_open(&sock->inbox)) == 0)
        error = set_up(sock, protocol, insns, insns_n, buffer_len);
    if (error != 0) {
        rk_packet_close(sock);
        return error;
    }
    *out = sock;
    return 0;
}

static void *close_txring(void *ring)
{
    rk_txring_close(ring);
    return NULL;
}

void rk_packet_close(struct rk_packet *sock)
{
    if (!sock)
        return;
    /* At the same time: see rk_packet_close_all in rk.h. */
    pthread_t thread;
    const bool beside = sock->txring != NULL && rk_io_start(&thread, close_txring, sock->txring) == 0;
    if (sock->fd >= 0)
        close(sock->fd);
    if (beside)
        pthread_join(thread, NULL);
    else
        rk_txring_close(sock->txring);
    rk_xsk_close(sock->xsk);
    rk_inbox_close(&sock->inbox);
    pthread_mutex_destroy(&sock->prefix_lock);
    free(sock);
}

int rk_packet_open_xsk(struct rk_packet *sock)
{
    if (sock->xsk != NULL || sock->ifindex == 0 || sock->flags & RK_PACKET_COOKED)
        return -EINVAL;
    return rk_xsk_open(&sock->xsk);
}

int rk_packet_start_xsk(struct rk_packet *sock, int64_t deadline_ns)
{
    if (sock->xsk == NULL)
        return -EINVAL;
    int error = rk_xsk_start(sock->xsk, sock->fd, sock->ifindex, deadline_ns);
    /* Frames of either way must not overtake those of the other in a queueing discipline. */
    if (error == 0)
        error = rk_io_set_option(sock->fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
    if (error == 0 && sock->txring != NULL)
        error = rk_txring_bypass(sock->txring);
    if (error != 0) {
        rk_xsk_close(sock->xsk);
        sock->xsk = NULL;
    }
    return error;
}

int rk_packet_has_xsk(const struct rk_packet *sock)
{
    return sock->xsk != NULL && rk_xsk_works(sock->xsk);
}

/* Threads that are to close sockets stop here until all of them are there: the kernel begins to wait with the first
 * close, and whichever comes later waits again. */
static pthread_rwlock_t complete = PTHREAD_RWLOCK_INITIALIZER;
static _Atomic uint32_t not_closing; /* threads that did not come as far as to close */

static void wait_for_all(void)
{
    pthread_rwlock_rdlock(&complete);
    pthread_rwlock_unlock(&complete);
    not_closing--;
}

static bool start_closing(void *(*run)(void *), void *what)
{
    pthread_t thread;
    not_closing++;
    if (rk_io_start(&thread, run, what) != 0) {
        not_closing--;
        return false;
    }
    pthread_detach(thread);
    return true;
}

static void *close_one(void *sock)
{
    wait_for_all();
    rk_packet_close(sock);
    return NULL;
}

static void *close_its_txring(void *ring)
{
    wait_for_all();
    rk_txring_close(ring);
    return NULL;
}

void rk_packet_close_all(struct rk_packet *const *socks, uint32_t n)
{
    pthread_rwlock_wrlock(&complete);
    for (uint32_t i = 0; i < n; i++) {
        if (socks[i]->txring != NULL && start_closing(close_its_txring, socks[i]->txring))
            socks[i]->txring = NULL;
        if (!start_closing(close_one, socks[i]))
            rk_packet_close(socks[i]);
    }
    pthread_rwlock_unlock(&complete);
    /* A process that ended before would close one after the other. */
    while (not_closing > 0)
        sched_yield();
}

int rk_packet_fd(const struct rk_packet *sock)
{
    return sock->fd;
}

/* ---- sending -------------------------------------------------------------------------------- */

/* Where a frame goes. */
static int address_frame(const struct rk_packet *sock, const struct rk_frame *frame, const uint8_t *octets,
                         struct sockaddr_ll *name)
{
    uint16_t protocol = frame->protocol;
    if (protocol == 0 && frame->cap_len > 0 && sock->flags & RK_PACKET_COOKED)
        protocol = octets[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP;
    *name = (struct sockaddr_ll){
        .sll_family = AF_PACKET,
        .sll_protocol = htons(protocol),
        .sll_ifindex = sock->ifindex != 0 ? sock->ifindex : frame->ifindex,
        .sll_halen = sizeof sock->broadcast,
    };
    memcpy(name->sll_addr, sock->broadcast, sizeof sock->broadcast);
    return name->sll_ifindex > 0 ? 0 : -EDESTADDRREQ;
}

static int prepare(void *owner, const struct rk_frame *frame, uint8_t *octets, uint32_t slot,
                   struct msghdr *message)
{
    struct rk_packet *sock = owner;
    struct iovec *iov = sock->out_iov[slot];
    iov[0] = (struct iovec){&sock->out_prefix, sizeof sock->out_prefix};
    iov[1] = (struct iovec){octets, frame->cap_len};
    message->msg_iov = iov + (sock->inbox.prefixed ? 0 : 1);
    message->msg_iovlen = sock->inbox.prefixed ? 2 : 1;
    /* A frame for the interface it is bound to needs no address, unless the kernel adds the header. */
    if (!(sock->flags & RK_PACKET_COOKED) && sock->ifindex != 0)
        return 0;
    message->msg_name = &sock->out_names[slot];
    message->msg_namelen = sizeof sock->out_names[slot];
    return address_frame(sock, frame, octets, &sock->out_names[slot]);
}

static int offer_messages(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    int sent = rk_outbox_offer(&sock->outbox, sock->fd, batch, first, n, sock, prepare);
    if (sent == -ENETDOWN) {
        /* This may be the news of an earlier moment, kept for whoever calls first: ask again, and leave the
         * news to receive. */
        if (!sock->went_down)
            sock->send_error = -ENETDOWN;
        sent = rk_outbox_offer(&sock->outbox, sock->fd, batch, first, n, sock, prepare);
    }
    return sent;
}

static int offer_alone(void *owner, const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    struct rk_packet *sock = owner;
    pthread_mutex_lock(&sock->prefix_lock);
    int sent = offer_messages(sock, batch, first, n);
    pthread_mutex_unlock(&sock->prefix_lock);
    return sent;
}

static int offer(void *owner, const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    struct rk_packet *sock = owner;
    int sent = 0;
    if (n >= RING_FROM && rk_packet_has_xsk(sock))
        sent = rk_xsk_offer(sock->xsk, batch, first, &n);
    else if (n >= RING_FROM && sock->txring != NULL)
        sent = rk_txring_offer(sock->txring, batch, first, &n);
    return sent != 0 ? sent : offer_alone(sock, batch, first, n);
}

int rk_packet_send(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                   int64_t deadline_ns)
{
    return rk_outbox_send(&sock->outbox, sock->fd, batch, first, n, deadline_ns, sock, offer);
}

int rk_packet_send_alone(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                         int64_t deadline_ns)
{
    return rk_outbox_send(&sock->outbox, sock->fd, batch, first, n, deadline_ns, sock, offer_alone);
}

int rk_packet_send_one(struct rk_packet *sock, const uint8_t *octets, uint32_t len, int32_t ifindex,
                       int64_t deadline_ns)
{
    struct rk_frame frame = {.cap_len = len, .wire_len = len, .ifindex = ifindex};
    struct rk_batch batch = {
        .arena = (uint8_t *)octets, .frames = &frame, .arena_len = len, .capacity = 1, .n = 1};
    return rk_packet_send(sock, &batch, 0, 1, deadline_ns);
}

uint64_t rk_packet_full(const struct rk_packet *sock)
{
    return sock->outbox.full_n;
}

/* ---- receiving ------------------------------------------------------------------------------ */

/* Keep what the kernel says about the whole frame, and the tag it took out. */
static void read_auxdata(const struct tpacket_auxdata *aux, struct rk_arrival *arrival)
{
    struct rk_frame *frame = &arrival->frame;
    /* The socket's filter may have cut the frame; this is the length before. */
    if (aux->tp_len > frame->wire_len)
        frame->wire_len = aux->tp_len;
    if (aux->tp_status & TP_STATUS_CSUMNOTREADY)
        frame->flags |= RK_FRAME_CSUM_NOT_READY;
    else if (aux->tp_status & TP_STATUS_CSUM_VALID)
        frame->flags |= RK_FRAME_CSUM_VALID;
    if (aux->tp_status & TP_STATUS_VLAN_VALID) {
        frame->flags |= RK_FRAME_VLAN;
        frame->vlan_tci = aux->tp_vlan_tci;
        frame->vlan_tpid = aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETH_P_8021Q;
    }
}

static void describe(const void *owner, const struct msghdr *message, const uint8_t *prefix,
                     struct rk_arrival *arrival)
{
    const struct rk_packet *sock = owner;
    const struct sockaddr_ll *name = message->msg_name;
    struct rk_frame *frame = &arrival->frame;
    if (name) {
        frame->ifindex = name->sll_ifindex;
        frame->protocol = ntohs(name->sll_protocol);
        if (name->sll_pkttype == PACKET_OUTGOING)
            frame->flags |= RK_FRAME_OUTGOING;
    }

    /* The CMSG macros want a header that may be written; nothing is. */
    struct msghdr *header = (struct msghdr *)message;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
            struct tpacket_auxdata aux;
            memcpy(&aux, CMSG_DATA(c), sizeof aux);
            read_auxdata(&aux, arrival);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec time;
            memcpy(&time, CMSG_DATA(c), sizeof time);
            frame->time_ns = rk_io_time(&time);
            frame->flags |= RK_FRAME_KERNEL_TIME;
        }
    }
    if (sock->inbox.prefixed) {
        struct virtio_net_hdr virtio;
        memcpy(&virtio, prefix, sizeof virtio);
        if (virtio.gso_type != VIRTIO_NET_HDR_GSO_NONE)
            frame->gso_len = virtio.gso_size;
    }
    if (sock->flags & RK_PACKET_SLL2) {
        rk_io_put_sll2(name, arrival->extra);
        arrival->at = 0;
        arrival->extra_len = RK_SLL2_LEN;
    } else if (frame->flags & RK_FRAME_VLAN && !(sock->flags & RK_PACKET_COOKED) &&
               arrival->octets_len >= MAC_ADDRESSES_LEN) {
        arrival->at = MAC_ADDRESSES_LEN;
        arrival->extra_len = TAG_LEN;
        rk_store_be16(arrival->extra, frame->vlan_tpid);
        rk_store_be16(arrival->extra + 2, frame->vlan_tci);
    }
}

static int receive_failed(void *owner, int error)
{
    struct rk_packet *sock = owner;
    if (error == -EINVAL && sock->inbox.prefixed) {
        /* A merged frame of a kind that the prefix cannot describe (SCTP, say).  The kernel threw it away;
         * go on without prefixes, so that it remains the only one. */
        pthread_mutex_lock(&sock->prefix_lock);
        rk_io_set_option(sock->fd, SOL_PACKET, PACKET_VNET_HDR, 0);
        sock->inbox.prefixed = false;
        pthread_mutex_unlock(&sock->prefix_lock);
        sock->counters.dropped++;
        return 0;
    }
    if (error == -ENETDOWN)
        sock->went_down = true;
    return error;
}

/* Add what the kernel counted since the last time; reading makes it start again from zero. */
static int read_statistics(struct rk_packet *sock)
{
    struct tpacket_stats statistics;
    socklen_t len = sizeof statistics;
    if (getsockopt(sock->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &len) != 0)
        return -errno;
    sock->counters.received += statistics.tp_packets;
    sock->counters.dropped += statistics.tp_drops;
    sock->since_read = 0;
    return 0;
}

int rk_packet_receive(struct rk_packet *sock, struct rk_batch *batch, int64_t deadline_ns)
{
    int got = atomic_exchange(&sock->send_error, 0);
    if (got != 0)
        return receive_failed(sock, got);
    for (;;) {
        /* The kernel says "down" once and then nothing, even when the interface is gone for good. */
        bool down = sock->went_down;
        int64_t look_ns = down ? rk_monotonic_ns() + RK_LOOK_EVERY_NS : deadline_ns;
        bool last = look_ns >= deadline_ns;
        got = rk_inbox_receive(&sock->inbox, sock->fd, batch, last ? deadline_ns : look_ns, sock, describe,
                               receive_failed);
        if (got != 0)
            break;
        if (down && rk_io_is_gone(sock->fd))
            return -ENXIO;
        if (last)
            return 0;
    }
    if (got > 0 && sock->went_down && rk_io_is_up(sock->fd, sock->ifindex))
        sock->went_down = false;
    if (got > 0 && (sock->since_read += (uint32_t)got) > STATISTICS_EVERY)
        read_statistics(sock);
    return got;
}

int rk_packet_counters(struct rk_packet *sock, struct rk_counters *out)
{
    int error = read_statistics(sock);
    if (error == 0)
        *out = sock->counters;
    return error;
}
