/* Receive rings: packet sockets that write to shared memory (packet(7), TPACKET_V3).
 *
 * The kernel fills blocks one after the other and hands each over whole, when it is full or its time is
 * over; a frame costs the reader no system call and no copy.  Frames are given out where they lie.  What
 * the kernel took out of them is put back in place: the memory in front of a frame, which held its
 * addresses and description, is free once these were read. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef TP_STATUS_GSO_TCP /* headers before Linux 5.19 */
#define TP_STATUS_GSO_TCP (1 << 8)
#endif

#define MAC_ADDRESSES_LEN 12
#define TAG_LEN 4
#define TPACKET3_ALIGNMENT 8 /* of the frames in a block */
#define FRAME_LEN 2048 /* the kernel wants to be told one; blocks hold frames of any length */
#define STATISTICS_EVERY 0x1000000 /* frames; the kernel counts in 32 bits */

/* Where the sender's address follows the header of a frame, and how much room both take. */
#define NAME_AT TPACKET_ALIGN(sizeof(struct tpacket3_hdr))
#define HEADER_LEN (NAME_AT + sizeof(struct sockaddr_ll))
_Static_assert(HEADER_LEN == TPACKET3_HDRLEN, "as linux/if_packet.h has it");

struct rk_ring {
    int fd;
    int ifindex;
    uint32_t flags;
    bool prefixed; /* a struct virtio_net_hdr lies in front of each frame */
    bool went_down; /* ENETDOWN was reported, and it was not seen up since */
    uint8_t *memory;
    uint32_t memory_len;
    uint32_t block_len;
    uint32_t block_n;
    uint32_t block;      /* the one being read, or to be read next */
    bool holding;        /* it is ours, not the kernel's */
    uint32_t left;       /* frames in it that were not handed out */
    uint32_t at;         /* where the next of these is, in the memory */
    uint32_t since_read; /* frames received since the kernel's counters were read */
    struct rk_ring_counters counters;
};

/* ---- opening -------------------------------------------------------------------------------- */

static int add_membership(int fd, int ifindex, int type, const uint8_t *mac)
{
    struct packet_mreq request = {.mr_ifindex = ifindex, .mr_type = (unsigned short)type};
    if (mac) {
        request.mr_alen = ETH_ALEN;
        memcpy(request.mr_address, mac, ETH_ALEN);
    }
    return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) == 0 ? 0 : -errno;
}

static int map_memory(struct rk_ring *ring, const struct rk_ring_config *config)
{
    int error = rk_io_set_option(ring->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V3);
    if (error != 0)
        return error;
    /* Only this header says how long the segments of a merged frame were. */
    if (ring->flags & RK_RING_SEGMENT_LEN && !(ring->flags & RK_PACKET_COOKED)) {
        if ((error = rk_io_set_option(ring->fd, SOL_PACKET, PACKET_VNET_HDR, 1)) != 0)
            return error;
        ring->prefixed = true;
    }
    struct tpacket_req3 request = {
        .tp_block_size = config->block_len,
        .tp_block_nr = config->block_n,
        .tp_frame_size = FRAME_LEN,
        .tp_frame_nr = config->block_len / FRAME_LEN * config->block_n,
        .tp_retire_blk_tov = config->block_timeout_ms,
    };
    if (setsockopt(ring->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
        return -errno;
    void *memory = mmap(NULL, ring->memory_len, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    ring->memory = memory;
    return 0;
}

/* Share frames with the other rings of a group. */
static int join_fanout(int fd, const struct rk_ring_config *config)
{
    static const uint16_t modes[] = {
        [RK_FANOUT_HASH] = PACKET_FANOUT_HASH,         [RK_FANOUT_BALANCE] = PACKET_FANOUT_LB,
        [RK_FANOUT_CPU] = PACKET_FANOUT_CPU,           [RK_FANOUT_ROLLOVER] = PACKET_FANOUT_ROLLOVER,
        [RK_FANOUT_RANDOM] = PACKET_FANOUT_RND,        [RK_FANOUT_QUEUE] = PACKET_FANOUT_QM,
    };
    uint32_t mode = modes[config->fanout];
    uint32_t group = 0;
    if (config->fanout_group < 0)
        mode |= PACKET_FANOUT_FLAG_UNIQUEID;
    else
        group = (uint32_t)config->fanout_group;
    return rk_io_set_option(fd, SOL_PACKET, PACKET_FANOUT, (int)(group | mode << 16));
}

static int set_up(struct rk_ring *ring, const struct rk_ring_config *config)
{
    int fd = ring->fd;
    int error;
    /* Nothing passes until all is in place; then the filter changes in one step. */
    const struct rk_insn nothing = {.code = BPF_RET | BPF_K, .k = 0};
    if ((error = rk_io_attach_filter(fd, &nothing, 1)) != 0 || (error = map_memory(ring, config)) != 0)
        return error;
    if (ring->flags & RK_PACKET_IGNORE_OUTGOING &&
        (error = rk_io_set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)) != 0)
        return error;
    if (ring->flags & RK_RING_HARDWARE_TIME &&
        (error = rk_io_set_option(fd, SOL_PACKET, PACKET_TIMESTAMP, SOF_TIMESTAMPING_RAW_HARDWARE)) != 0)
        return error;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(config->protocol), .sll_ifindex = ring->ifindex};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -errno;
    if (ring->flags & RK_PACKET_PROMISCUOUS &&
        (error = add_membership(fd, ring->ifindex, PACKET_MR_PROMISC, NULL)) != 0)
        return error;
    if (ring->flags & RK_RING_ALL_MULTICAST &&
        (error = add_membership(fd, ring->ifindex, PACKET_MR_ALLMULTI, NULL)) != 0)
        return error;
    if (config->fanout != RK_FANOUT_NONE && (error = join_fanout(fd, config)) != 0)
        return error;
    if (config->insns_n == 0)
        return rk_io_set_option(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
    if ((error = rk_io_attach_filter(fd, config->insns, config->insns_n)) != 0)
        return error;
    return rk_io_set_option(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

/* Whether the sizes make a ring: whole pages, and less than 4 GiB, because offsets have 32 bits. */
static bool sizes_ok(const struct rk_ring_config *config)
{
    uint64_t total = (uint64_t)config->block_len * config->block_n;
    return config->block_len >= 2 * FRAME_LEN && config->block_len % (uint32_t)sysconf(_SC_PAGESIZE) == 0 &&
           config->block_n >= 2 && total <= UINT32_MAX && config->block_timeout_ms >= 1 &&
           config->block_timeout_ms <= 1000;
}

int rk_ring_open(struct rk_ring **out, const struct rk_ring_config *config)
{
    const uint32_t known = RK_PACKET_COOKED | RK_PACKET_PROMISCUOUS | RK_PACKET_IGNORE_OUTGOING |
                           RK_PACKET_SLL2 | RK_RING_ALL_MULTICAST | RK_RING_SEGMENT_LEN |
                           RK_RING_HARDWARE_TIME;
    uint32_t flags = config->flags;
    if (flags & ~known || config->ifindex < 0 || config->protocol == 0 || !sizes_ok(config) ||
        config->fanout > RK_FANOUT_QUEUE || config->fanout_group > UINT16_MAX ||
        (flags & (RK_PACKET_PROMISCUOUS | RK_RING_ALL_MULTICAST) && config->ifindex == 0))
        return -EINVAL;
    if (flags & RK_PACKET_SLL2)
        flags |= RK_PACKET_COOKED;
    struct rk_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return -ENOMEM;
    *ring = (struct rk_ring){
        .ifindex = config->ifindex,
        .flags = flags,
        .memory_len = config->block_len * config->block_n,
        .block_len = config->block_len,
        .block_n = config->block_n,
    };
    int type = flags & RK_PACKET_COOKED ? SOCK_DGRAM : SOCK_RAW;
    /* Protocol 0: deaf until it is bound. */
    ring->fd = socket(AF_PACKET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = ring->fd < 0 ? -errno : set_up(ring, config);
    if (error != 0) {
        rk_ring_close(ring);
        return error;
    }
    *out = ring;
    return 0;
}

void rk_ring_shut(struct rk_ring *ring)
{
    if (ring->fd >= 0)
        close(ring->fd);
    ring->fd = -1;
}

void rk_ring_close(struct rk_ring *ring)
{
    if (!ring)
        return;
    rk_ring_shut(ring);
    if (ring->memory)
        munmap(ring->memory, ring->memory_len);
    free(ring);
}

int rk_ring_fd(const struct rk_ring *ring)
{
    return ring->fd;
}

uint8_t *rk_ring_memory(const struct rk_ring *ring, uint32_t *len)
{
    *len = ring->memory_len;
    return ring->memory;
}

int rk_ring_fanout_group(const struct rk_ring *ring)
{
    uint32_t value = 0;
    socklen_t len = sizeof value;
    if (getsockopt(ring->fd, SOL_PACKET, PACKET_FANOUT, &value, &len) != 0)
        return -errno;
    return value & 0xffff;
}

int rk_ring_join(struct rk_ring *ring, const uint8_t *mac)
{
    return add_membership(ring->fd, ring->ifindex, PACKET_MR_MULTICAST, mac);
}

/* ---- receiving ------------------------------------------------------------------------------ */

static struct tpacket_hdr_v1 *block_header(const struct rk_ring *ring)
{
    /* Shared with the kernel, which aligns it; the frames in it are on multiples of 8. */
    void *block = ring->memory + (size_t)ring->block * ring->block_len;
    return &((struct tpacket_block_desc *)block)->hdr.bh1;
}

/* Put octets in front of a frame's octets from `after` on, which move forward. */
static void put_in(uint8_t *memory, struct rk_frame *frame, uint32_t after, const uint8_t *extra,
                   uint32_t extra_len)
{
    uint8_t *start = memory + frame->offset;
    memmove(start - extra_len, start, after);
    memcpy(start - extra_len + after, extra, extra_len);
    frame->offset -= extra_len;
    frame->cap_len += extra_len;
    frame->wire_len += extra_len;
}

static uint32_t flags_of(uint32_t status, uint8_t kind)
{
    uint32_t flags = kind == PACKET_OUTGOING ? RK_FRAME_OUTGOING : 0;
    if (status & TP_STATUS_CSUMNOTREADY)
        flags |= RK_FRAME_CSUM_NOT_READY;
    else if (status & TP_STATUS_CSUM_VALID)
        flags |= RK_FRAME_CSUM_VALID;
    return flags | (status & TP_STATUS_TS_RAW_HARDWARE ? RK_FRAME_HARDWARE_TIME : RK_FRAME_KERNEL_TIME);
}

/* Describe the frame whose header is at `at`, `room` octets before the end of its block.  False for what
 * is none: the kernel leaves the places of frames that it could not describe as they were. */
static bool describe(const struct rk_ring *ring, uint32_t at, uint32_t room, struct rk_frame *frame)
{
    uint8_t *start = ring->memory + at;
    const struct tpacket3_hdr *header = (const void *)start;
    uint32_t status = header->tp_status;
    uint32_t mac = header->tp_mac;
    if (!(status & TP_STATUS_USER) || !rk_range_ok(mac, header->tp_snaplen, room) || mac < HEADER_LEN)
        return false;
    const struct sockaddr_ll *name = (const void *)(start + NAME_AT);
    *frame = (struct rk_frame){
        .time_ns = (int64_t)header->tp_sec * 1000000000 + header->tp_nsec,
        .offset = at + mac,
        .cap_len = header->tp_snaplen,
        .wire_len = header->tp_len,
        .flags = flags_of(status, name->sll_pkttype),
        .ifindex = name->sll_ifindex,
        .protocol = ntohs(name->sll_protocol),
    };
    if (ring->prefixed && mac >= HEADER_LEN + sizeof(struct virtio_net_hdr)) {
        struct virtio_net_hdr virtio;
        memcpy(&virtio, start + mac - sizeof virtio, sizeof virtio);
        if (virtio.gso_type != VIRTIO_NET_HDR_GSO_NONE)
            frame->gso_len = virtio.gso_size;
    }
    if (status & TP_STATUS_VLAN_VALID) {
        frame->flags |= RK_FRAME_VLAN;
        frame->vlan_tci = (uint16_t)header->hv1.tp_vlan_tci;
        frame->vlan_tpid = status & TP_STATUS_VLAN_TPID_VALID ? header->hv1.tp_vlan_tpid : ETH_P_8021Q;
    }
    /* From here on what lies in front of the octets is overwritten, but for the header. */
    if (ring->flags & RK_PACKET_SLL2) {
        uint8_t sll2[RK_SLL2_LEN];
        rk_io_put_sll2(name, sll2);
        put_in(ring->memory, frame, 0, sll2, sizeof sll2);
    } else if (frame->flags & RK_FRAME_VLAN && !(ring->flags & RK_PACKET_COOKED) &&
               frame->cap_len >= MAC_ADDRESSES_LEN) {
        uint8_t tag[TAG_LEN];
        rk_store_be16(tag, frame->vlan_tpid);
        rk_store_be16(tag + 2, frame->vlan_tci);
        put_in(ring->memory, frame, MAC_ADDRESSES_LEN, tag, sizeof tag);
    }
    return true;
}
_Static_assert(HEADER_LEN - RK_SLL2_LEN >= sizeof(struct tpacket3_hdr), "what is put in front spares the header");

/* Make the next block ours; false while the kernel has it. */
static bool take_block(struct rk_ring *ring)
{
    struct tpacket_hdr_v1 *header = block_header(ring);
    if (!(__atomic_load_n(&header->block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
        return false;
    ring->holding = true;
    ring->left = header->num_pkts;
    uint32_t first = header->offset_to_first_pkt;
    ring->at = ring->block * ring->block_len + (first < ring->block_len ? first : ring->block_len);
    return true;
}

static void give_block_back(struct rk_ring *ring)
{
    __atomic_store_n(&block_header(ring)->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    ring->holding = false;
    ring->block = (ring->block + 1) % ring->block_n;
}

/* Fill the rows of the batch from the blocks that are ready; frames of one block at most. */
static uint32_t hand_out(struct rk_ring *ring, struct rk_batch *batch)
{
    for (;;) {
        if (ring->holding && ring->left == 0)
            give_block_back(ring);
        if (!ring->holding && !take_block(ring))
            return 0;
        uint32_t end = (ring->block + 1) * ring->block_len;
        uint32_t n = 0;
        while (ring->left > 0 && n < batch->capacity) {
            const struct tpacket3_hdr *header = (const void *)(ring->memory + ring->at);
            if (ring->at % TPACKET3_ALIGNMENT || !rk_range_ok(ring->at, HEADER_LEN, end)) {
                ring->left = 0; /* never seen; but nobody may look past the end */
                break;
            }
            uint32_t next = header->tp_next_offset;
            if (describe(ring, ring->at, end - ring->at, &batch->frames[n])) {
                ring->counters.merged += batch->frames[n].gso_len > 0 || header->tp_status & TP_STATUS_GSO_TCP;
                n++;
            } else {
                ring->counters.undescribed++;
            }
            ring->left--;
            if (ring->left > 0 && next < HEADER_LEN)
                ring->left = 0;
            ring->at += next < end - ring->at ? next : end - ring->at;
        }
        if (n > 0)
            return n;
    }
}

/* Add what the kernel counted since the last time; reading makes it start again from zero. */
static int read_statistics(struct rk_ring *ring)
{
    struct tpacket_stats_v3 statistics;
    socklen_t len = sizeof statistics;
    if (getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &len) != 0)
        return -errno;
    ring->counters.received += statistics.tp_packets;
    ring->counters.dropped += statistics.tp_drops;
    ring->since_read = 0;
    return 0;
}

static bool is_empty(struct rk_ring *ring)
{
    const struct rk_ring_counters *counters = &ring->counters;
    return read_statistics(ring) != 0 ||
           counters->received == counters->dropped + counters->delivered;
}

/* The error that made the socket wake its reader, 0 for none; asking clears it. */
static int pending_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? -error : -errno;
}

int rk_ring_receive(struct rk_ring *ring, struct rk_batch *batch, int64_t deadline_ns)
{
    if (batch->capacity == 0)
        return -EINVAL;
    *batch = (struct rk_batch){
        .arena = ring->memory,
        .frames = batch->frames,
        .arena_len = ring->memory_len,
        .arena_used = ring->memory_len, /* there is no room to append anything */
        .capacity = batch->capacity,
    };
    int ready = 0;
    for (;;) {
        uint32_t n = hand_out(ring, batch);
        if (n > 0) {
            batch->n = n;
            ring->counters.delivered += n;
            if (ring->went_down && rk_io_is_up(ring->fd, ring->ifindex))
                ring->went_down = false;
            if ((ring->since_read += n) > STATISTICS_EVERY)
                read_statistics(ring);
            return (int)n;
        }
        int error = ready > 0 ? pending_error(ring->fd) : 0;
        if (error == -ENETDOWN)
            ring->went_down = true;
        if (error != 0)
            return error;
        int64_t look_ns = deadline_ns;
        if (ring->went_down) {
            if (rk_io_is_gone(ring->fd) && is_empty(ring))
                return -ENXIO;
            look_ns = rk_monotonic_ns() + RK_LOOK_EVERY_NS;
        }
        bool last = look_ns >= deadline_ns;
        ready = rk_io_wait(ring->fd, POLLIN, last ? deadline_ns : look_ns);
        if (ready < 0 || (ready == 0 && last))
            return ready;
    }
}

int rk_ring_counters(struct rk_ring *ring, struct rk_ring_counters *out)
{
    int error = read_statistics(ring);
    if (error == 0)
        *out = ring->counters;
    return error;
}
