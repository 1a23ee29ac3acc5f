/* rk_io.h: waiting and moving messages in chunks, the way packet and raw IP sockets share it. */
#ifndef RK_IO_H
#define RK_IO_H

#include "rk.h"

#include <linux/if_packet.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RK_CHUNK 64 /* messages per system call */
/* What one message can hold: the longest ordinary IP packet, its link header and a little more.  The
 * distance between slots is no multiple of a page, or all of them would compete for the same cache lines. */
#define RK_SLOT_LEN (65536 + 320)
#define RK_CONTROL_LEN 256
#define RK_EXTRA_LEN 96

/* Start a thread that no signal comes to: they are the caller's, and Python's handlers interrupt what its own threads
 * wait for.  0 or an error number. */
int rk_io_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* Wait for events (POLLIN, POLLOUT) or an error on fd.  1 when there are any, 0 at the deadline, -EINTR. */
int rk_io_wait(int fd, short events, int64_t deadline_ns);

/* What to do after sending on fd was refused with a negative errno: a full socket buffer and a full
 * device queue are waited for, the latter with growing pauses kept in *pause_ns (0 at first).
 * Returns 1 to try again, 0 at the deadline, or the error to report (-ENOBUFS at the deadline). */
int rk_io_send_again(int fd, int error, int64_t deadline_ns, int64_t *pause_ns);

/* The clock that frame times use, in nanoseconds. */
int64_t rk_io_time(const struct timespec *time);

/* Set the size of a receive buffer, past the system's limit where that is allowed.  0 leaves it. */
int rk_io_set_buffer(int fd, uint32_t buffer_len);
/* Set an integer option; 0 or a negative errno. */
int rk_io_set_option(int fd, int level, int option, int value);
/* Attach a classic BPF program and lock it. */
int rk_io_attach_filter(int fd, const struct rk_insn *insns, uint32_t insns_n);

/* An interface that a packet socket is bound to.  The kernel says "down" once and then nothing, even when
 * it is gone for good: who waits has to look from time to time. */
#define RK_LOOK_EVERY_NS 100000000
/* Whether it has been removed. */
bool rk_io_is_gone(int fd);
/* Whether it is up; frames alone do not tell, they may have been queued before it went down. */
bool rk_io_is_up(int fd, int ifindex);
/* Its MTU, 0 when it has been removed. */
uint32_t rk_io_mtu(int fd, int ifindex);
/* Of the n frames from `first` on, the first of which a ring cannot take, how many are to go another way: that one and
 * those behind it that are too long. */
uint32_t rk_io_unfit(const struct rk_batch *batch, uint32_t first, uint32_t n, uint32_t longest);

/* The header tcpdump shows for the interface "any" (LINKTYPE_LINUX_SLL2). */
#define RK_SLL2_LEN 20
void rk_io_put_sll2(const struct sockaddr_ll *name, uint8_t *octets);

/* Messages received and not yet handed out.  They arrive in slots of their own, because how much room
 * a frame takes is known only afterwards: in the caller's arena frames then lie without gaps, and a
 * merged frame of 64 KiB is not cut because slots had to be small.  What does not fit stays here for
 * the next call. */
struct rk_inbox {
    uint8_t *slots;
    uint32_t first; /* next message to hand out */
    uint32_t n;
    int error;      /* came after messages that were handed out; reported by the next call */
    bool prefixed;  /* each message starts with a struct virtio_net_hdr, kept in prefixes */
    bool errors;    /* the socket's error queue is read as well, and first */
    bool nameless;  /* who sent a message is not asked: msg_name is NULL */
    struct mmsghdr messages[RK_CHUNK];
    struct iovec iov[RK_CHUNK][2];
    struct sockaddr_storage names[RK_CHUNK];
    uint8_t prefixes[RK_CHUNK][16];
    _Alignas(struct cmsghdr) uint8_t control[RK_CHUNK][RK_CONTROL_LEN];
};

/* One message on its way into a batch: the record as far as it is known, and octets to put in at `at`
 * (a VLAN tag, rebuilt headers). */
struct rk_arrival {
    struct rk_frame frame; /* offset, cap_len are filled in later; wire_len without extra */
    const uint8_t *octets;
    uint32_t octets_len;
    uint32_t at;
    uint32_t extra_len;
    uint8_t extra[RK_EXTRA_LEN];
    bool unwanted; /* not handed out */
};

/* Describe message i of the inbox: fill in what the socket's kind knows.  arrival comes with octets,
 * octets_len and wire_len (of the message itself) set and the rest zero. */
typedef void rk_describe(const void *sock, const struct msghdr *message, const uint8_t *prefix,
                         struct rk_arrival *arrival);
/* Look at an error of recvmmsg: return 0 when it was dealt with and receiving goes on. */
typedef int rk_receive_failed(void *sock, int error);

int rk_inbox_open(struct rk_inbox *inbox);
void rk_inbox_close(struct rk_inbox *inbox);
/* rk_packet_receive and rk_rawip_receive: fill the batch, emptied first, from the inbox and fd. */
int rk_inbox_receive(struct rk_inbox *inbox, int fd, struct rk_batch *batch, int64_t deadline_ns, void *sock,
                     rk_describe *describe, rk_receive_failed *failed);

/* Messages on their way out. */
struct rk_outbox {
    struct mmsghdr messages[RK_CHUNK];
    uint64_t full_n; /* how often the device's queue was full */
};

/* Fill in the message, zeroed, for a frame whose octets lie within its batch; slot is its place in the chunk.
 * 0, or the negative errno for which it cannot be sent. */
typedef int rk_prepare(void *sock, const struct rk_frame *frame, uint8_t *octets, uint32_t slot,
                       struct msghdr *message);
/* Offer frames [first, first + n), a range that was checked and of which a chunk at most is taken, to the
 * kernel in one system call, without waiting.  Returns how many it took, at least 1, or a negative errno. */
typedef int rk_offer(void *sock, const struct rk_batch *batch, uint32_t first, uint32_t n);

/* An rk_offer for a socket that prepares its messages this way. */
int rk_outbox_offer(struct rk_outbox *outbox, int fd, const struct rk_batch *batch, uint32_t first, uint32_t n,
                    void *sock, rk_prepare *prepare);
/* rk_packet_send and rk_rawip_send. */
int rk_outbox_send(struct rk_outbox *outbox, int fd, const struct rk_batch *batch, uint32_t first, uint32_t n,
                   int64_t deadline_ns, void *sock, rk_offer *offer);

#endif
