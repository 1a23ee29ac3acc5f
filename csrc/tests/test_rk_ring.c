/* Receive rings: what the blocks that the kernel writes become, then loopback in a namespace of our own. */
#include "../rk_ring.c"

#include "rk_test.h"

#define PAGE 4096
#define BLOCK (16 * PAGE)
#define FIRST_AT 48 /* of a block; its header comes before */

/* A ring whose blocks we write ourselves. */
static struct rk_ring *new_ring(uint32_t flags, uint32_t block_len, uint32_t block_n)
{
    struct rk_ring *ring = calloc(1, sizeof *ring);
    *ring = (struct rk_ring){.fd = -1,
                             .flags = flags,
                             .memory = aligned_alloc(PAGE, (size_t)block_len * block_n),
                             .memory_len = block_len * block_n,
                             .block_len = block_len,
                             .block_n = block_n};
    memset(ring->memory, 0xee, ring->memory_len);
    for (uint32_t i = 0; i < block_n; i++) {
        struct tpacket_block_desc *block = (void *)(ring->memory + i * block_len);
        memset(block, 0, FIRST_AT);
    }
    return ring;
}

static void drop_ring(struct rk_ring *ring)
{
    free(ring->memory);
    free(ring);
}

static struct tpacket_hdr_v1 *block_of(struct rk_ring *ring, uint32_t i)
{
    return &((struct tpacket_block_desc *)(void *)(ring->memory + i * ring->block_len))->hdr.bh1;
}

/* Write a frame as the kernel does at `at` in the memory, and return where the next one goes. */
static uint32_t put_frame(struct rk_ring *ring, uint32_t at, struct tpacket3_hdr header, uint8_t kind,
                          const char *octets)
{
    bool cooked = ring->flags & RK_PACKET_COOKED;
    uint32_t net = TPACKET_ALIGN(HEADER_LEN + 16) + (ring->prefixed ? sizeof(struct virtio_net_hdr) : 0);
    header.tp_mac = (uint16_t)(cooked ? net : net - ETH_HLEN);
    header.tp_net = (uint16_t)net;
    if (header.tp_snaplen == 0)
        header.tp_snaplen = (uint32_t)strlen(octets);
    if (header.tp_len == 0)
        header.tp_len = header.tp_snaplen;
    header.tp_next_offset = (header.tp_mac + (uint32_t)strlen(octets) + 7) & ~7u;
    struct sockaddr_ll name = {.sll_family = AF_PACKET,
                               .sll_protocol = htons(ETH_P_IP),
                               .sll_ifindex = 7,
                               .sll_hatype = 1,
                               .sll_pkttype = kind,
                               .sll_halen = 6,
                               .sll_addr = {1, 2, 3, 4, 5, 6}};
    uint8_t *start = ring->memory + at;
    memcpy(start, &header, sizeof header);
    memcpy(start + NAME_AT, &name, sizeof name);
    memcpy(start + header.tp_mac, octets, strlen(octets));
    return at + header.tp_next_offset;
}

static void hand_over(struct rk_ring *ring, uint32_t i, uint32_t frames)
{
    struct tpacket_hdr_v1 *header = block_of(ring, i);
    header->num_pkts = frames;
    header->offset_to_first_pkt = FIRST_AT;
    header->block_status = TP_STATUS_USER;
}

static struct rk_batch *rows(uint32_t capacity)
{
    return new_batch(capacity, 1);
}

static void drop_rows(struct rk_batch *batch, uint8_t *arena)
{
    batch->arena = arena;
    drop_batch(batch);
}

static void expect_octets(const struct rk_batch *batch, uint32_t i, const void *octets, uint32_t len)
{
    EXPECT(batch->frames[i].cap_len, len);
    EXPECT(memcmp(batch->arena + batch->frames[i].offset, octets, len), 0);
}

static void check_description(void)
{
    struct rk_ring *ring = new_ring(0, BLOCK, 2);
    struct rk_batch *batch = rows(64);
    uint8_t *arena = batch->arena;
    const char plain[] = "destinsource\x08\x01payload";
    const struct tpacket3_hdr user = {.tp_status = TP_STATUS_USER, .tp_sec = 4000000000u, .tp_nsec = 123};
    struct tpacket3_hdr header = user;
    uint32_t at = put_frame(ring, FIRST_AT, header, PACKET_HOST, plain);
    header.tp_status = TP_STATUS_USER | TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID;
    header.tp_len = 900; /* before the filter cut it */
    at = put_frame(ring, at, header, PACKET_OUTGOING, plain);
    header = user;
    header.tp_status |= TP_STATUS_CSUM_VALID | TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
    header.hv1.tp_vlan_tci = 0xe00a;
    header.hv1.tp_vlan_tpid = ETH_P_8021AD;
    at = put_frame(ring, at, header, PACKET_HOST, plain);
    header.tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID | TP_STATUS_TS_RAW_HARDWARE;
    at = put_frame(ring, at, header, PACKET_HOST, plain);
    at = put_frame(ring, at, header, PACKET_HOST, "eleven octe"); /* no place to put a tag */
    header.tp_status = 0; /* its place was taken, and then the kernel could not describe it */
    at = put_frame(ring, at, header, PACKET_HOST, plain);
    put_frame(ring, at, user, PACKET_HOST, plain);
    hand_over(ring, 0, 7);

    EXPECT(rk_ring_receive(ring, batch, 0), 6);
    EXPECT(ring->counters.undescribed, 1);
    EXPECT(ring->counters.delivered, 6);
    EXPECT(ring->counters.merged, 0);
    const struct rk_frame *frames = batch->frames;
    EXPECT(frames[0].flags, RK_FRAME_KERNEL_TIME);
    EXPECT(frames[0].time_ns, 4000000000000000123LL);
    EXPECT(frames[0].ifindex, 7);
    EXPECT(frames[0].protocol, ETH_P_IP);
    EXPECT(frames[0].wire_len, sizeof plain - 1);
    EXPECT(frames[0].gso_len, 0);
    expect_octets(batch, 0, plain, sizeof plain - 1);
    EXPECT(frames[1].flags, RK_FRAME_KERNEL_TIME | RK_FRAME_OUTGOING | RK_FRAME_CSUM_NOT_READY);
    EXPECT(frames[1].wire_len, 900);
    EXPECT(frames[2].flags, RK_FRAME_KERNEL_TIME | RK_FRAME_CSUM_VALID | RK_FRAME_VLAN);
    EXPECT(frames[2].vlan_tci, 0xe00a);
    EXPECT(frames[2].wire_len, sizeof plain - 1 + 4);
    expect_octets(batch, 2, "destinsource\x88\xa8\xe0\x0a\x08\x01payload", sizeof plain - 1 + 4);
    EXPECT(frames[3].flags, RK_FRAME_HARDWARE_TIME | RK_FRAME_VLAN);
    EXPECT(frames[3].vlan_tpid, ETH_P_8021Q); /* kernels before 3.14 know one kind only */
    expect_octets(batch, 3, "destinsource\x81\x00\xe0\x0a\x08\x01payload", sizeof plain - 1 + 4);
    expect_octets(batch, 4, "eleven octe", 11);
    expect_octets(batch, 5, plain, sizeof plain - 1);
    drop_rows(batch, arena);
    drop_ring(ring);
}

static void check_other_kinds(void)
{
    struct rk_batch *batch = rows(4);
    uint8_t *arena = batch->arena;
    struct tpacket3_hdr tagged = {.tp_status = TP_STATUS_USER | TP_STATUS_VLAN_VALID};
    tagged.hv1.tp_vlan_tci = 10;

    struct rk_ring *ring = new_ring(RK_PACKET_COOKED, BLOCK, 2);
    put_frame(ring, FIRST_AT, tagged, PACKET_HOST, "an IP packet");
    hand_over(ring, 0, 1);
    EXPECT(rk_ring_receive(ring, batch, 0), 1);
    EXPECT(batch->frames[0].vlan_tci, 10);
    expect_octets(batch, 0, "an IP packet", 12);
    drop_ring(ring);

    ring = new_ring(RK_PACKET_COOKED | RK_PACKET_SLL2, BLOCK, 2);
    put_frame(ring, FIRST_AT, tagged, PACKET_BROADCAST, "an IP packet");
    hand_over(ring, 0, 1);
    EXPECT(rk_ring_receive(ring, batch, 0), 1);
    expect_octets(batch, 0, "\x08\x00\0\0\0\0\0\x07\0\x01\x01\x06\x01\x02\x03\x04\x05\x06\0\0an IP packet", 32);
    EXPECT(batch->frames[0].wire_len, 32);
    drop_ring(ring);

    ring = new_ring(RK_RING_SEGMENT_LEN, BLOCK, 2);
    ring->prefixed = true;
    put_frame(ring, FIRST_AT, tagged, PACKET_HOST, "destinsource\x08\x01payload");
    struct tpacket3_hdr header;
    memcpy(&header, ring->memory + FIRST_AT, sizeof header);
    struct virtio_net_hdr virtio = {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1448};
    memcpy(ring->memory + FIRST_AT + header.tp_mac - sizeof virtio, &virtio, sizeof virtio);
    hand_over(ring, 0, 1);
    EXPECT(rk_ring_receive(ring, batch, 0), 1);
    EXPECT(batch->frames[0].gso_len, 1448);
    EXPECT(ring->counters.merged, 1);
    expect_octets(batch, 0, "destinsource\x81\x00\0\x0a\x08\x01payload", 25);
    drop_ring(ring);
    drop_rows(batch, arena);
}

/* More frames than rows, and blocks that follow each other round the ring. */
static void check_walk(void)
{
    struct rk_ring *ring = new_ring(0, PAGE, 3);
    struct rk_batch *batch = rows(2);
    uint8_t *arena = batch->arena;
    const struct tpacket3_hdr user = {.tp_status = TP_STATUS_USER};
    char octets[] = "destinsource\x08\x01number 0";
    for (uint32_t round = 0; round < 7; round++) {
        uint32_t block = round % 3, at = block * PAGE + FIRST_AT;
        for (uint32_t i = 0; i < 5; i++) {
            octets[sizeof octets - 2] = (char)('0' + i);
            at = put_frame(ring, at, user, PACKET_HOST, octets);
        }
        hand_over(ring, block, 5);
        uint32_t seen = 0;
        for (int n; seen < 5; seen += (uint32_t)n) {
            n = rk_ring_receive(ring, batch, 0);
            EXPECT(n, seen < 4 ? 2 : 1);
            if (n <= 0)
                break;
            for (uint32_t i = 0; i < (uint32_t)n; i++) {
                octets[sizeof octets - 2] = (char)('0' + seen + i);
                expect_octets(batch, i, octets, sizeof octets - 1);
            }
            EXPECT(block_of(ring, block)->block_status, TP_STATUS_USER); /* not given back yet */
        }
        EXPECT(hand_out(ring, batch), 0);
        EXPECT(block_of(ring, block)->block_status, TP_STATUS_KERNEL);
    }
    EXPECT(ring->counters.delivered, 35);
    /* A block handed over without frames is passed by. */
    hand_over(ring, 1, 0);
    put_frame(ring, 2 * PAGE + FIRST_AT, user, PACKET_HOST, octets);
    hand_over(ring, 2, 1);
    EXPECT(rk_ring_receive(ring, batch, 0), 1);
    drop_rows(batch, arena);
    drop_ring(ring);
}

/* Numbers that lead out of the block are followed nowhere. */
static void check_bad_numbers(void)
{
    struct rk_batch *batch = rows(8);
    uint8_t *arena = batch->arena;
    for (int fault = 0; fault < 6; fault++) {
        struct rk_ring *ring = new_ring(fault == 5 ? RK_PACKET_COOKED | RK_PACKET_SLL2 : 0, PAGE, 2);
        struct tpacket3_hdr header = {.tp_status = TP_STATUS_USER};
        put_frame(ring, PAGE + FIRST_AT, header, PACKET_HOST, "destinsource\x08\x01payload");
        memcpy(&header, ring->memory + PAGE + FIRST_AT, sizeof header);
        ring->block = 1; /* the last one: behind it nothing is ours */
        hand_over(ring, 1, 3);
        int want = 0;
        switch (fault) {
        case 0: header.tp_snaplen = UINT32_MAX; break;
        case 1: header.tp_snaplen = PAGE - FIRST_AT - header.tp_mac + 1; break;
        case 2: header.tp_mac = UINT16_MAX; break;
        case 3: header.tp_next_offset = UINT32_MAX - 7; want = 1; break;
        case 4: header.tp_next_offset = PAGE - FIRST_AT - 40; want = 1; break;
        case 5: header.tp_mac = HEADER_LEN - 1; break;
        }
        if (want == 0)
            header.tp_next_offset = PAGE;
        memcpy(ring->memory + PAGE + FIRST_AT, &header, sizeof header);
        EXPECT((int)hand_out(ring, batch), want);
        drop_ring(ring);
    }
    drop_rows(batch, arena);
}

static void stay_on_one_processor(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    EXPECT(sched_setaffinity(0, sizeof one, &one), 0);
}

static void check_arguments(void)
{
    const struct rk_ring_config good = {
        .ifindex = 1, .protocol = 3, .block_len = BLOCK, .block_n = 4, .block_timeout_ms = 10};
    const struct rk_insn endless = {.code = BPF_JMP | BPF_JA, .k = 5};
    struct rk_ring *ring = NULL;
    struct {
        struct rk_ring_config config;
        int want;
    } cases[12];
    for (int i = 0; i < 12; i++) {
        cases[i].config = good;
        cases[i].want = -EINVAL;
    }
    cases[0].config.flags = 0x100;
    cases[1].config.ifindex = -1;
    cases[2].config.protocol = 0;
    cases[3].config.block_len = BLOCK + 1;
    cases[4].config.block_n = 1;
    cases[5].config.block_n = 65536; /* 4 GiB */
    cases[6].config.block_timeout_ms = 0;
    cases[7].config.fanout = 7;
    cases[8].config.ifindex = 0;
    cases[8].config.flags = RK_PACKET_PROMISCUOUS;
    cases[9].config.ifindex = 4711;
    cases[9].want = -ENODEV;
    cases[10].config.insns = &endless;
    cases[10].config.insns_n = 1;
    cases[11].config.fanout_group = 65536;
    for (int i = 0; i < 12; i++)
        EXPECT(rk_ring_open(&ring, &cases[i].config), cases[i].want);
    EXPECT(ring == NULL, 1);
    rk_ring_close(NULL);
}

static void say(uint32_t n)
{
    struct rk_packet *sock;
    EXPECT(rk_packet_open(&sock, 1, 0, 0, NULL, 0, 0), 0);
    struct rk_batch *batch = new_batch(n, n * 60);
    uint8_t octets[60] = "destinsource\x88\xb5";
    for (uint32_t i = 0; i < n; i++) {
        rk_store_be32(octets + 14, i);
        add(batch, octets, sizeof octets);
    }
    for (uint32_t done = 0; done < n;) {
        int sent = rk_packet_send(sock, batch, done, n - done, in_ms(1000));
        EXPECT(sent > 0, 1);
        if (sent <= 0)
            break;
        done += (uint32_t)sent;
    }
    drop_batch(batch);
    rk_packet_close(sock);
}

/* How many frames loopback brought: on a busy machine its queue (netdev_max_backlog) loses some of what
 * was sent before any socket can see it. */
static uint32_t brought(void)
{
    char line[256];
    unsigned frames = 0;
    FILE *file = fopen("/proc/net/dev", "r");
    EXPECT(file != NULL, 1);
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, " lo: %*u %u", &frames) == 1)
            break;
    if (file)
        fclose(file);
    return frames;
}

/* Receive until nothing comes for half a second; the frames' numbers have to rise. */
static uint32_t listen_for(struct rk_ring *ring)
{
    struct rk_batch *batch = rows(1000);
    uint8_t *arena = batch->arena;
    uint32_t seen = 0;
    int64_t last = -1;
    while (rk_ring_receive(ring, batch, in_ms(500)) > 0)
        for (uint32_t i = 0; i < batch->n; i++, seen++) {
            int64_t number = rk_load_be32(batch->arena + batch->frames[i].offset + 14);
            EXPECT(batch->frames[i].cap_len, 60);
            EXPECT(number > last, 1);
            last = number;
        }
    drop_rows(batch, arena);
    return seen;
}

static void check_loopback(void)
{
    const struct rk_insn local[] = {
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, 12}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0x88b5},
        {BPF_RET | BPF_K, 0, 0, 0xffff}, {BPF_RET | BPF_K, 0, 0, 0}};
    struct rk_ring_config config = {.ifindex = 1, .protocol = 3, .block_len = BLOCK, .block_n = 16,
                                    .block_timeout_ms = 5, .flags = RK_PACKET_IGNORE_OUTGOING | RK_RING_SEGMENT_LEN,
                                    .insns = local, .insns_n = 4};
    struct rk_ring *ring;
    EXPECT(rk_ring_open(&ring, &config), 0);
    struct rk_ring_counters counters;
    say(3000);
    uint32_t first = brought();
    EXPECT(first > 2000, 1);
    EXPECT(listen_for(ring), first);
    EXPECT(rk_ring_counters(ring, &counters), 0);
    EXPECT(counters.received, first);
    EXPECT(counters.dropped, 0);
    EXPECT(counters.delivered, first);

    /* More than it holds: the oldest are kept, the rest counted, and it goes on when it was read. */
    say(20000);
    uint32_t all = brought();
    uint32_t kept = listen_for(ring);
    EXPECT(kept > 1000 && kept < all - first, 1);
    EXPECT(rk_ring_counters(ring, &counters), 0);
    EXPECT(counters.received, all);
    EXPECT(counters.dropped, all - first - kept);
    EXPECT(counters.delivered, first + kept);
    say(10);
    EXPECT(listen_for(ring), 10);

    struct rk_batch *batch = rows(16);
    uint8_t *arena = batch->arena;
    EXPECT(rk_ring_receive(ring, batch, 0), 0);
    batch->capacity = 0;
    EXPECT(rk_ring_receive(ring, batch, 0), -EINVAL);
    batch->capacity = 16;
    EXPECT(rk_ring_fanout_group(ring) >= 0, 1);
    EXPECT(rk_ring_join(ring, (const uint8_t *)"\x01\0\x5e\0\0\x01"), 0);

    /* Down: told once, after what is there; then frames come again. */
    say(2);
    EXPECT(listen_for(ring), 2);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};
    EXPECT(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    EXPECT(rk_ring_receive(ring, batch, in_ms(500)), -ENETDOWN);
    EXPECT(rk_ring_receive(ring, batch, in_ms(150)), 0);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    EXPECT(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
    say(1);
    EXPECT(rk_ring_receive(ring, batch, in_ms(500)), 1);
    EXPECT(ring->went_down, 0);
    /* Frames can be read after the socket was closed. */
    rk_ring_shut(ring);
    EXPECT(rk_load_be16(batch->arena + batch->frames[0].offset + 12), 0x88b5);
    EXPECT(rk_ring_counters(ring, &counters), -EBADF);
    drop_rows(batch, arena);
    rk_ring_close(ring);
}

static void check_fanout(void)
{
    struct rk_ring_config config = {.ifindex = 1, .protocol = 0x88b5, .block_len = BLOCK, .block_n = 16,
                                    .block_timeout_ms = 5, .flags = RK_PACKET_IGNORE_OUTGOING,
                                    .fanout = RK_FANOUT_BALANCE, .fanout_group = -1};
    struct rk_ring *rings[3];
    EXPECT(rk_ring_open(&rings[0], &config), 0);
    config.fanout_group = rk_ring_fanout_group(rings[0]);
    EXPECT(config.fanout_group >= 0, 1);
    EXPECT(rk_ring_open(&rings[1], &config), 0);
    EXPECT(rk_ring_open(&rings[2], &config), 0);
    say(300);
    uint64_t total = 0;
    for (int i = 0; i < 3; i++) {
        struct rk_ring_counters counters;
        EXPECT(rk_ring_counters(rings[i], &counters), 0);
        EXPECT(counters.received, 100);
        total += counters.received;
        rk_ring_close(rings[i]);
    }
    EXPECT(total, 300);
}

int main(void)
{
    check_description();
    check_other_kinds();
    check_walk();
    check_bad_numbers();
    if (enter_private_network()) {
        stay_on_one_processor(); /* loopback has a queue for each, and frames of two overtake each other */
        check_arguments();
        check_loopback();
        check_fanout();
    }
    return result();
}
