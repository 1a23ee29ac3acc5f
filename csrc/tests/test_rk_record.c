/* From a ring whose blocks we write ourselves into a file: the records are those that rk_pcap_write makes, and
 * wherever a call ends, its numbers say what of them is in the file. */
#include "../rk_ring.c"

#include "rk_test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define PAGE 4096
#define BLOCK (16 * PAGE)
#define BLOCKS 8
#define FIRST_AT 48
#define PIECE 1000
#define BUFFER 8192
#define IFINDEX 7

static const struct rk_pcap_interface interfaces[] = {{.ifindex = IFINDEX, .number = 0, .snaplen = 262144}};
static uint8_t expected[BLOCKS * BLOCK]; /* the records of all frames put into the ring */
static uint32_t expected_len;
static uint32_t ends[4096]; /* of these records */
static uint32_t frames_n;

/* A ring with full blocks of frames of many lengths, and in expected[] their records. */
static struct rk_ring *full_ring(const struct rk_pcap_output *output)
{
    struct rk_ring *ring = calloc(1, sizeof *ring);
    *ring = (struct rk_ring){.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), /* never readable */
                             .memory = aligned_alloc(PAGE, BLOCKS * BLOCK),
                             .memory_len = BLOCKS * BLOCK,
                             .block_len = BLOCK,
                             .block_n = BLOCKS};
    memset(ring->memory, 0, ring->memory_len);
    expected_len = frames_n = 0;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct tpacket_hdr_v1 *block = &((struct tpacket_block_desc *)(void *)(ring->memory + i * BLOCK))->hdr.bh1;
        uint32_t at = i * BLOCK + FIRST_AT;
        for (; at + 3 * 1024 <= (i + 1) * BLOCK; block->num_pkts++) {
            uint32_t mac = TPACKET_ALIGN(HEADER_LEN + 16), len = 14 + frames_n * 37 % 1500;
            struct tpacket3_hdr header = {.tp_status = TP_STATUS_USER, .tp_sec = 1000 + frames_n, .tp_nsec = 999999999,
                                          .tp_mac = (uint16_t)mac, .tp_snaplen = len, .tp_len = len + 1,
                                          .tp_next_offset = (mac + len + 7) & ~7u};
            struct sockaddr_ll name = {.sll_ifindex = IFINDEX, .sll_pkttype = PACKET_HOST};
            memcpy(ring->memory + at, &header, sizeof header);
            memcpy(ring->memory + at + NAME_AT, &name, sizeof name);
            memset(ring->memory + at + mac, (int)frames_n, len);
            struct rk_frame frame = {.time_ns = (1000ll + frames_n) * 1000000000 + 999999999, .offset = at + mac,
                                     .cap_len = len, .wire_len = len + 1, .ifindex = IFINDEX,
                                     .flags = RK_FRAME_KERNEL_TIME};
            struct rk_batch one = {.arena = ring->memory, .frames = &frame, .arena_len = ring->memory_len,
                                   .n = 1, .capacity = 1};
            EXPECT(rk_pcap_write(output, &one, 0, 1, expected, sizeof expected, &expected_len), 1);
            ends[frames_n++] = expected_len;
            at += header.tp_next_offset;
        }
        block->offset_to_first_pkt = FIRST_AT;
        block->block_status = TP_STATUS_USER;
    }
    return ring;
}

static void drop(struct rk_recorder *recorder, struct rk_ring *ring)
{
    close(recorder->fd);
    free(recorder->buffer);
    close(ring->fd);
    free(ring->memory);
    free(ring);
}

static int new_file(void)
{
    FILE *file = tmpfile();
    int fd = dup(fileno(file));
    fclose(file);
    return fd;
}

static uint32_t stop;

static struct rk_recorder new_recorder(int fd)
{
    return (struct rk_recorder){.buffer = malloc(BUFFER), .buffer_len = BUFFER, .piece_len = PIECE, .fd = fd,
                                .full_len = UINT64_MAX, .most = UINT64_MAX, .stop = &stop};
}

/* What is in the file and in the buffer are the first records, and the numbers say how many; returns how many. */
static uint32_t expect_records(const struct rk_recorder *recorder)
{
    static uint8_t octets[sizeof expected];
    ssize_t len = pread(recorder->fd, octets, sizeof octets, 0);
    EXPECT(len, recorder->file_len + recorder->done);
    memcpy(octets + recorder->file_len, recorder->buffer, recorder->used);
    uint64_t all = recorder->file_len + recorder->used;
    EXPECT(memcmp(octets, expected, all), 0);
    uint32_t n = 0;
    for (; n < frames_n && ends[n] <= recorder->file_len; n++)
        ;
    EXPECT(recorder->file_len, n ? ends[n - 1] : 0); /* whole records */
    EXPECT(recorder->file_packets, n);
    for (; n < frames_n && ends[n] <= all; n++)
        ;
    EXPECT(all, n ? ends[n - 1] : 0);
    EXPECT(recorder->packets, n);
    return n;
}

static struct rk_batch *rows;

/* All that is in the ring: how many frames were taken, of which *rejected did not pass. */
static uint64_t record_all(struct rk_recorder *recorder, struct rk_ring *ring, const struct rk_pcap_output *output,
                           uint64_t *rejected)
{
    uint64_t taken = 0;
    *rejected = 0;
    do {
        EXPECT(rk_record(recorder, ring, rows, output, 1), 0);
        taken += recorder->taken;
        *rejected += recorder->rejected;
    } while (recorder->taken > 0);
    return taken;
}

static void check_limits(const struct rk_pcap_output *output)
{
    struct rk_ring *ring = full_ring(output);
    struct rk_recorder recorder = new_recorder(new_file());
    EXPECT(rk_record(&recorder, ring, rows, output, 1), 0); /* the deadline has passed: what one look finds */
    EXPECT(expect_records(&recorder), 64);
    EXPECT(recorder.taken, 64);
    EXPECT(recorder.used, 0);
    recorder.most = 5;
    EXPECT(rk_record(&recorder, ring, rows, output, INT64_MAX), 0);
    EXPECT(expect_records(&recorder), 69);
    recorder.most = UINT64_MAX;
    stop = 1;
    EXPECT(rk_record(&recorder, ring, rows, output, INT64_MAX), 0);
    stop = 0;
    uint32_t n = expect_records(&recorder);
    EXPECT(n > 69 && n < frames_n, 1);
    uint64_t rejected;
    EXPECT(record_all(&recorder, ring, output, &rejected), frames_n - n);
    EXPECT(rejected, 0);
    EXPECT(expect_records(&recorder), frames_n);
    EXPECT(recorder.used, 0);
    EXPECT(rows->capacity, 64);
    EXPECT(ring->counters.delivered, frames_n);
    drop(&recorder, ring);
}

/* A file that is full with any octet of a record ends behind that record; what is left is told. */
static void check_full_files(const struct rk_pcap_output *output)
{
    for (uint32_t n = 0; n < 40; n++)
        for (uint32_t less = 0; less < 2; less++) {
            struct rk_ring *ring = full_ring(output);
            struct rk_recorder recorder = new_recorder(new_file());
            recorder.full_len = ends[n] - less;
            EXPECT(rk_record(&recorder, ring, rows, output, INT64_MAX), 0);
            EXPECT(expect_records(&recorder), n + 1);
            EXPECT(recorder.next, n + 1);
            EXPECT(rows->n, 64);
            EXPECT(recorder.error, 0);
            drop(&recorder, ring);
        }
}

/* A row whose interface is not known is left, and those behind it. */
static void check_rest(void)
{
    struct rk_pcap_output output = {.linktype = 1};
    struct rk_pcap_output known = {.linktype = 1, .interfaces = interfaces, .interfaces_n = 1};
    struct rk_ring *ring = full_ring(&known);
    struct rk_recorder recorder = new_recorder(new_file());
    EXPECT(rk_record(&recorder, ring, rows, &output, INT64_MAX), 0);
    EXPECT(recorder.next, 0);
    EXPECT(rows->n, 64);
    EXPECT(expect_records(&recorder), 0);
    drop(&recorder, ring);
}

/* Wherever the disk is full, what is written ends somewhere in what the buffer still holds from a record's
 * beginning on; and once there is room, it goes on as if nothing had been. */
static void check_full_disk(const struct rk_pcap_output *output)
{
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    for (rlim_t most = 0; most < 12000; most += 97) {
        struct rk_ring *ring = full_ring(output);
        struct rk_recorder recorder = new_recorder(new_file());
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = most, .rlim_max = before.rlim_max});
        EXPECT(rk_record(&recorder, ring, rows, output, INT64_MAX), 0);
        setrlimit(RLIMIT_FSIZE, &before);
        EXPECT(recorder.error, EFBIG);
        EXPECT(recorder.file_len + recorder.done, most);
        expect_records(&recorder);
        if (recorder.next == rows->n) { /* nothing is left that others have to put */
            uint64_t rejected;
            record_all(&recorder, ring, output, &rejected);
            EXPECT(recorder.error, 0);
            EXPECT(expect_records(&recorder), frames_n);
        }
        drop(&recorder, ring);
    }
}

/* What user space judges: all frames by a program that passes those of 100 octets and more, cut to 60. */
static void check_filter(const struct rk_pcap_output *output)
{
    struct rk_pcaplib *lib;
    if (rk_pcaplib_open(&lib, "libpcap.so.1") != 0 && rk_pcaplib_open(&lib, "libpcap.so.0.8") != 0) {
        printf("skipped: no libpcap\n");
        return;
    }
    const struct rk_insn insns[] = {{.code = 0x80}, {.code = 0x35, .jt = 0, .jf = 1, .k = 101}, {.code = 6, .k = 60}, {.code = 6}};
    struct rk_ring *ring = full_ring(output);
    struct rk_recorder recorder = new_recorder(new_file());
    recorder.pcaplib = lib;
    recorder.insns = insns;
    recorder.insns_n = 4;
    uint64_t rejected;
    EXPECT(record_all(&recorder, ring, output, &rejected), frames_n);
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < frames_n; i++)
        wanted += 14 + i * 37 % 1500 >= 100;
    EXPECT(recorder.packets, wanted);
    EXPECT(rejected, frames_n - wanted);
    EXPECT(recorder.file_len, wanted * (output->tick_ns ? 76 : 32 + 60 + 12));
    drop(&recorder, ring);
    ring = full_ring(output);
    struct rk_recorder other = new_recorder(new_file());
    other.pcaplib = lib;
    other.insns = insns;
    other.insns_n = 4;
    other.judged = RK_FRAME_VLAN; /* of which there is none */
    EXPECT(record_all(&other, ring, output, &rejected), frames_n);
    EXPECT(expect_records(&other), frames_n);
    drop(&other, ring);
    rk_pcaplib_close(lib);
}

int main(void)
{
    const struct rk_pcap_output kinds[] = {{.tick_ns = 1, .snaplen = 262144},
                                           {.linktype = 1, .interfaces = interfaces, .interfaces_n = 1}};
    rows = new_batch(64, 1);
    uint8_t *arena = rows->arena;
    for (int i = 0; i < 2; i++) {
        check_limits(&kinds[i]);
        check_full_files(&kinds[i]);
        check_full_disk(&kinds[i]);
        check_filter(&kinds[i]);
    }
    check_rest();
    struct rk_recorder odd = new_recorder(-1);
    odd.used = odd.buffer_len + 1;
    EXPECT(rk_record(&odd, NULL, rows, &kinds[0], 0), -EINVAL);
    free(odd.buffer);
    rows->arena = arena;
    drop_batch(rows);
    return result();
}
