/* Receiving in chunks, over a pair of UNIX datagram sockets: they need no privilege and keep messages whole. */
#include "../rk_io.c"

#include "rk_test.h"

#include <signal.h>
#include <sys/time.h>

/* Puts marks into the octets where its settings say. */
struct marker {
    uint32_t at;
    uint32_t extra_len;
    int failed_with;
    int answer;
};

static void describe(const void *sock, const struct msghdr *message, const uint8_t *prefix,
                     struct rk_arrival *arrival)
{
    (void)message;
    (void)prefix;
    const struct marker *marker = sock;
    if (arrival->octets_len < marker->at)
        return;
    arrival->at = marker->at;
    arrival->extra_len = marker->extra_len;
    memset(arrival->extra, '#', marker->extra_len);
}

static int failed(void *sock, int error)
{
    struct marker *marker = sock;
    marker->failed_with = error;
    return marker->answer;
}

static struct rk_inbox inbox;
static int pair[2];
static struct marker marker;

static int receive(struct rk_batch *batch, int64_t deadline_ns)
{
    return rk_inbox_receive(&inbox, pair[1], batch, deadline_ns, &marker, describe, failed);
}

static void say(uint32_t number, uint32_t len)
{
    static uint8_t octets[80000];
    for (uint32_t i = 0; i < len; i++)
        octets[i] = (uint8_t)(number * 31 + i);
    EXPECT(send(pair[0], octets, len, 0), len);
}

static void expect_octets(const uint8_t *octets, uint32_t number, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (octets[i - from] != (uint8_t)(number * 31 + i)) {
            EXPECT(octets[i - from], (uint8_t)(number * 31 + i));
            return;
        }
}

/* Any number of messages of any length through arenas of all sizes: in order, whole unless longer than the
 * arena, each once. */
static void check_order(uint32_t capacity, uint32_t arena_len)
{
    struct rk_batch *batch = new_batch(capacity, arena_len);
    uint64_t random = capacity * 7919 + arena_len;
    uint32_t lens[200], sent = 0, got = 0;
    while (got < 200) {
        for (uint64_t n = next_number(&random) % 8; n > 0 && sent < 200; n--) {
            lens[sent] = (uint32_t)(next_number(&random) % 400) + 1;
            say(sent, lens[sent]);
            sent++;
        }
        int n = receive(batch, 0);
        EXPECT(n, batch->n);
        if (sent > got && n == 0)
            EXPECT(got, sent);
        for (int i = 0; i < n; i++, got++) {
            const struct rk_frame *frame = &batch->frames[i];
            EXPECT(frame->wire_len, lens[got] + (lens[got] >= marker.at ? marker.extra_len : 0));
            EXPECT(frame->cap_len, frame->wire_len < arena_len ? frame->wire_len : arena_len);
            EXPECT(frame->time_ns > 0, 1);
            const uint8_t *octets = batch->arena + frame->offset;
            if (frame->cap_len == frame->wire_len && frame->wire_len > lens[got]) {
                expect_octets(octets, got, 0, marker.at);
                for (uint32_t k = 0; k < marker.extra_len; k++)
                    EXPECT(octets[marker.at + k], '#');
                expect_octets(octets + marker.at + marker.extra_len, got, marker.at, lens[got]);
            } else if (marker.extra_len == 0) {
                expect_octets(octets, got, 0, frame->cap_len);
            }
        }
    }
    EXPECT(receive(batch, 0), 0);
    drop_batch(batch);
}

static void check_long(void)
{
    marker = (struct marker){0};
    struct rk_batch *batch = new_batch(2, 100000);
    say(1, 70000);
    say(2, RK_SLOT_LEN);
    EXPECT(receive(batch, 0), 1); /* the second waits: there is no room for it */
    EXPECT(batch->frames[0].wire_len, 70000);
    EXPECT(batch->frames[0].cap_len, RK_SLOT_LEN);
    expect_octets(batch->arena, 1, 0, RK_SLOT_LEN);
    EXPECT(receive(batch, 0), 1);
    EXPECT(batch->frames[0].cap_len, RK_SLOT_LEN);
    expect_octets(batch->arena, 2, 0, RK_SLOT_LEN);
    drop_batch(batch);
}

static void ignore(int number)
{
    (void)number;
}

static void check_waiting(void)
{
    struct rk_batch *batch = new_batch(4, 100);
    int64_t began = rk_monotonic_ns();
    EXPECT(receive(batch, in_ms(30)), 0);
    EXPECT(rk_monotonic_ns() - began >= 30000000, 1);
    EXPECT(receive(batch, -1), 0);
    EXPECT(receive(batch, INT64_MIN), 0);

    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 20000}, NULL);
    EXPECT(receive(batch, in_ms(5000)), -EINTR);

    batch->capacity = 0;
    EXPECT(receive(batch, 0), -EINVAL);
    batch->capacity = 4;
    batch->arena_len = 0;
    EXPECT(receive(batch, 0), -EINVAL);
    batch->arena_len = 100;
    drop_batch(batch);
}

/* An error is shown to the socket's owner, which may deal with it or not; it comes after the messages before it. */
static void check_errors(void)
{
    struct rk_batch *batch = new_batch(4, 100);
    int good = pair[1];
    pair[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    marker = (struct marker){.answer = -EPROTO};
    EXPECT(receive(batch, in_ms(1000)), -EPROTO);
    EXPECT(marker.failed_with, -ENOTSOCK);
    close(pair[1]);
    pair[1] = good;

    inbox.error = -ENETDOWN; /* as it is after messages were handed out */
    EXPECT(receive(batch, 0), -ENETDOWN);
    say(3, 10);
    EXPECT(receive(batch, 0), 1);
    drop_batch(batch);
}

static void check_send_again(void)
{
    int64_t pause_ns = 0;
    EXPECT(rk_io_send_again(pair[0], -EMSGSIZE, INT64_MAX, &pause_ns), -EMSGSIZE);
    EXPECT(rk_io_send_again(pair[0], -ENOBUFS, 0, &pause_ns), -ENOBUFS);
    int64_t before = rk_monotonic_ns();
    for (int i = 0; i < 8; i++)
        EXPECT(rk_io_send_again(pair[0], -ENOBUFS, in_ms(1000), &pause_ns), 1);
    EXPECT(rk_monotonic_ns() - before > 5000000, 1); /* ever longer pauses */
    EXPECT(pause_ns >= 1000000 && pause_ns < 2000000, 1);
    EXPECT(rk_io_send_again(pair[0], -EAGAIN, 0, &pause_ns), 1); /* there is room */
    uint8_t octet = 0;
    while (send(pair[0], &octet, 1, MSG_DONTWAIT) == 1)
        ;
    EXPECT(rk_io_send_again(pair[0], -EAGAIN, in_ms(10), &pause_ns), 0);
}

/* A socket that prepares plain messages, and refuses the frame whose first octet is `refused`. */
struct sender {
    struct rk_outbox outbox;
    struct iovec iov[RK_CHUNK];
    uint8_t refused;
    int full; /* so often the queue is full */
};

static int prepare(void *sock, const struct rk_frame *frame, uint8_t *octets, uint32_t slot, struct msghdr *message)
{
    struct sender *sender = sock;
    if (octets[0] == sender->refused)
        return -EPROTO;
    sender->iov[slot] = (struct iovec){octets, frame->cap_len};
    message->msg_iov = &sender->iov[slot];
    message->msg_iovlen = 1;
    return 0;
}

static int offer(void *sock, const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    struct sender *sender = sock;
    return sender->full-- > 0 ? -ENOBUFS
                              : rk_outbox_offer(&sender->outbox, pair[0], batch, first, n, sender, prepare);
}

/* Frames go in order up to the one that is refused, which meets the next call; a full queue is waited for and
 * counted, whether or not frames went before. */
static void check_sending(void)
{
    static struct sender sender = {.refused = 70};
    struct rk_batch *batch = new_batch(100, 200);
    for (uint8_t i = 0; i < 100; i++)
        add(batch, (uint8_t[]){i, i}, 2);
    uint8_t got[2], next = 0;
    EXPECT(rk_outbox_send(&sender.outbox, pair[0], batch, 1, 100, INT64_MAX, &sender, offer), -EINVAL);
    for (uint32_t from = 0; from < 70; from += 5) { /* few at a time: the socket has little room */
        EXPECT(rk_outbox_send(&sender.outbox, pair[0], batch, from, from == 65 ? 35 : 5, INT64_MAX, &sender, offer), 5);
        for (; next < from + 5; next++) {
            EXPECT(recv(pair[1], got, sizeof got, MSG_DONTWAIT), 2);
            EXPECT(got[0], next);
        }
    }
    EXPECT(recv(pair[1], got, sizeof got, MSG_DONTWAIT), -1);
    EXPECT(rk_outbox_send(&sender.outbox, pair[0], batch, 70, 1, INT64_MAX, &sender, offer), -EPROTO);

    sender.full = 3;
    EXPECT(rk_outbox_send(&sender.outbox, pair[0], batch, 71, 2, INT64_MAX, &sender, offer), 2);
    EXPECT(sender.outbox.full_n, 3);
    sender.full = 3;
    EXPECT(rk_outbox_send(&sender.outbox, pair[0], batch, 71, 1, 0, &sender, offer), -ENOBUFS);
    EXPECT(sender.outbox.full_n, 4);
    sender.full = 0;
    while (recv(pair[1], got, sizeof got, MSG_DONTWAIT) == 2)
        ;
    batch->frames[72].offset = 199;
    EXPECT(rk_outbox_send(&sender.outbox, pair[0], batch, 72, 1, INT64_MAX, &sender, offer), -EINVAL);
    drop_batch(batch);
}

int main(void)
{
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0 || rk_inbox_open(&inbox) != 0)
        return 1;
    const uint32_t ats[] = {0, 0, 12}, extras[] = {0, 40, 4};
    for (int i = 0; i < 3; i++) {
        marker = (struct marker){.at = ats[i], .extra_len = extras[i]};
        for (uint32_t capacity = 1; capacity < 130; capacity = capacity * 2 + 1)
            for (uint32_t arena_len = 1; arena_len < 60000; arena_len = arena_len * 3 + 7)
                check_order(capacity, arena_len);
    }
    check_long();
    check_waiting();
    check_errors();
    check_sending();
    check_send_again();
    rk_inbox_close(&inbox);
    rk_inbox_close(&inbox);
    return result();
}
