/* What the kernel allows whoever asks and is answered: the bounds beside which benchmarks/ping.py and scan.py put
 * sweeps and scans.
 *
 *     limit_probe INTERFACE FRAME_IN_HEX COUNT THREADS RECEIVE
 *
 * The frame is an echo request, or a TCP SYN, over IPv4. COUNT of them leave, each to another address (echo
 * requests: the low half of the destination counts up) or port, by packet sockets and sendmmsg, from THREADS
 * threads on processors of their own; nothing is looked at in what comes back. RECEIVE is
 *   none    nothing is received;
 *   socket  recvmmsg after each batch, until there is nothing more;
 *   ring    PACKET_RX_RING, version 2: no system calls.
 * Prints how many came back, and the seconds from the first request to the last answer. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, FRAME_MAX = 256, SLOT = 256, SLOTS = 4096, BLOCK = 1 << 16, THREADS_MAX = 8 };
enum { IP_AT = 14, UPPER_AT = 34, TCP = 6 };

static uint8_t frame[FRAME_MAX];
static size_t frame_len;
static int ifindex, threads;
static const char *receive;
static pthread_barrier_t ready;

struct lane {
    long number, requests, answers;
    int in, out;
    uint8_t *ring;
    size_t at;
    double began, ended;
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Set a word and the checksum that covers it (RFC 1624). */
static void put(uint8_t *word, uint8_t *checksum, unsigned value)
{
    unsigned sum = (0xffffu ^ (checksum[0] << 8 | checksum[1])) + (0xffffu ^ (word[0] << 8 | word[1])) + value;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = 0xffffu ^ ((sum & 0xffff) + (sum >> 16));
    word[0] = (uint8_t)(value >> 8), word[1] = (uint8_t)value;
    checksum[0] = (uint8_t)(sum >> 8), checksum[1] = (uint8_t)sum;
}

static void open_lane(struct lane *lane)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = ifindex};
    lane->out = socket(AF_PACKET, SOCK_RAW, 0);
    if (lane->out < 0 || bind(lane->out, (struct sockaddr *)&address, sizeof address) != 0)
        fail("socket");
    if (strcmp(receive, "none") == 0)
        return;
    lane->in = socket(AF_PACKET, SOCK_DGRAM, 0);
    int size = 32 << 20, version = TPACKET_V2, fanout = PACKET_FANOUT_CPU << 16 | 77;
    if (lane->in < 0 || setsockopt(lane->in, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        fail("socket");
    if (strcmp(receive, "ring") == 0) {
        struct tpacket_req request = {BLOCK, SLOTS * SLOT / BLOCK, SLOT, SLOTS};
        if (setsockopt(lane->in, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
            setsockopt(lane->in, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
            fail("PACKET_RX_RING");
        lane->ring = mmap(NULL, SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, lane->in, 0);
        if (lane->ring == MAP_FAILED)
            fail("mmap");
    }
    address.sll_protocol = htons(ETH_P_IP);
    if (bind(lane->in, (struct sockaddr *)&address, sizeof address) != 0 ||
        (threads > 1 && setsockopt(lane->in, SOL_PACKET, PACKET_FANOUT, &fanout, sizeof fanout) != 0))
        fail("bind");
}

static long by_socket(struct lane *lane)
{
    static __thread uint8_t octets[BATCH][FRAME_MAX];
    static __thread struct iovec parts[BATCH];
    static __thread struct mmsghdr messages[BATCH];
    long got = 0;
    for (int n = BATCH; n == BATCH; got += n > 0 ? n : 0) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){octets[i], FRAME_MAX};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        n = recvmmsg(lane->in, messages, BATCH, MSG_DONTWAIT, NULL);
    }
    return got;
}

static long by_ring(struct lane *lane)
{
    long got = 0;
    for (;; got++, lane->at = (lane->at + SLOT) % (SLOTS * SLOT)) {
        struct tpacket2_hdr *slot = (struct tpacket2_hdr *)(lane->ring + lane->at);
        if (!(__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
            return got;
        __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
}

static long take(struct lane *lane)
{
    return lane->ring ? by_ring(lane) : lane->in ? by_socket(lane) : 0;
}

static void *run(void *argument)
{
    struct lane *lane = argument;
    static __thread uint8_t octets[BATCH][FRAME_MAX];
    static __thread struct mmsghdr messages[BATCH];
    static __thread struct iovec parts[BATCH];
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((int)lane->number % (int)sysconf(_SC_NPROCESSORS_ONLN), &one);
    if (threads > 1)
        sched_setaffinity(0, sizeof one, &one);
    bool tcp = frame[IP_AT + 9] == TCP;
    uint32_t at = tcp ? UPPER_AT + 2 : IP_AT + 18, checksum_at = tcp ? UPPER_AT + 16 : IP_AT + 10;
    for (int i = 0; i < BATCH; i++) {
        memcpy(octets[i], frame, frame_len);
        parts[i] = (struct iovec){octets[i], frame_len};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    pthread_barrier_wait(&ready);
    lane->began = now();
    unsigned next = 1 + (unsigned)(lane->number * lane->requests);
    for (long left = lane->requests; left > 0;) {
        int n = left < BATCH ? (int)left : BATCH;
        for (int i = 0; i < n; i++)
            put(octets[i] + at, octets[i] + checksum_at, next++ & 0xffff);
        for (int sent = 0; sent < n;) {
            int more = sendmmsg(lane->out, messages + sent, (unsigned)(n - sent), 0);
            if (more < 0)
                fail("sendmmsg");
            sent += more;
        }
        left -= n;
        lane->answers += take(lane);
    }
    lane->ended = now();
    /* What is on the way still: over a virtual link almost nothing. */
    for (double until = now() + 0.05; now() < until && lane->answers < lane->requests;) {
        long more = take(lane);
        lane->answers += more;
        if (more)
            lane->ended = now();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 6 || (threads = atoi(argv[4])) < 1 || threads > THREADS_MAX)
        return 2;
    receive = argv[5];
    frame_len = strlen(argv[2]) / 2;
    if (frame_len > sizeof frame || frame_len < UPPER_AT + 8)
        return 2;
    for (size_t i = 0; i < frame_len; i++)
        sscanf(argv[2] + 2 * i, "%2hhx", &frame[i]);
    ifindex = (int)if_nametoindex(argv[1]);
    struct lane lanes[THREADS_MAX] = {0};
    pthread_t handles[THREADS_MAX];
    pthread_barrier_init(&ready, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        lanes[i].number = i;
        lanes[i].requests = atol(argv[3]) / threads;
        open_lane(&lanes[i]);
    }
    for (int i = 0; i < threads; i++)
        if (pthread_create(&handles[i], NULL, run, &lanes[i]) != 0)
            fail("pthread_create");
    double began = 1e300, ended = 0;
    long answers = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        began = lanes[i].began < began ? lanes[i].began : began;
        ended = lanes[i].ended > ended ? lanes[i].ended : ended;
        answers += lanes[i].answers;
    }
    printf("%ld %.6f\n", answers, ended - began);
    return 0;
}
