/* The relay between two veth pairs in a network namespace of the test's own (skipped where none is allowed). */
#include "../rk_link.c"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

enum { SKIPPED = 77, ETHERTYPE = 0x88b5 /* for experiments (IEEE 802) */ };

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

static void put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* Frame number n: a header, the number, and octets that follow from it. */
static uint32_t make_frame(uint8_t *frame, uint32_t n, uint32_t len)
{
    static const uint8_t header[] = {0, 0, 0x5e, 0, 0x53, 2, 0, 0, 0x5e, 0, 0x53, 1, ETHERTYPE >> 8, ETHERTYPE & 0xff};
    memcpy(frame, header, sizeof header);
    put_u32(frame + sizeof header, n);
    for (uint32_t i = sizeof header + 4; i < len; i++)
        frame[i] = (uint8_t)(n * 7 + i);
    return len;
}

/* A link that delays and loses; the spec points into its own arrays until the next call. */
static struct rk_emu_spec make_spec(int64_t delay_ns, double loss, uint64_t seed, uint32_t capacity)
{
    static struct rk_emu_model models[4];
    static struct rk_emu_step delays[4];
    static int next;
    int i = next++ % 4;
    models[i] = (struct rk_emu_model){.kind = RK_EMU_BERNOULLI, .p = loss, .key = seed};
    delays[i] = (struct rk_emu_step){.value = delay_ns};
    return (struct rk_emu_spec){.models = &models[i], .models_n = 1, .delays = &delays[i], .delays_n = 1,
                                .limit = -1, .limit_octets = -1, .limit_ns = -1, .mtu = 65535, .capacity = capacity};
}

static struct rk_emu_spec plain(uint32_t capacity)
{
    return make_spec(0, 0, 1, capacity);
}

static void check_arguments(void)
{
    const struct rk_emu_spec good = plain(1), bad = make_spec(0, 1.01, 1, 1);
    struct rk_link *link = NULL;
    EXPECT(rk_link_open(&link, 1, 1, (struct rk_emu_spec[]){good, good}, 0), -EINVAL, "one interface");
    EXPECT(rk_link_open(&link, 1, 0, (struct rk_emu_spec[]){good, good}, 0), -EINVAL, "no interface");
    EXPECT(rk_link_open(&link, 1, 2, (struct rk_emu_spec[]){good, good}, -1), -EINVAL, "spin");
    int error = rk_link_open(&link, 1, 1 << 30, (struct rk_emu_spec[]){bad, good}, 0);
    EXPECT(error == -EINVAL || error == -EPERM || error == -ENODEV || error == -ENXIO, 1, "spec: %d", error);
    EXPECT(link == NULL, 1, "output after failure");
    rk_link_close(NULL);
}

/* ---- a real link ------------------------------------------------------------------------------ */

static struct rtattr *add_attribute(struct nlmsghdr *message, int type, const void *data, size_t len)
{
    struct rtattr *attribute = (struct rtattr *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));
    attribute->rta_type = (unsigned short)type;
    attribute->rta_len = (unsigned short)RTA_LENGTH(len);
    if (len)
        memcpy(RTA_DATA(attribute), data, len);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
    return attribute;
}

static void end_attribute(struct nlmsghdr *message, struct rtattr *attribute)
{
    attribute->rta_len = (unsigned short)((char *)message + message->nlmsg_len - (char *)attribute);
}

static int raise_link(int control, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_UP};
    strcpy(request.ifr_name, name);
    return ioctl(control, SIOCSIFFLAGS, &request);
}

/* Make a veth pair, both ends up (rtnetlink(7)). */
static int add_pair(const char *name, const char *peer)
{
    struct {
        _Alignas(NLMSG_ALIGNTO) struct nlmsghdr header;
        struct ifinfomsg link;
        char attributes[256];
    } m = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof m.link), .nlmsg_type = RTM_NEWLINK,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK}};
    const struct ifinfomsg nothing = {0};
    add_attribute(&m.header, IFLA_IFNAME, name, strlen(name) + 1);
    struct rtattr *info = add_attribute(&m.header, IFLA_LINKINFO, NULL, 0);
    add_attribute(&m.header, IFLA_INFO_KIND, "veth", 5);
    struct rtattr *data = add_attribute(&m.header, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *other = add_attribute(&m.header, VETH_INFO_PEER, &nothing, sizeof nothing);
    add_attribute(&m.header, IFLA_IFNAME, peer, strlen(peer) + 1);
    end_attribute(&m.header, other);
    end_attribute(&m.header, data);
    end_attribute(&m.header, info);

    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char quoted[512];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &m, m.header.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0)
        return -errno;
    close(fd);
    if (answer.error.error)
        return answer.error.error;

    int control = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < 2; i++)
        if (raise_link(control, i ? peer : name) != 0)
            return -errno;
    close(control);
    return 0;
}

/* Wait for a frame of ours, at most wait_ms; its length, or 0. */
static uint32_t receive(int sock, uint8_t *frame, size_t room, int wait_ms)
{
    struct pollfd ready = {.fd = sock, .events = POLLIN};
    while (poll(&ready, 1, wait_ms) > 0) {
        ssize_t len = recv(sock, frame, room, MSG_DONTWAIT);
        if (len >= 18 && frame[12] == ETHERTYPE >> 8 && frame[13] == (ETHERTYPE & 0xff))
            return (uint32_t)len;
    }
    return 0;
}

/* Hears and speaks at an outer end. */
static int open_socket(int ifindex)
{
    const int one = 1;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    EXPECT(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one), 0, "ignore outgoing");
    EXPECT(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one), 0, "auxdata");
    EXPECT(rk_io_set_buffer(fd, RECEIVE_BUFFER), 0, "buffer");
    EXPECT(bind_to(fd, ifindex, ETH_P_ALL), 0, "bind");
    return fd;
}

/* Return once frames pass: until the kernel has noticed a link's carrier, it drops them without a word. */
static int wait_until_passing(const char *from, const char *to)
{
    uint8_t frame[64];
    int out = open_socket((int)if_nametoindex(from)), in = open_socket((int)if_nametoindex(to)), passed = 0;
    for (int i = 0; i < 5000 && !passed; i++) {
        EXPECT(send(out, frame, make_frame(frame, 0, sizeof frame), 0), sizeof frame, "send");
        passed = receive(in, frame, sizeof frame, 1) > 0;
    }
    close(out);
    close(in);
    return passed;
}

struct world {
    struct rk_link *link;
    pthread_t thread;
    int result;
    int a, b; /* packet sockets at the outer ends */
};

static void *relay(void *argument)
{
    struct world *world = argument;
    world->result = rk_link_run(world->link);
    return NULL;
}

static int start(struct world *world, struct rk_emu_spec a_to_b, struct rk_emu_spec b_to_a)
{
    int error = rk_link_open(&world->link, (int)if_nametoindex("ra"), (int)if_nametoindex("rb"),
                             (struct rk_emu_spec[]){a_to_b, b_to_a}, 0);
    EXPECT(error, 0, "open");
    if (error)
        return error;
    world->a = open_socket((int)if_nametoindex("a"));
    world->b = open_socket((int)if_nametoindex("b"));
    pthread_create(&world->thread, NULL, relay, world);
    return 0;
}

static void stop(struct world *world, struct rk_link_counters out[2])
{
    rk_link_stop(world->link);
    pthread_join(world->thread, NULL);
    rk_link_read(world->link, out);
    rk_link_close(world->link);
    close(world->a);
    close(world->b);
}

static void check_delay_and_order(void)
{
    enum { FRAMES = 2000, DELAY_NS = 3000000 };
    struct world world;
    struct rk_link_counters counters[2];
    static int64_t sent_ns[FRAMES];
    static uint8_t frame[2048], expected[2048];
    if (start(&world, make_spec(DELAY_NS, 0, 1, FRAMES), plain(10)))
        return;
    uint32_t got = 0;
    for (uint32_t n = 0; n < FRAMES; n++) {
        uint32_t len = make_frame(frame, n, 60 + n % 1400);
        sent_ns[n] = rk_monotonic_ns();
        EXPECT(send(world.a, frame, len, 0), len, "send %u", n);
        if (n % 16 != 15 && n != FRAMES - 1)
            continue;
        while (got <= n) {
            uint32_t arrived = receive(world.b, frame, sizeof frame, 2000);
            if (!arrived) {
                EXPECT(got, n + 1, "frames arrived");
                goto out;
            }
            int64_t took_ns = rk_monotonic_ns() - sent_ns[got];
            EXPECT(arrived, make_frame(expected, got, 60 + got % 1400), "length of %u", got);
            EXPECT(memcmp(frame, expected, arrived), 0, "frame %u, got number %u", got, get_u32(frame + 14));
            EXPECT(took_ns >= DELAY_NS, 1, "frame %u took only %lld ns", got, (long long)took_ns);
            got++;
        }
    }
out:
    stop(&world, counters);
    EXPECT(world.result, 0, "run");
    EXPECT(counters[0].received, FRAMES, "received");
    EXPECT(counters[0].sent, FRAMES, "sent");
    EXPECT(counters[1].received, 0, "frames the other way: what the relay sends, it must not take");
}

/* Which of the frames 0..n-1 arrive, as a text of ones and zeros. */
static void fates(struct world *world, char *fate, uint32_t n)
{
    uint8_t frame[64];
    memset(fate, '0', n);
    fate[n] = 0;
    for (uint32_t i = 0; i < n; i++)
        EXPECT(send(world->a, frame, make_frame(frame, i, sizeof frame), 0), sizeof frame, "send");
    while (receive(world->b, frame, sizeof frame, 100))
        fate[get_u32(frame + 14)] = '1';
}

static void check_losses(void)
{
    enum { FRAMES = 400 };
    char fate[3][FRAMES + 1];
    struct rk_link_counters counters[2];
    for (int run = 0; run < 3; run++) {
        struct world world;
        /* The third run differs in the other direction only, and in traffic there. */
        if (start(&world, make_spec(0, 0.2, 42, FRAMES), make_spec(0, run == 2 ? 0.5 : 0, run == 2 ? 99 : 1, 10)))
            return;
        uint8_t frame[64];
        make_frame(frame, 0, sizeof frame);
        for (int i = 0; run == 2 && i < 50; i++)
            EXPECT(send(world.b, frame, sizeof frame, 0), sizeof frame, "send back");
        fates(&world, fate[run], FRAMES);
        stop(&world, counters);
        const struct rk_link_counters *c = &counters[0];
        EXPECT(c->received, FRAMES, "received");
        const uint64_t lost = c->causes[RK_EMU_LOSS];
        EXPECT(c->sent + lost + c->causes[RK_EMU_NO_ROOM] + c->refused, FRAMES, "the counters add up");
        EXPECT(lost > 0 && lost < FRAMES / 2, 1, "lost %llu", (unsigned long long)lost);
    }
    EXPECT(strcmp(fate[0], fate[1]), 0, "the same seed:\n%s\n%s", fate[0], fate[1]);
    EXPECT(strcmp(fate[0], fate[2]), 0, "another return path:\n%s\n%s", fate[0], fate[2]);
}

static void check_full_queue(void)
{
    struct world world;
    struct rk_link_counters counters[2];
    char fate[11];
    if (start(&world, make_spec(80000000, 0, 1, 4), plain(1)))
        return;
    fates(&world, fate, 10);
    stop(&world, counters);
    EXPECT(strcmp(fate, "1111000000"), 0, "the first four arrive: %s", fate);
    EXPECT(counters[0].causes[RK_EMU_NO_ROOM], 6, "no room");
    EXPECT(counters[0].sent, 4, "sent");
}

static void check_tagged(void)
{
    struct world world;
    struct rk_link_counters counters[2];
    uint8_t frame[64] = {0}, got[64];
    if (start(&world, plain(4), plain(4)))
        return;
    make_frame(frame, 1, sizeof frame);
    memcpy(frame + 12, (const uint8_t[]){0x81, 0, 0x60, 5}, 4);
    EXPECT(send(world.a, frame, sizeof frame, 0), sizeof frame, "send");
    /* The receiving kernel takes the tag out again; it is in the ancillary data. */
    struct iovec iov = {got, sizeof got};
    uint8_t control[256], tag[TAG_LEN] = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = world.b, .events = POLLIN};
    EXPECT(poll(&ready, 1, 2000), 1, "the tagged frame arrives");
    EXPECT(recvmsg(world.b, &message, MSG_DONTWAIT), sizeof frame - TAG_LEN, "length without tag");
    EXPECT(taken_tag(&message, tag) != NULL, 1, "has a tag");
    EXPECT(memcmp(tag, frame + 12, TAG_LEN), 0, "the same tag");
    stop(&world, counters);
}

/* Must be last: it takes an interface away. */
static void check_removed_interface(void)
{
    struct world world;
    struct rk_link_counters counters[2];
    if (start(&world, plain(4), plain(4)))
        return;
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } m = {.header = {.nlmsg_len = sizeof m, .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST},
           .link = {.ifi_index = (int)if_nametoindex("ra")}};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    EXPECT(send(fd, &m, sizeof m, 0), sizeof m, "remove ra");
    close(fd);
    pthread_join(world.thread, NULL); /* ends by itself, or the test times out */
    EXPECT(world.result, -ENODEV, "run");
    rk_link_read(world.link, counters);
    rk_link_close(world.link);
    close(world.a);
    close(world.b);
}

/* Into a silent network of the test's own; 0 when there is none to be had. */
static int enter_private_network(void)
{
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return 0;
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        EXPECT(write(fd, "1", 1), 1, "no IPv6");
        close(fd);
    }
    return add_pair("a", "ra") == 0 && add_pair("b", "rb") == 0 && wait_until_passing("a", "ra")
           && wait_until_passing("ra", "a") && wait_until_passing("b", "rb") && wait_until_passing("rb", "b");
}

int main(void)
{
    check_arguments();
    if (!enter_private_network()) {
        fprintf(stderr, "no private network: the relay itself is not tested\n");
        return failures ? 1 : SKIPPED;
    }
    check_delay_and_order();
    check_losses();
    check_full_queue();
    check_tagged();
    check_removed_interface();
    if (failures)
        fprintf(stderr, "%d failures\n", failures);
    return failures != 0;
}
