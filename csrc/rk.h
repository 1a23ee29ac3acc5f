/* rk.h: the whole boundary between rawkit's C engine and its callers.
 *
 * Conventions, true for every function unless its comment says otherwise:
 *   - success is 0 or a count, failure a negative errno; outputs are untouched on failure;
 *   - rk_x_open pairs with rk_x_close; every other function borrows its arguments until it returns;
 *   - deadlines are CLOCK_MONOTONIC nanoseconds; a deadline in the past means "do not wait";
 *   - frame times are CLOCK_REALTIME nanoseconds, as the kernel stamps them;
 *   - _ns is nanoseconds, _len octets, _n a count; addresses and headers are octets in network order,
 *     integers in host order;
 *   - a handle is used by one thread at a time; no function calls back into Python.
 */
#ifndef RK_H
#define RK_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* ---- batches (rk_batch.c) ---------------------------------------------------------------- */

#define RK_FRAME_OUTGOING 1        /* sent by this host */
#define RK_FRAME_CSUM_NOT_READY 2  /* transport checksum left to hardware that has not run */
#define RK_FRAME_CSUM_VALID 4      /* checked by hardware or by a trusted sender */
#define RK_FRAME_VLAN 8            /* vlan_tci and vlan_tpid hold a tag; unless cooked it is also back in the octets */
#define RK_FRAME_KERNEL_TIME 16    /* time_ns was taken by the kernel, not in user space */
#define RK_FRAME_REBUILT_IP 32     /* the socket delivers no IP header: it was rebuilt from ancillary data */
#define RK_FRAME_NO_DIRECTION 64   /* nobody noted whether it came or went */
#define RK_FRAME_OPTIONS 128       /* of a pcapng block: its options say more than this record */
#define RK_FRAME_HARDWARE_TIME 256 /* time_ns was taken by the network card, from its own clock */

/* What is known about one frame besides its octets, which are arena[offset .. offset + cap_len). */
struct rk_frame {
    int64_t time_ns;
    uint32_t offset;
    uint32_t cap_len;
    uint32_t wire_len;
    uint32_t flags;
    int32_t ifindex;
    uint16_t vlan_tci;
    uint16_t vlan_tpid;
    uint16_t protocol; /* EtherType, known also where there is no Ethernet header */
    uint16_t gso_len;  /* payload octets per segment of a merged frame, 0 when it is none */
    uint32_t reserved;
};

/* The caller owns arena and frames; C only fills them. */
struct rk_batch {
    uint8_t *arena;
    struct rk_frame *frames;
    uint32_t arena_len;
    uint32_t arena_used;
    uint32_t capacity; /* rows in frames */
    uint32_t n;        /* rows in use */
};

/* Append n frames that lie one behind the other in octets, frame i being lens[i] long, all with the
 * given wire time (0: unknown).  Appends all or nothing: -ENOSPC when rows or arena do not suffice,
 * -EINVAL when the lengths do not add up to octets_len. */
int rk_batch_append(struct rk_batch *batch, const uint8_t *octets, size_t octets_len,
                    const uint32_t *lens, uint32_t n, int64_t time_ns);
/* The first of frames [first, first + n) that the capture cut, or whose length is not within least..most; first + n
 * where there is none.  -EINVAL for a range outside the batch. */
int64_t rk_batch_odd(const struct rk_batch *batch, uint32_t first, uint32_t n, uint32_t least, uint32_t most);
/* Octets of frames [first, first + n).  -EINVAL as before. */
int64_t rk_batch_octets(const struct rk_batch *batch, uint32_t first, uint32_t n);

/* A batch to take frames from: those before `at` were taken. */
struct rk_batch_rest {
    const struct rk_batch *batch;
    uint32_t at;
};
/* Append frames of several batches, copied, those with the earlier times first (of equal ones those of the
 * batch named first; within a batch they stay in its order), and move each `at` past what was taken: at most
 * n frames, none with a time after until_ns, none behind the last one of any batch (where that came from
 * there may be more, earlier than the others'), and as many as there is room for.  Returns how many; -EINVAL
 * for a frame or an `at` outside its batch, with all before it taken; -ENOSPC when the first does not fit. */
int rk_batch_merge(struct rk_batch *batch, struct rk_batch_rest *rests, uint32_t rests_n, int64_t until_ns,
                   uint32_t n);

/* Set keep[i] to 0 for each frame of a batch whose time does not lie within [from_ns, until_ns); returns how many
 * have one that is not 0 then. */
int rk_batch_within(const struct rk_batch *batch, int64_t from_ns, int64_t until_ns, uint8_t *keep);

struct rk_tally { /* what can be said about frames, in the order they came */
    uint64_t packets;
    uint64_t octets;      /* that there are */
    uint64_t wire_octets; /* that there were */
    uint64_t cut;         /* frames with fewer than there were */
    uint64_t backwards;   /* frames with a time before that of the one before */
    int64_t first_ns;
    int64_t last_ns;
    int64_t earliest_ns;
    int64_t latest_ns;
    uint32_t shortest;    /* octets */
    uint32_t longest;
};

/* Add the frames of a batch to tallies[0], and to that of their ifindex where there is one (tallies_n >= 1). */
void rk_batch_tally(const struct rk_batch *batch, struct rk_tally *tallies, uint32_t tallies_n);

struct rk_interval {
    uint64_t packets;
    uint64_t octets; /* on the wire */
};

/* Add frames from `first` on to the row of their interval, counted from start_ns. Returns the first frame whose
 * interval is not among the rows, or how many frames there are. */
uint32_t rk_batch_rates(const struct rk_batch *batch, uint32_t first, int64_t start_ns, int64_t interval_ns,
                        struct rk_interval *rates, uint32_t rates_n);

/* ---- checksums (rk_csum.c, rk_cpu.c) ------------------------------------------------------ */

#define RK_CPU_PORTABLE 0
#define RK_CPU_SSE42 1 /* CRC32c instruction */
#define RK_CPU_AVX2 2

/* The variant in use, chosen once at load from what the processor has. */
int rk_cpu_level(void);
/* Use a lower variant (tests, benchmarks).  -ENOTSUP for one this processor lacks. */
int rk_cpu_set_level(int level);

/* One's complement sum of data as big-endian 16-bit words, an odd last octet padded with zero on the
 * right, added to sum (0 or an earlier result); folded to 16 bits, not complemented (RFC 1071).
 * A block followed by another must have even length. */
uint32_t rk_csum_add(uint32_t sum, const uint8_t *data, size_t len);
/* The Internet checksum of data: the complement of rk_csum_add(0, data, len). */
uint16_t rk_csum(const uint8_t *data, size_t len);
/* Sum (not complemented) of the pseudo-header for addresses of addr_len 4 or 16 (RFC 768, RFC 9293
 * section 3.1, RFC 8200 section 8.1); 0 for another addr_len. */
uint32_t rk_csum_pseudo(const uint8_t *src, const uint8_t *dst, uint32_t addr_len, uint8_t protocol,
                        uint32_t upper_len);
/* The checksum after one 16-bit word changed from old_word to new_word (RFC 1624, equation 3). */
uint16_t rk_csum_update(uint16_t checksum, uint16_t old_word, uint16_t new_word);
/* CRC32c (RFC 9260 appendix A) of data, continuing from crc (0 at the start). */
uint32_t rk_crc32c(uint32_t crc, const uint8_t *data, size_t len);

/* ---- packets that follow each other (rk_bulk.c) --------------------------------------------- */

/* Where a transport header has its fields, in octets.  It is header_len octets long (even), its checksum is the
 * Internet checksum of the whole packet, and seq numbers the first octet behind it. */
struct rk_bulk {
    uint32_t header_len;
    uint32_t seq_at;
    uint32_t seq_len; /* 1 to 8 */
    uint32_t length_at;
    uint32_t length_len; /* 0: no such field */
    uint32_t length_extra; /* what it counts besides the octets behind the header */
    uint32_t sum_at;
};

/* -EINVAL for fields outside the header. */
int rk_bulk_check(const struct rk_bulk *bulk);
/* Whether a packet follows another, which stands for octets octets already (0: it stands for itself, and is
 * looked at too): sound both, the same header but for seq, length and checksum, and the next octets. */
int rk_bulk_follows(const struct rk_bulk *bulk, const uint8_t *first, size_t first_len, uint64_t octets,
                    const uint8_t *next, size_t next_len);
/* Write a packet of header_len + piece_len octets: the header, its seq moved by offset, length and checksum
 * filled in, and the piece.  -EOVERFLOW when the length field is too short. */
int rk_bulk_cut(const struct rk_bulk *bulk, const uint8_t *header, uint64_t offset, const uint8_t *piece,
                size_t piece_len, uint8_t *out);

/* ---- filters (rk_filter.c): libpcap's compiler, loaded at run time -------------------------- */

struct rk_insn { /* one classic BPF instruction, laid out as the kernel's struct sock_filter */
    uint16_t code;
    uint8_t jt;
    uint8_t jf;
    uint32_t k;
};

struct rk_pcaplib;
/* Load libpcap from path.  -ENOENT when it cannot be loaded or lacks a function. */
int rk_pcaplib_open(struct rk_pcaplib **out, const char *path);
void rk_pcaplib_close(struct rk_pcaplib *lib);
/* Version text of the library, valid while it is open. */
const char *rk_pcaplib_version(const struct rk_pcaplib *lib);
/* Compile a tcpdump expression into insns[insns_n].  Returns the number of instructions, or -EINVAL
 * with libpcap's own message in error, or -ENOSPC when the program is longer than insns_n. */
int rk_filter_compile(const struct rk_pcaplib *lib, const char *expression, int linktype, int snaplen,
                      struct rk_insn *insns, uint32_t insns_n, char *error, size_t error_len);
/* Run a program over frames [first, first + n) of a batch; keep[i] becomes 1 or 0.  Returns how many
 * matched, or -EINVAL for a program that libpcap's checker refuses or a range outside the batch.  A
 * program may loop ("ip6 protochain" does, and ends with the packet), so it should be libpcap's own. */
int rk_filter_run(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n,
                  const struct rk_batch *batch, uint32_t first, uint32_t n, uint8_t *keep);
/* Run a program over the frames of a batch that have one of the flags (0: all frames), drop those that do
 * not match and cut those that do to the length it returns.  Frames without the flag stay.  Returns how many
 * are left, or -EINVAL as rk_filter_run (where there is a frame to judge). */
int rk_filter_sift(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n,
                   struct rk_batch *batch, uint32_t flags);
/* Write instruction i of a program as `tcpdump -d` prints it.  -EINVAL for one that is none. */
int rk_filter_image(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n, uint32_t i,
                    char *text, size_t text_len);

/* ---- packet sockets (rk_packet.c) ---------------------------------------------------------- */

#define RK_PACKET_COOKED 1           /* the kernel strips and adds the link header: octets start at layer 3 */
#define RK_PACKET_PROMISCUOUS 2      /* of one interface */
#define RK_PACKET_IGNORE_OUTGOING 4
#define RK_PACKET_SLL2 8             /* cooked; received octets start with a LINUX_SLL2 header (20 octets) */
#define RK_PACKET_BARE 0x10000       /* cooked; of what is received nothing is told but octets and time */

struct rk_counters {
    uint64_t received; /* frames that passed the filter, dropped ones included */
    uint64_t dropped;  /* of these, lost because the socket's buffer was full */
};

struct rk_packet;
/* Open an AF_PACKET socket in the calling thread's network namespace: created deaf, filter attached,
 * then bound, so that no unfiltered frame is ever seen.
 *   ifindex    0 for all interfaces
 *   protocol   EtherType wanted, 3 (ETH_P_ALL) for all, 0 for a socket that only sends
 *   insns      classic BPF program, insns_n 0 for none
 *   buffer_len receive buffer, 0 for the system's default
 * A cooked socket's filter sees octets from layer 3 on.  One thread may send while another receives.
 * -EPERM without CAP_NET_RAW, -ENODEV for a missing interface, -EINVAL for unknown flags or promiscuity
 * on all interfaces. */
int rk_packet_open(struct rk_packet **out, int ifindex, uint16_t protocol, uint32_t flags,
                   const struct rk_insn *insns, uint32_t insns_n, uint32_t buffer_len);
void rk_packet_close(struct rk_packet *sock);
/* Close several at the same time, by threads of their own that nobody waits for: for each the kernel waits until all
 * processors are done with it, some 10 ms, and twice as long for one that comes when it has begun to wait for
 * another.  The process ends when they have. */
void rk_packet_close_all(struct rk_packet *const *socks, uint32_t n);
int rk_packet_fd(const struct rk_packet *sock);
/* A second way out for a socket on one Ethernet interface that only sends: the transmit ring of an AF_XDP socket
 * (rk_xsk.c), which rk_packet_send takes for several frames at a time, of up to 2048 octets; the others go as
 * before, and errors are the same.  Like them, which bypass it from now on, frames of the ring pass by the queueing
 * discipline, and taps on the sending interface do not see them.  Made in the calling thread's network namespace,
 * by the first function; the second takes a queue of the interface and up to 512 KiB of locked memory, and needs
 * no privilege.  It waits for a queue until the deadline: one is let go some 40 ms after its socket was closed,
 * later on a busy machine.  When it fails, all frames go as before.
 * -EPERM without CAP_NET_RAW, -EBUSY when no queue became free, -ENOBUFS beyond RLIMIT_MEMLOCK, -EAFNOSUPPORT or
 * -EOPNOTSUPP where the kernel lacks AF_XDP, -EINVAL for another kind of socket. */
int rk_packet_open_xsk(struct rk_packet *sock);
int rk_packet_start_xsk(struct rk_packet *sock, int64_t deadline_ns);
/* Whether there is a ring that was started and works: 1 or 0. */
int rk_packet_has_xsk(const struct rk_packet *sock);
/* Queue frames [first, first + n) of a batch.  Waits until at least one is accepted or the deadline.
 * A socket on all interfaces sends each frame out of the frame's own ifindex.  A cooked socket sends
 * the frame's own protocol (0: IPv4 or IPv6, from the first octet) to the broadcast address of an
 * Ethernet interface and to the all-zero address of any other, which is what loopback and tun need.
 * A frame that is refused does not hold back those before it; the next call meets it first.
 * Returns how many were accepted, 0 at the deadline, or
 *   -EINVAL    the range lies outside the batch, or the first frame is shorter than a link header
 *   -EDESTADDRREQ  no interface to send on
 *   -EMSGSIZE  the first frame exceeds the interface MTU; nothing was sent
 *   -ENOBUFS   the device queue stayed full until the deadline
 *   -EINTR     a signal came before any frame went; call again
 *   -ENETDOWN, -ENXIO  the interface is down or gone
 * A socket on one interface that only sends has a second one with a transmit ring (rk_txring.c), which takes eight
 * frames or more at a time, of up to 2006 octets, when thousands went that way. */
int rk_packet_send(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                   int64_t deadline_ns);
/* The same by the descriptor's own messages alone, which the kernel numbers when it stamps them (rk_stamp.c). */
int rk_packet_send_alone(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                         int64_t deadline_ns);
/* The same for one frame that lies in no batch. */
int rk_packet_send_one(struct rk_packet *sock, const uint8_t *octets, uint32_t len, int32_t ifindex,
                       int64_t deadline_ns);
/* How often the device's queue was full (ENOBUFS) while sending. */
uint64_t rk_packet_full(const struct rk_packet *sock);
/* Fill the batch, emptied first, with what arrives.  Waits until at least one frame came or the
 * deadline; never waits for more once it has one.  VLAN tags that the kernel moved to auxiliary data
 * are put back.  A frame longer than the whole arena is cut; frames for which the arena has no room left
 * wait in the handle for the next call (call until it returns 0 before polling the descriptor).
 * Returns the number of frames, 0 at the deadline, -EINTR, -ENETDOWN (once, when the interface goes
 * down), -ENXIO when it was removed, or another negative errno. */
int rk_packet_receive(struct rk_packet *sock, struct rk_batch *batch, int64_t deadline_ns);
/* Running totals since open (the kernel's own counters are reset by reading; these are not). */
int rk_packet_counters(struct rk_packet *sock, struct rk_counters *out);

/* ---- receive rings (rk_ring.c) --------------------------------------------------------------- */

/* Flags of a ring, besides those of packet sockets. */
#define RK_RING_ALL_MULTICAST 16   /* of one interface */
#define RK_RING_SEGMENT_LEN 32     /* tell the gso_len of merged frames; see rk_ring_counters.undescribed */
#define RK_RING_HARDWARE_TIME 64   /* the card's times where it makes any */

#define RK_FANOUT_NONE 0
#define RK_FANOUT_HASH 1     /* by flow: both directions of a connection may differ */
#define RK_FANOUT_BALANCE 2  /* one after the other */
#define RK_FANOUT_CPU 3      /* by the processor that received the frame */
#define RK_FANOUT_ROLLOVER 4 /* to the next ring when one is full */
#define RK_FANOUT_RANDOM 5
#define RK_FANOUT_QUEUE 6    /* by the queue of the card */

struct rk_ring_config {
    int32_t ifindex;   /* 0 for all interfaces */
    uint32_t flags;
    const struct rk_insn *insns;
    uint32_t insns_n;  /* 0: no filter */
    uint32_t block_len; /* octets; a multiple of the page size, more than the longest frame */
    uint32_t block_n;
    uint32_t block_timeout_ms; /* the longest a frame waits for others to share its block, 1..1000 */
    uint16_t protocol; /* EtherType wanted, 3 (ETH_P_ALL) for all */
    uint16_t fanout;   /* RK_FANOUT_...: share frames with the other rings of a group */
    int32_t fanout_group; /* 0..65535, or -1 for a new group */
};

struct rk_ring_counters {
    uint64_t received;  /* frames that passed the filter, dropped ones included */
    uint64_t dropped;   /* of these, lost: the ring was full, or the frame undescribed */
    uint64_t delivered; /* of these, handed out; received - dropped - delivered are in the ring */
    uint64_t undescribed; /* of the dropped, found in the ring as merged frames of a kind (SCTP) whose segment
                             length the kernel cannot tell: open without RK_RING_SEGMENT_LEN to get them */
    uint64_t merged;    /* of the delivered, merged by the kernel from segments, or not yet cut into them */
};

struct rk_ring;
/* Open a ring in the calling thread's network namespace: an AF_PACKET socket (TPACKET_V3) that writes
 * frames to memory shared with this process, block by block, which takes no system call for each.  It is
 * deaf until everything is in place, and live when the call returns.  A cooked ring's filter sees octets
 * from layer 3 on.  Threads may open and close rings of their own; one ring is read by one thread.
 * -EPERM without CAP_NET_RAW, -ENODEV for a missing interface, -ENOMEM for more memory than there is,
 * -EINVAL for a size, flag or mode that is none, or promiscuity on all interfaces. */
int rk_ring_open(struct rk_ring **out, const struct rk_ring_config *config);
/* Close the socket; frames handed out before may still be read. */
void rk_ring_shut(struct rk_ring *ring);
/* Free everything.  A forked child may do this too, and nothing else: it shares the memory with its parent. */
void rk_ring_close(struct rk_ring *ring);
int rk_ring_fd(const struct rk_ring *ring);
/* The memory frames lie in, *len octets. */
uint8_t *rk_ring_memory(const struct rk_ring *ring, uint32_t *len);
/* The group of a ring opened with a fanout. */
int rk_ring_fanout_group(const struct rk_ring *ring);
/* Ask for frames to a multicast MAC address too, until the ring is closed. */
int rk_ring_join(struct rk_ring *ring, const uint8_t *mac);
/* Give the frames of the last call back to the kernel and hand out the next: those of one block, as many as
 * the batch has rows for.  batch->frames stays the caller's, batch->arena becomes the ring's memory: frames
 * are not copied, and are valid until the next call.  Waits until there are frames or the deadline, so a
 * frame comes at most block_timeout_ms late.  VLAN tags that the kernel took out are put back.
 * Returns the number of frames, 0 at the deadline, -EINTR, -ENETDOWN (once, when the interface goes down),
 * -ENXIO when it was removed and all frames were handed out, or another negative errno. */
int rk_ring_receive(struct rk_ring *ring, struct rk_batch *batch, int64_t deadline_ns);
/* Running totals since open. */
int rk_ring_counters(struct rk_ring *ring, struct rk_ring_counters *out);

/* ---- XDP live frames (rk_xdp.c) -------------------------------------------------------------- */

#define RK_XDP_FRAME_LEN 2048 /* octets of the longest frame that can be sent this way */

struct rk_xdp;
/* Prepare sending frames out of an interface of the calling thread's network namespace without a socket
 * buffer each: a program in the kernel takes them from a map and redirects them.  The handle keeps to the
 * interface whichever namespace its threads are in later.  Opening and closing take some 30 ms each.
 * Needs Linux 5.18.
 * -EPERM without CAP_SYS_ADMIN and CAP_NET_ADMIN (of the first user namespace: root of another does not do),
 * -ENODEV for a missing interface, -EOPNOTSUPP or -EINVAL where the kernel lacks a part. */
int rk_xdp_open(struct rk_xdp **out, int ifindex);
void rk_xdp_close(struct rk_xdp *xdp);
/* Send frames [first, first + n) of a batch, of whatever lengths.  Looks at the deadline every 4096 frames,
 * so the first ones go out even when it has passed.  A call costs some 15 us besides its frames.  Returns how
 * many were handed to the interface: its driver may still drop them, and some drop all, which only the
 * interface's counters tell.
 *   -EINVAL    the range lies outside the batch, or the first frame is shorter than a link header
 *   -EMSGSIZE  the first frame exceeds the interface MTU; nothing was sent
 *   -EFBIG     the interface would take the first frame, but it exceeds RK_XDP_FRAME_LEN
 *   -EINTR     a signal came before any frame went; call again
 *   -ENETDOWN, -ENXIO  the interface is down or gone
 *   -EOPNOTSUPP  the kernel has no live frames (before 5.18) */
int rk_xdp_send(struct rk_xdp *xdp, const struct rk_batch *batch, uint32_t first, uint32_t n,
                int64_t deadline_ns);
#define RK_XDP_PROOF_N 16 /* frames that the kernel hands to a driver in one go */

/* Send up to RK_XDP_PROOF_N frames while the driver is watched; returns how many of them, from the first on, it
 * took, which may be none.  Errors as above, and -ENOSYS where the kernel does not let it be watched. */
int rk_xdp_prove(struct rk_xdp *xdp, const struct rk_batch *batch, uint32_t first, uint32_t n);
/* Watch no longer: it costs everybody who redirects frames on this machine some nanoseconds. */
void rk_xdp_trust(struct rk_xdp *xdp);

/* ---- raw IP and ICMP datagram sockets (rk_rawip.c) ------------------------------------------ */

#define RK_RAWIP_HEADER_INCLUDED 1 /* IPv4: the packet's own header goes out (raw(7), IP_HDRINCL) */
#define RK_RAWIP_ICMP_DATAGRAM 2   /* SOCK_DGRAM with IPPROTO_ICMP(V6): needs ping_group_range, no capability */

struct rk_rawip;
/* Open a raw IP socket, family 4 or 6, for one IP protocol number.  It hears nothing that came before
 * this call returned.  Protocol 255 (IPPROTO_RAW) only sends, and always with the packet's own header,
 * for IPv6 too.  The program sees what the kernel delivers: a whole packet on an IPv4 raw socket, the
 * payload alone on the others.
 * -EPERM without CAP_NET_RAW, -EACCES where ping_group_range forbids an ICMP datagram socket. */
int rk_rawip_open(struct rk_rawip **out, int family, int protocol, uint32_t flags, int ifindex,
                  const struct rk_insn *insns, uint32_t insns_n, uint32_t buffer_len);
void rk_rawip_close(struct rk_rawip *sock);
int rk_rawip_fd(const struct rk_rawip *sock);
/* Send whole IP packets [first, first + n) of a batch, each to its own header's destination.
 * Where the socket builds the header (IPv4 without RK_RAWIP_HEADER_INCLUDED, IPv6, ICMP datagram),
 * the packet's header is taken off and its addresses, hop limit and traffic class go along as
 * ancillary data; an unspecified source address leaves the choice to the kernel.  The rest of the
 * header is the kernel's: identification, fragment offset, flow label, and every length, which follows
 * from the octets given.  The header's protocol must be the socket's (IPv4 options and IPv6 extension
 * headers go with the header included only), and the kernel computes the ICMPv6 checksum.  With the
 * header included the kernel still sets the IPv4 total length and checksum, and the identification and
 * source address where they are 0.  A frame's ifindex is the scope of link-local and multicast addresses.
 * Returns as rk_packet_send; -EINVAL also for octets that are no IP packet of the family, and the
 * kernel's -EHOSTUNREACH, -ENETUNREACH, -EACCES (broadcast), -EPERM (firewall). */
int rk_rawip_send(struct rk_rawip *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                  int64_t deadline_ns);
int rk_rawip_send_one(struct rk_rawip *sock, const uint8_t *octets, uint32_t len, int32_t ifindex,
                      int64_t deadline_ns);
uint64_t rk_rawip_full(const struct rk_rawip *sock);
/* As rk_packet_receive; every frame is a whole IP packet.  Where the socket delivers none (IPv6, ICMP
 * datagram), the header is rebuilt from ancillary data and the frame says RK_FRAME_REBUILT_IP.  An ICMP
 * datagram socket also gets the ICMP errors about its own requests, rebuilt from its error queue: of the
 * quoted IP header only the addresses, the protocol and the length are known, and of the error the rest. */
int rk_rawip_receive(struct rk_rawip *sock, struct rk_batch *batch, int64_t deadline_ns);
/* As rk_packet_counters; received counts frames handed out plus dropped. */
int rk_rawip_counters(struct rk_rawip *sock, struct rk_counters *out);
/* The identifier the kernel gave an ICMP datagram socket (it overwrites the one in echo requests). */
int rk_rawip_icmp_id(const struct rk_rawip *sock);

/* ---- waiting (rk_io.c) -------------------------------------------------------------------------- */

#define RK_WAIT_MAX 64

/* Wait until one of n descriptors (RK_WAIT_MAX at most) can be read or has an error.  Returns how many, 0 at the
 * deadline, or -EINTR. */
int rk_wait(const int *fds, uint32_t n, int64_t deadline_ns);

/* ---- transmit time stamps (rk_stamp.c) -------------------------------------------------------- */

struct rk_stamp {
    int64_t time_ns; /* CLOCK_REALTIME, when the frame was given to the interface's driver */
    uint32_t number; /* which frame of the socket's: 0 is the first after rk_stamp_start */
    uint32_t reserved;
};

/* Have the kernel stamp what this socket sends from now on; numbers start again at 0.  A frame that the kernel
 * refuses may take a number or not. */
int rk_stamp_start(int fd);
/* Take stamps that have come back, n at most, without waiting.  Returns how many; some may never come (the
 * receive buffer holds those that wait).  Whatever else the error queue holds is thrown away: not for ICMP
 * datagram sockets, whose errors come by it. */
int rk_stamp_read(int fd, struct rk_stamp *stamps, uint32_t n);

/* ---- pacing (rk_pace.c) --------------------------------------------------------------------- */

int64_t rk_monotonic_ns(void);
int64_t rk_realtime_ns(void);
/* Wait until due_ns, sleeping and then spinning for the last spin_ns.  Returns 0, or -EINTR. */
int rk_pace_wait(int64_t due_ns, int64_t spin_ns);
/* Frames, or bits, that may go in a time, and how many of them have gone. */
struct rk_rate {
    int64_t start_ns;      /* when the first frame is due */
    uint64_t used;         /* frames or bits so far */
    uint64_t units;        /* so many of them ... */
    uint64_t period_ns;    /* ... in this time */
    uint32_t in_bits;      /* a frame counts as its bits, not as one */
    uint32_t overhead_len; /* in_bits: and as so many octets more */
};

/* When frames [first, first + n) are due: each when those before it have used up their time, counted from the
 * start, so that rounding does not add up.  due_ns has a row for each frame of the batch.  -EINVAL for a
 * range outside the batch, or a rate of nothing or in no time. */
int rk_rate_plan(struct rk_rate *rate, const struct rk_batch *batch, uint32_t first, uint32_t n, int64_t *due_ns);

/* The pace of a capture, or a multiple of it. */
struct rk_times {
    int64_t start_ns; /* a frame with the time base_ns is due then, and those after it ... */
    int64_t base_ns;
    uint64_t num;     /* ... as much later as their times are, times num / den */
    uint64_t den;
    int64_t last_ns;  /* the latest moment so far, from the start: no frame is due before the ones before it */
};

/* When frames [first, first + n) are due by their own times, as rk_rate_plan. */
int rk_times_plan(struct rk_times *times, const struct rk_batch *batch, uint32_t first, uint32_t n,
                  int64_t *due_ns);

#define RK_BY_PACKET 1 /* struct rk_packet * */
#define RK_BY_XDP 2    /* struct rk_xdp * */
#define RK_BY_RAWIP 3  /* struct rk_rawip * */
#define RK_PACE_ERRNOS 134
/* Bins of lateness: a number's highest 8 bits, so 0..255 ns one by one, then 128 for each further bit. */
#define RK_PACE_BINS 7296
#define RK_PACE_STAMPS 1024 /* frames whose transmit stamps may be on their way */
#define RK_PACE_STAMPED 2

/* How frames are sent each at its own moment, and what became of them. */
struct rk_pace {
    int64_t spin_ns;    /* the last stretch before each moment, which is spent spinning and not sleeping */
    int64_t slack_ns;   /* lag beyond this is not made up for: all later moments move by the rest ... */
    int64_t moved_ns;   /* ... by so much until now */
    uint32_t catch_up;  /* it is made up for however long, and a frame that finds the queue full is given up */
    uint32_t warm;      /* a packet socket on Ethernet: refused sends before each moment, as part of the spinning */
    int64_t first_ns;   /* monotonic time just before the system call of the first frame, and of the last */
    int64_t last_ns;
    int64_t latest_ns;  /* the largest lag */
    uint64_t sent;
    uint64_t octets;
    uint64_t failed[RK_PACE_ERRNOS]; /* frames by why they were refused; 0: another errno */
    uint64_t late[RK_PACE_BINS];     /* frames by how long after their moment they were sent */
    uint32_t stamps;    /* 1: ask a packet socket for transmit stamps, RK_PACE_STAMPED: they come; 0: none, also
                           when frames go too many at a time to take them, or their numbers do not agree */
    int32_t stamp_fd;
    uint32_t stamp_n;   /* frames sent since numbers began at 0 */
    uint32_t reserved2;
    uint64_t stamped;
    int64_t stamp_latest_ns;
    int64_t stamp_due_ns[RK_PACE_STAMPS];
    uint64_t stamp_late[RK_PACE_BINS]; /* frames by how long after their moment the interface got them */
};

/* Send frames [first, first + n), frame i not before due_ns[i] + moved_ns (rows as in the batch), by a handle of
 * the kind `by`.  Frames that are due together go in one call.  A frame refused for its own sake is counted, and
 * so is one that finds the queue full if lag has to be caught up; otherwise a full queue is waited for.
 * Returns how many rows were dealt with: fewer than n when deadline_ns passed or a signal came, so that the
 * caller can look around and continue; or what met the first row: -ENETDOWN, -ENXIO, and of live frames
 * -EFBIG, -EOPNOTSUPP; -EINVAL for an unknown kind or a range outside the batch. */
int rk_pace_send(struct rk_pace *pace, int by, void *sender, const struct rk_batch *batch, uint32_t first,
                 uint32_t n, const int64_t *due_ns, int64_t deadline_ns);
/* Count a frame that was dealt with elsewhere: sent at now_ns, or refused with a negative errno. */
/* Wait for stamps that are still to come, until deadline_ns at most; the sender is still open. */
void rk_pace_settle(struct rk_pace *pace, int64_t deadline_ns);
void rk_pace_count(struct rk_pace *pace, const struct rk_frame *frame, int64_t due_ns, int64_t now_ns);

/* ---- permutations (rk_perm.c) ------------------------------------------------------------------- */

#define RK_PERM_ROUNDS 4

struct rk_perm {
    uint64_t n;
    uint64_t keys[RK_PERM_ROUNDS];
    uint32_t half; /* bits of each half of the Feistel network */
    uint32_t reserved;
};

/* A permutation of [0, n), n at least 1, for each seed. */
void rk_perm_init(struct rk_perm *perm, uint64_t n, uint64_t seed);
/* Where index < n goes. */
uint64_t rk_perm_at(const struct rk_perm *perm, uint64_t index);
/* What goes to value < n: the reverse. */
uint64_t rk_perm_index(const struct rk_perm *perm, uint64_t value);

/* ---- probes (rk_cookie.c, rk_probe.c) --------------------------------------------------------- */

/* SipHash-2-4 of data under a 16-octet key. */
uint64_t rk_cookie(const uint8_t *key, const uint8_t *data, size_t len);

/* Consecutive addresses. */
struct rk_span {
    uint8_t first[16]; /* IPv4 uses the first 4 octets */
    uint64_t before;   /* how many addresses the spans before this one have */
    uint64_t n;
};

/* A scan as an index space: probe number i goes to address i / ports_n, port i % ports_n.  Probes are
 * named by their position in the order in which they are sent: at position p is number rk_perm_at(order, p),
 * or p itself where order.n is 0.  Each probe bears a keyed hash of its target, as its sequence number or, where the
 * template has the ACK flag, as its acknowledgement, so replies are recognised without a table.  Of echo requests
 * (ICMP, ICMPv6) "port" is the sequence number and "source port" the identifier; the hash is the data's beginning. */
struct rk_probe_plan {
    const uint8_t *packet;    /* the template: IP with a TCP header, or an echo request of 8 octets of data
                               * at least, without link header */
    uint32_t packet_len;
    const uint8_t *link;      /* octets put before it (an Ethernet header), or NULL */
    uint32_t link_len;
    const uint8_t *next_hops; /* addresses_n rows of 6 octets that replace the first of link, or NULL */
    const struct rk_span *spans; /* of one IP version, ascending */
    uint32_t spans_n;
    uint32_t ports_n;
    uint64_t addresses_n;
    const uint16_t *ports;    /* ascending */
    struct rk_perm order;
    uint8_t key[16];
};

/* Whether each of n ports is greater than the one before. */
int rk_probe_ports_ascend(const uint16_t *ports, uint32_t n);

#define RK_PROBE_OPEN 1     /* a SYN-ACK, an echo reply */
#define RK_PROBE_CLOSED 2   /* a RST */
#define RK_PROBE_FILTERED 3 /* an ICMP error */
#define RK_PROBE_DAMAGED 4  /* an echo reply whose data are not those that were sent */

struct rk_probe_reply {
    int64_t time_ns;
    uint8_t address[16]; /* of the target, as in the plan */
    uint8_t reporter[16];/* who answered: the target, or the router or firewall that sent the ICMP error */
    uint16_t port;
    uint8_t state;       /* RK_PROBE_... */
    uint8_t hop_limit;   /* of the reply */
    uint8_t icmp_type;   /* of an ICMP error, else 0 */
    uint8_t icmp_code;
    uint16_t window;     /* of a SYN-ACK or RST, else 0 */
};

/* Fill the batch, emptied first, with the probes at positions [first, first + n), lengths and checksums right.
 * The cookie is rk_cookie over 20 octets: address (IPv4: 12 zeros after it), port, source port; of TCP its low half.
 * Returns how many fitted; -EINVAL for a template of another kind, or a range outside the plan. */
int rk_probe_fill(const struct rk_probe_plan *plan, struct rk_batch *batch, uint64_t first, uint32_t n);
/* The address (16 octets) and port of the probe at a position; -EINVAL outside the plan. */
int rk_probe_target(const struct rk_probe_plan *plan, uint64_t position, uint8_t *address, uint16_t *port);
/* Pick from frames [first, n) of a batch of IP packets (link_skip octets before each) the answers to the
 * plan's probes: SYN-ACK, RST, echo reply, ICMP errors that quote a probe.  Anything whose cookie is wrong is
 * passed over.  Returns the number of rows written to replies[replies_n]; *next becomes the frame to
 * go on from (n when all were looked at).  Uses only packet and key of the plan.  -EINVAL for a template as
 * above, first beyond the batch, or a row outside its arena. */
int rk_probe_match(const struct rk_probe_plan *plan, const struct rk_batch *batch, uint32_t link_skip,
                   uint32_t first, struct rk_probe_reply *replies, uint32_t replies_n, uint32_t *next);

/* ---- boards (rk_board.c) ------------------------------------------------------------------------ */

#define RK_BOARD_UNANSWERED 0
#define RK_BOARD_ANSWERED 1
#define RK_BOARD_ABSENT 2 /* never sent: nobody has the address, its row of next_hops is zero */

#define RK_TIMING_EPOCHS 4

/* How long answers take, and how many come: what a pace is found from.  Boards may share one. */
struct rk_timing {
    int64_t rtt_max_ns; /* of the answers timed: those to probes sent once */
    int64_t rtt_sum_ns;
    uint64_t rtt_n;
    /* How many rows were answered of those last sent in each of the latest epochs, which begin at epoch_ns; the newest
     * first. */
    int64_t epoch_ns[RK_TIMING_EPOCHS];
    uint32_t epoch_answers[RK_TIMING_EPOCHS];
};

/* From now_ns on a new epoch counts what is answered. */
void rk_timing_begin_epoch(struct rk_timing *timing, int64_t now_ns);

/* What is known of some probes of a plan: row i is the probe at position first + i * step.  The arrays
 * have rows_n rows each and belong to the caller. */
struct rk_board {
    uint64_t first;
    uint64_t step;
    uint32_t rows_n;
    uint32_t left;       /* rows that are RK_BOARD_UNANSWERED */
    uint8_t *states;     /* RK_BOARD_... */
    uint8_t *probes;     /* how often each was sent, at most 255 */
    int64_t *sent_ns;    /* when it was sent last */
    int64_t *rtt_ns;     /* the times of answers to probes sent once, other rows stay as they are; or NULL */
    struct rk_timing *timing;
    uint64_t counted;    /* answers that were only counted */
    uint64_t duplicates; /* answers to rows that had one */
};

/* Fill the batch, emptied first, with the next n unanswered probes from row `from` on, and rows with where they
 * stand.  Rows without next hop become RK_BOARD_ABSENT.  Returns how many fitted, less than both n and what
 * fits only when no unanswered row is left; -EINVAL as rk_probe_fill, or for a board outside the plan. */
int rk_board_fill(const struct rk_probe_plan *plan, struct rk_board *board, struct rk_batch *batch, uint32_t from,
                  uint32_t n, uint32_t *rows);

/* ---- runs (rk_run.c) ---------------------------------------------------------------------------- */

/* One of the ways in which a run's probes leave, by a thread of its own. */
struct rk_run_way {
    void *sender;
    int by;                 /* RK_BY_PACKET or RK_BY_RAWIP */
    int error;              /* negative errno: why the probe of refused_row cannot be sent; it counts as answered
                             * then. Or -ENOBUFS: the device's queue stayed full.  0: nothing of the kind */
    struct rk_batch *batch; /* room for what leaves by one system call */
    uint32_t *rows;         /* of its frames, as many as batch->capacity */
    uint32_t next;          /* frames [next, batch->n) were filled in and are still to leave */
    uint32_t refused_row;
};

struct rk_run_board {
    const struct rk_probe_plan *plan;
    struct rk_board *board;
};

/* Where answers come: IP packets, without link header. */
struct rk_run_inlet {
    void *receiver;
    int by;                 /* as rk_run_way.by */
    struct rk_batch *inbox; /* room for some of what comes at once */
};

/* A round over a board: its unanswered probes leave, and answers are taken off it, and off others, meanwhile. */
struct rk_run {
    const struct rk_run_board *boards; /* of one IP version, whose templates have the same source port and key */
    uint32_t boards_n;
    uint32_t board;         /* the one whose probes leave */
    struct rk_run_way *ways;
    uint32_t ways_n;
    uint32_t cursor;        /* the row from which on nothing was filled in in this round */
    struct rk_run_inlet *inlets; /* one for each way's thread: the first reads that of its processor's number, modulo */
    uint32_t inlets_n;
    uint32_t counted;       /* answers of a state whose bit (1 << RK_PROBE_...) is set are only counted */
    struct rk_probe_reply *replies; /* the other answers, each row's first; */
    uint32_t *replies_board;        /* whose board's rows, */
    uint32_t *replies_row;          /* and which; all three of replies_n, */
    uint32_t replies_n;             /* which is no less than any inbox->capacity */
    uint32_t found;         /* out: how many replies there are */
    uint32_t sent;          /* out: how many probes left */
    uint64_t strays;        /* answers with right cookies, but of no row: to probes of earlier boards */
    uint32_t more;          /* out: answers may be waiting in a receiver, whatever its descriptor says */
};

/* Send n probes, and take what answers come, until
 *   - they have left, or the board has no more for this round;
 *   - one of the ways met an error;
 *   - replies has no room left, deadline_ns passed, or a signal came.
 * Answers that are here by then have been taken, as far as there is room.  From 512 probes on each way has a
 * thread, the first one the caller's.  Nothing is waited for
 * but full queues; n 0 only takes answers.
 * Returns 0, -EINVAL for parts that do not fit, or what receiving came to. */
int rk_board_run(struct rk_run *run, uint32_t n, int64_t deadline_ns);

/* ---- dissection (rk_dissect.c) ------------------------------------------------------------------ */

#define RK_SELECTORS 4
#define RK_MAX_LAYERS 64
#define RK_END_HEADER 1  /* the payload ends with the header: nothing follows, no field is asked */
#define RK_END_TOTAL 2   /* the field counts the header too; 0 means "not filled in" */
#define RK_END_PAYLOAD 3 /* the field counts what follows the header */
#define RK_END_8023 4    /* as RK_END_PAYLOAD below 1536, from there on it says nothing of lengths */
#define RK_LENGTHS 65536 /* in the uppers: what follows where the selecting field holds a length */

struct rk_bits { /* an integer field: bit offset from the header's start, and width; width 0: none */
    uint32_t at;
    uint32_t width;
};

/* A field behind the fixed part of a header, which may be absent or of any length. */
struct rk_part {
    struct rk_bits when;  /* it is there where this is `equals` (with `any`: not 0); width 0: always */
    uint64_t equals;
    struct rk_bits count; /* its length: (value + bias) * unit octets; width 0: unit octets */
    int32_t bias;
    uint32_t unit;
    uint32_t any;
    uint32_t reserved;
};

/* One header class. The fields that the walk asks are at most 64 bits wide and lie in the fixed part. */
struct rk_header {
    uint32_t min_len;        /* octets of the fixed part */
    int32_t next;            /* row of the header that always follows, -1: the selectors decide */
    struct rk_bits length;   /* header length: (value + length_bias) * length_unit octets */
    int32_t length_bias;
    uint32_t length_unit;
    struct rk_bits end;      /* where the payload ends, counted as end_kind says */
    uint8_t end_kind;        /* RK_END_..., 0: where that of the header before it ends */
    uint8_t fills;           /* the last field takes what is left up to the header's end, which is that of all
                              * there is or of what a total length claims, where no header length says it */
    uint8_t quotes;          /* what follows is the beginning of another packet: no length in it counts */
    uint8_t reserved;
    uint32_t lengths_below;  /* smaller numbers in a selecting field stand for RK_LENGTHS */
    uint32_t at_least;       /* with so many octets row `longer` stands in place of this one; 0: never */
    uint32_t longer;
    uint32_t select_n;
    struct rk_bits select[4];/* the fields that say what follows, tried in order (RK_SELECTORS at most) */
    struct rk_bits opaque;   /* where this is not 0, what follows is no header (fragments) */
    struct rk_bits variant;  /* the field that chooses among the variants */
    uint32_t variants, variants_n; /* rows of numbers, sorted: which row stands in place of this one */
    uint32_t uppers, uppers_n;     /* rows of numbers, sorted: which row follows */
    uint32_t parts, parts_n;       /* rows of parts, in wire order */
    uint32_t columns, columns_n;   /* rows of wanted: the columns that this header has a field for */
};

struct rk_number {
    uint64_t number;
    uint32_t header; /* row of headers */
    uint32_t reserved;
};

struct rk_dissector {
    const struct rk_header *headers;
    const struct rk_number *numbers;
    const struct rk_part *parts;
    const uint32_t *wanted; /* rows of the columns given to rk_extract */
    uint32_t headers_n;
    uint32_t numbers_n;
    uint32_t parts_n;
    uint32_t wanted_n;
};

struct rk_layer { /* offsets in octets from the frame's start */
    uint32_t header;     /* row of headers */
    uint32_t offset;
    uint32_t header_end;
    uint32_t end;        /* of its payload */
};

/* A field of many frames as an array: integers of item_len octets (1, 2, 4 or 8) in the machine's byte order,
 * or, with octets_n, so many octets a row as they stand. present[i] becomes 1 where frame i has the header;
 * where that is 1 already nothing is written, so the caller zeroes it. */
struct rk_column {
    void *values;
    uint8_t *present;
    struct rk_bits field;
    uint32_t item_len;
    uint32_t octets_n;
    uint32_t part;     /* 0, or 1 + which of the header's parts field is counted from */
    uint32_t reserved;
};

/* Walk the headers of octets, which start with header row first.  Returns how many were found (layers_n at
 * most); the walk ends at the first that is damaged.  -EINVAL for a table whose numbers lie outside it. */
int rk_dissect(const struct rk_dissector *table, uint32_t first, const uint8_t *octets, uint32_t len,
               struct rk_layer *layers, uint32_t layers_n);
/* Fill rows [row, row + n) of the columns from frames [first, first + n) of a batch, each of which starts
 * with header row first_header; of several headers that have the field the outermost counts.  Returns n, or
 * -EINVAL for a range outside the batch, a table that does not fit, or a frame outside the arena (rows before
 * it are filled then). */
int rk_extract(const struct rk_dissector *table, uint32_t first_header, const struct rk_batch *batch,
               uint32_t first, uint32_t n, const struct rk_column *columns, uint32_t columns_n, uint64_t row);
/* Fill row 0 of the columns, whose `present` it clears first, from one frame; returns how many had a value.  It
 * does not look at table and columns again: rk_extract has to have accepted both (n may be 0). */
uint32_t rk_pick(const struct rk_dissector *table, uint32_t first_header, const uint8_t *octets, uint32_t len,
                 const struct rk_column *columns, uint32_t columns_n);

#define RK_CHAIN_LEN 16

struct rk_chain { /* headers that follow each other, and how often they do */
    uint64_t packets;
    uint64_t octets; /* on the wire */
    uint32_t headers_n;
    uint32_t headers[RK_CHAIN_LEN]; /* rows of the table */
    uint32_t reserved;
};

/* Count the frames of a batch by the headers in them (RK_CHAIN_LEN at most), the first being row first_header:
 * chains, all zero at first, is a hash table. Returns how many frames it had no room for, or -EINVAL for a table that
 * does not fit or a frame outside the arena. */
int rk_count_chains(const struct rk_dissector *table, uint32_t first_header, const struct rk_batch *batch,
                    struct rk_chain *chains, uint32_t chains_n);

/* ---- templates (rk_field.c) -------------------------------------------------------------------- */

#define RK_TEMPLATE_LEN 65536   /* octets of a frame at most */
#define RK_TEMPLATE_ITEMS 64    /* fields and checksums together at most */
#define RK_TEMPLATE_TERMS 1024  /* terms of one checksum at most */
#define RK_FIELD_COUNTER 1      /* start + step * index */
#define RK_FIELD_VALUES 2       /* values[index]; count of them */
#define RK_FIELD_RANDOM 3       /* 64 bits hashed from seed and index */
#define RK_FIELD_RANDOM_BELOW 4 /* start + as many of them below step */
#define RK_FIELD_PERMUTATION 5  /* start + step * where index goes in a permutation of [0, count) keyed by seed */
#define RK_SUM_INET 1
#define RK_SUM_CRC32C 2

/* A bit field that varies. index is the frame's number, modulo count (0: as it is); of a value the lowest
 * width bits are stored. */
struct rk_template_field {
    uint32_t at;    /* bits from the frame's start */
    uint32_t width; /* bits, 1..64 */
    uint32_t kind;  /* RK_FIELD_... */
    uint32_t reserved;
    uint64_t start;
    uint64_t step;
    uint64_t count;
    uint64_t seed;
    const uint64_t *values;
};

struct rk_template_term { /* an item in its place within the 16-bit words of a sum */
    uint32_t item;        /* a field's row, or fields_n + the row of an earlier checksum */
    uint32_t shift;       /* 0..15 */
};

/* A checksum to repair. RK_SUM_INET: the complement of start plus terms [terms, terms + terms_n), 16 bits, zero
 * in place of 0. RK_SUM_CRC32C: over octets [from, to) of the frame, 32 bits. */
struct rk_template_sum {
    uint32_t kind; /* RK_SUM_... */
    uint32_t at;   /* octets from the frame's start */
    uint32_t start;
    uint32_t zero;
    uint32_t from;
    uint32_t to;
    uint32_t terms;
    uint32_t terms_n;
};

struct rk_template {
    const uint8_t *base; /* the frame with 0 in the place of each field and each checksum of the program */
    const struct rk_template_field *fields;
    const struct rk_template_sum *sums; /* repaired in this order: an inner one before those that cover it */
    const struct rk_template_term *terms;
    uint32_t base_len;
    uint32_t fields_n;
    uint32_t sums_n;
    uint32_t terms_n;
};

/* Fill the batch, emptied first, with frames [first, first + n) of a template. Returns how many fitted, or
 * -EINVAL for a program with a place outside the frame, an item outside its rows, or a number beyond the
 * limits above (the batch is as before then). */
int rk_template_fill(const struct rk_template *program, struct rk_batch *batch, uint64_t first, uint32_t n);

/* ---- capture files (rk_pcap.c) ----------------------------------------------------------------- */

#define RK_PCAP_PACKET_LEN 262144 /* octets of a packet at most */
#define RK_PCAP_BLOCK_LEN 16777216 /* octets of a pcapng block at most */
/* Why reading stopped. */
#define RK_PCAP_MORE 0    /* the record or block at `at` goes on behind what there is */
#define RK_PCAP_FULL 1    /* no row is left, or the next packet has another link type */
#define RK_PCAP_BLOCK 2   /* a block that is no packet is at `at`, perhaps not all of it; nothing of it was checked */
#define RK_PCAP_DAMAGED 3 /* so is the record or block at `at` */

struct rk_pcap_file {     /* what the header of a pcap file says */
    uint32_t big_endian;
    uint32_t record_len;  /* octets before each packet: 16, or 24 in "modified" files */
    uint32_t tick_ns;
    uint32_t reserved;
};

struct rk_pcap_interface {
    int32_t ifindex;      /* of the frames in the batch */
    uint32_t snaplen;     /* reading: cuts simple packets, 0 does not; writing: cuts all */
    int64_t offset_s;     /* reading: if_tsoffset */
    uint16_t linktype;    /* reading */
    uint8_t tsresol;      /* reading: if_tsresol as it stands in the file */
    uint8_t reserved;
    uint32_t number;      /* writing: the interface's number in the file */
};

struct rk_pcapng_section {
    const struct rk_pcap_interface *interfaces; /* row i is interface i of the section */
    uint32_t interfaces_n;
    uint32_t big_endian;
};

/* Make rows, from the first on, of the packets in arena[*at .. arena_used), which is a piece of a capture file
 * beginning with a record; *at moves behind the last of them. All rows have one link type. pcap frames get
 * ifindex 1. Returns why it stopped (RK_PCAP_...), or -EINVAL for an `at` outside the piece. */
int rk_pcap_read(const struct rk_pcap_file *file, struct rk_batch *batch, uint32_t *at);
int rk_pcapng_read(const struct rk_pcapng_section *section, struct rk_batch *batch, uint32_t *at);

struct rk_pcap_output {   /* a file being written, in little-endian order */
    const struct rk_pcap_interface *interfaces; /* pcapng: where frames of an ifindex go */
    uint32_t interfaces_n;
    uint32_t tick_ns;     /* pcap: 1 or 1000; 0 is pcapng, whose unit is the nanosecond */
    uint32_t snaplen;     /* pcap: octets of a frame at most */
    uint32_t notes;       /* pcapng: explain merged frames in a comment (rk_pcap_note) */
    uint32_t linktype;    /* pcapng: of the frames, for their notes */
    uint32_t reserved;
};

#define RK_PCAP_NOTE_LEN 128
/* What the flags word of a packet block cannot say of a merged frame, as text: how many segments it stands
 * for, and whether its transport checksum is there. octets are its first cap_len. The number of segments is
 * told for TCP and UDP over IP, where the headers are whole and the packet is in no tunnel. Returns the
 * length, 0 for an ordinary frame. */
uint32_t rk_pcap_note(const struct rk_frame *frame, const uint8_t *octets, uint32_t linktype,
                      char text[RK_PCAP_NOTE_LEN]);
/* The length of the segments that such a text tells; 0 for any other text. Reading pcapng puts it into gso_len. */
uint16_t rk_pcap_noted(const uint8_t *text, uint32_t len);

/* Put frames [first, first + n) of a batch as records into out[*used .. out_len); *used moves behind them.
 * Returns how many were put, or, where that is none of them, why not the first one:
 *   -ENOSPC  there is no room for it
 *   -ENODEV  there is no interface with its ifindex
 *   -ERANGE  it is longer than a packet may be, or its time lies before 1970 or, for pcap, after 2106
 *   -EINVAL  the range lies outside the batch, or the frame outside the arena */
int rk_pcap_write(const struct rk_pcap_output *output, const struct rk_batch *batch, uint32_t first, uint32_t n,
                  uint8_t *out, uint32_t out_len, uint32_t *used);

/* ---- from a ring into a file (rk_record.c) ------------------------------------------------------ */

/* A regular file that records are appended to, and those of them that are not in it yet: buffer[0 .. used) are
 * whole records that belong at file_len, and buffer[0 .. done) is there already. */
struct rk_recorder {
    uint8_t *buffer;
    uint64_t file_len;     /* octets of the file, all of whole records */
    uint64_t file_packets; /* packets in these */
    uint64_t packets;      /* in these and in the buffer */
    uint64_t full_len;     /* stop with the record that makes file_len + used so much; UINT64_MAX: never */
    uint64_t most;         /* stop when so many frames were taken from the ring */
    uint64_t taken;        /* out: frames of this call */
    uint64_t rejected;     /* out: of these, those that the filter did not pass */
    const uint32_t *stop;  /* comes back within 100 ms when this is no longer 0; may be set by any thread */
    const struct rk_pcaplib *pcaplib; /* what runs the filter */
    const struct rk_insn *insns;      /* of the ring's filter, for user space; NULL: nothing is left to judge */
    uint32_t insns_n;
    uint32_t judged;       /* flags of the frames that are judged here, 0 for all (rk_filter_sift) */
    uint32_t buffer_len;
    uint32_t used;
    uint32_t done;
    uint32_t piece_len;    /* what is written at a time ends at multiples of it in the file */
    uint32_t next;         /* out: the first row of the batch that is not recorded */
    int32_t fd;
    int32_t error;         /* out: the errno that a write met */
    uint32_t reserved;
};

/* Append the frames of a ring to a file as they come, until the deadline, a limit, or a row that cannot be put
 * (rk_pcap_write: rows [next, batch->n) are left, which is no error) or a write that fails (error: what is not in
 * the file stays in the buffer). While frames come, whole pieces are written; after 100 ms without any, and at the
 * end, all. Whatever it returns, the recorder's numbers hold.
 * Returns 0, or a negative errno of rk_ring_receive or rk_filter_sift. */
int rk_record(struct rk_recorder *recorder, struct rk_ring *ring, struct rk_batch *batch,
              const struct rk_pcap_output *output, int64_t deadline_ns);

/* ---- damaged files (rk_pcap_find.c) ------------------------------------------------------------- */

/* The first octet from `at` on where records of a pcap file seem to begin (len: none): some that follow each other,
 * with lengths and times that can be, or those up to the end of the file, which is that of the octets with at_end. */
uint32_t rk_pcap_find(const struct rk_pcap_file *file, const uint8_t *octets, uint32_t len, uint32_t at, int at_end);
/* The first frame of a batch, as rk_pcap_read filled it, whose record does not seem to be one: packets that are longer
 * than they were, fractions beyond a second, leaps of more than a year. batch->n: none. */
uint32_t rk_pcap_odd(const struct rk_pcap_file *file, const struct rk_batch *batch);
/* The first octet from `at` on where a block of pcapng begins that lies within the octets as a whole and whose type
 * is known; len: none. One that is no multiple of 4 octets away from `aligned` needs another behind it. */
uint32_t rk_pcapng_find(int big_endian, const uint8_t *octets, uint32_t len, uint32_t at, uint32_t aligned);

/* ---- flows (rk_flow.c) -------------------------------------------------------------------------- */

/* Packets between two ends, in both directions. `a` sent the first of them. */
struct rk_flow {
    uint8_t a[16];
    uint8_t b[16];
    uint64_t packets[2];  /* from a, from b */
    uint64_t octets[2];   /* on the wire */
    int64_t first_ns;
    int64_t last_ns;
    uint16_t a_port;      /* 0: a protocol without ports, or a fragment behind the first */
    uint16_t b_port;
    uint8_t protocol;
    uint8_t addr_len;     /* 4 or 16 */
    uint16_t reserved;
};

struct rk_flows;
/* A table for `most` flows (2^26 at most), which grows with those there are. -ENOMEM. */
int rk_flows_open(struct rk_flows **out, uint32_t most);
void rk_flows_close(struct rk_flows *flows);
/* Add the frames of a batch, from a link of this kind (RK_LINK_...). numbers[i] (NULL: not wanted) becomes that of
 * frame i's flow, from 1 on; 0 for frames without IP, and for those of flows that the table has no room for, which
 * are counted. Returns how many flows there are, or -EINVAL for a frame outside the arena, -ENOMEM. */
int rk_flows_add(struct rk_flows *flows, uint32_t link, const struct rk_batch *batch, uint32_t *numbers);
/* Flow i is number i + 1; valid until more are added. */
const struct rk_flow *rk_flows_rows(const struct rk_flows *flows);
/* Packets for whose flow there was no room. */
uint64_t rk_flows_left_out(const struct rk_flows *flows);

/* ---- copying records (rk_pcap_copy.c) ---------------------------------------------------------- */

struct rk_pcap_copy {
    uint32_t big_endian;     /* of the file that is read */
    uint32_t record_len;     /* octets before each packet of a pcap file; 0: pcapng */
    uint64_t options;        /* bit n: packets keep options of code n; UINT64_MAX: all of them, as they stand */
    const uint32_t *interfaces; /* pcapng: the new number of each interface of the section; NULL: as it is */
    uint32_t interfaces_n;
    uint32_t turn;           /* pcapng: the other byte order, without options whose layout is not known */
};

/* Put the records of frames [first, first + n) of a batch that was read from a file, and has its records in its
 * arena from *at on, into out[*used .. out_len): those whose `keep` is not 0 (NULL: all). With `edited` its frames
 * from edited_first on stand in place of theirs, one for each of the n; the flags word tells when a checksum was
 * finished. *at, *used and *copied move on. Returns how many frames were dealt with, or, where that is none of them,
 * -ENOSPC when there is no room for the first (those left out never lack room), or -EINVAL for a range outside the
 * batch or a frame that is not in the record at its place. */
int rk_pcap_copy(const struct rk_pcap_copy *rules, const struct rk_batch *batch, uint32_t first, uint32_t n,
                 const uint8_t *keep, const struct rk_batch *edited, uint32_t edited_first, uint32_t *at, uint8_t *out,
                 uint32_t out_len, uint32_t *used, uint32_t *copied);

/* Make each row of a batch that of a whole record in place of its packet; the first lies at `at` in the arena, and
 * they follow each other. Times and all else stay. -EINVAL for a record that is not there. */
int rk_pcap_records(const struct rk_pcap_copy *rules, struct rk_batch *batch, uint32_t at);

/* ---- anonymous addresses (rk_anonymise.c) ------------------------------------------------------- */

#define RK_ANONYMOUS_KEY_LEN 16

struct rk_anonymous_prefix { /* addresses that begin with it keep so many bits; with `whole` all of them */
    uint8_t prefix[16];
    uint32_t bits;
    uint32_t addr_len; /* 4 or 16 */
    uint32_t whole;
};

struct rk_anonymous_known { /* an address, and what stands in its place */
    uint8_t from[16];
    uint8_t to[16];
    uint32_t addr_len; /* 0: none yet */
};

/* The longest prefix that an address has decides about `whole`. known is memory for what was worked out already, all
 * zero at first; known_n may be 0. */
struct rk_anonymous {
    const struct rk_anonymous_prefix *kept;
    struct rk_anonymous_known *known;
    uint32_t kept_n;
    uint32_t known_n;
    uint8_t key[16];
};

/* Put another address in the place of one of 4 or 16 octets (IP: two that share a prefix, of whatever length, share
 * one of that length afterwards) or 6 (MAC: groups and local addresses stay such; broadcasts, the zero address and
 * groups that stand for a protocol stay as they are). -EINVAL for another length. */
int rk_anonymous_address(const struct rk_anonymous *map, uint8_t *address, uint32_t addr_len);

/* ---- rewriting (rk_rewrite.c, rk_rewrite_upper.c) ---------------------------------------------- */

#define RK_REWRITE_DST_MAC 1
#define RK_REWRITE_SRC_MAC 2
#define RK_REWRITE_VLAN_REMOVE 4  /* the outermost tag, where there is one */
#define RK_REWRITE_VLAN_ADD 8     /* a tag in front of all others; after removing */
#define RK_REWRITE_HOP_LIMIT 16   /* TTL */
#define RK_REWRITE_DSCP 32
#define RK_REWRITE_CHECKSUMS 64   /* compute anew, bad ones too, what is there as a whole */
#define RK_REWRITE_KEEP_PAYLOAD 128 /* anonymous: what transport protocols and ICMP echo carry stays */
#define RK_REWRITE_CUT 256        /* anonymous: frames end where nothing but zeros would follow */
#define RK_REWRITE_ALL 511
#define RK_REWRITE_SRC 1          /* the ends that a prefix is mapped at */
#define RK_REWRITE_DST 2

#define RK_LINK_ETHERNET 0
#define RK_LINK_IP 1    /* no link header */
#define RK_LINK_NULL 2  /* four octets, of a BSD loopback */
#define RK_LINK_SLL 3   /* Linux "cooked" */
#define RK_LINK_SLL2 4

struct rk_rewrite_prefix {
    uint8_t from[16];
    uint8_t to[16];
    uint32_t from_bits;
    uint32_t to_bits;   /* so many bits are replaced */
    uint32_t addr_len;  /* 4 or 16 */
    uint32_t ends;      /* RK_REWRITE_SRC, RK_REWRITE_DST */
};

struct rk_rewrite {
    const struct rk_rewrite_prefix *prefixes; /* the first that fits an address counts */
    const uint16_t *ports; /* 65536 rows: what stands in place of each port; NULL: ports stay */
    const struct rk_anonymous *anonymous; /* NULL, or in place of prefixes and ports */
    uint32_t prefixes_n;
    uint32_t flags;        /* RK_REWRITE_... */
    uint32_t link;         /* RK_LINK_..., of all frames; addresses and tags of Ethernet are those of frames of it */
    uint16_t vlan_tpid;
    uint16_t vlan_tci;
    uint8_t hop_limit;
    uint8_t dscp;          /* 0..63; the ECN bits stay */
    uint8_t dst_mac[6];
    uint8_t src_mac[6];
};

struct rk_rewrite_counters {
    uint64_t changed;  /* frames that are not as they were */
    uint64_t finished; /* of these, with a transport checksum that had been left to hardware */
};

/* Append frames [first, first + n) of a batch to out, rewritten; each needs room for 4 octets more.
 * Checksums are updated by what changed (RFC 1624): good ones stay good, bad ones bad. One that was left
 * to hardware (by RK_FRAME_CSUM_NOT_READY, which is taken off then, or because it is the pseudo-header's sum) is
 * computed where all it covers is there. Addresses are mapped in IP headers behind any VLAN tags, routing headers,
 * home address options, the options of IPv4 that have any, in ARP, ICMP, IGMP, MLD and neighbour discovery with its
 * options, and with ports in what ICMP errors quote; not in other payloads, nor inside tunnels.
 *
 * Anonymous, MAC addresses are mapped as well, and addresses in tunnels (IP, GRE, VXLAN), SCTP and MPTCP; what is not
 * understood becomes zero, and so do payloads. In fragments behind the first a word of 16 bits stays in each that
 * keeps its sum, and so the checksum of the whole; the CRC of fragmented SCTP becomes wrong.
 *
 * Counters grow. Returns how many frames fitted, or -EINVAL for
 * a range or a frame outside the batch, or rules that are none. */
int rk_rewrite(const struct rk_rewrite *rules, const struct rk_batch *batch, uint32_t first, uint32_t n,
               struct rk_batch *out, struct rk_rewrite_counters *counters);

/* ---- one direction of an emulated link (rk_emu.c) ---------------------------------------------- */

/* What models do.  Those of rawkit/sim/models.py, which says what they mean. */
#define RK_EMU_BERNOULLI 1       /* p */
#define RK_EMU_GILBERT_ELLIOTT 2 /* p, r, h, k */
#define RK_EMU_PERIODIC 3        /* n */
#define RK_EMU_BURST 4           /* n: every so many, m: the last so many */
#define RK_EMU_NUMBERS 5         /* numbers, ascending */
#define RK_EMU_BLACKHOLE 6       /* from_ns, to_ns */
#define RK_EMU_CORRUPT 7         /* p; r: bit error rate */
#define RK_EMU_DUPLICATE 8       /* p; from_ns: the gap */
#define RK_EMU_REORDER 9         /* p; n: packets, or from_ns: time */
#define RK_EMU_JITTER 10         /* from_ns: at most */

struct rk_emu_model {
    uint32_t kind;
    uint32_t numbers_n;
    const uint64_t *numbers;
    uint64_t key; /* of its random numbers */
    uint64_t n, m;
    int64_t from_ns, to_ns;
    double p, r, h, k;
};

/* Faults of a schedule (rawkit/sim/schedule.py). */
#define RK_EMU_DROP 1
#define RK_EMU_DELAY 2 /* amount: ns */
#define RK_EMU_SWAP 3  /* amount: how many overtake it */
#define RK_EMU_COPY 4
#define RK_EMU_FLIP 5 /* amount: bit of what is above IP */

#define RK_EMU_BY_BOTH 0      /* the n-th packet of both directions */
#define RK_EMU_BY_DIRECTION 1 /* the n-th of this one */
#define RK_EMU_BY_TIME 2      /* every packet of a time */

struct rk_emu_fault {
    uint32_t action, by;
    uint64_t n, amount;
    int64_t from_ns, to_ns;
};

struct rk_emu_step { /* a value from a time on, the first from 0 */
    int64_t at_ns, value;
};

/* Queues (rawkit/sim/queues.py); `limit` is in packets. */
#define RK_EMU_DROP_TAIL 0 /* limit, limit_octets, limit_ns; -1: none */
#define RK_EMU_ECN_THRESHOLD 1 /* limit, mark_from */
#define RK_EMU_RED 2       /* limit, low, high, most, weight, queue_key */
#define RK_EMU_CODEL 3     /* limit, target_ns, interval_ns, queue_mtu */

struct rk_emu_spec {
    const struct rk_emu_model *models;
    const struct rk_emu_fault *faults; /* come before the models; in the order of `by`, and there of `n` */
    const struct rk_emu_step *rates;   /* bits per second, -1: infinitely fast; none: always */
    const struct rk_emu_step *delays;  /* ns; at least one */
    const int64_t *opportunities_ms;   /* in place of rates: a delivery trace */
    uint32_t models_n, faults_n, rates_n, delays_n, opportunities_n;
    uint32_t queue;
    int64_t limit, limit_octets, limit_ns, mark_from;
    double low, high, most, weight;
    uint64_t queue_key;
    int64_t target_ns, interval_ns;
    uint32_t queue_mtu;
    uint32_t mtu, frame_octets;
    uint32_t capacity;    /* packets under way at most, the queue's own limit apart */
    int64_t frame_ns;     /* in place of rates: how long each frame keeps the wire's entrance busy; 0: not at all */
    int64_t jitter_ns;
    uint64_t jitter_key;
};

/* What became of packets. */
#define RK_EMU_DELIVERED 0
#define RK_EMU_DUPLICATED 1
#define RK_EMU_CORRUPTED 2
#define RK_EMU_MARKED 3
#define RK_EMU_LOSS 4
#define RK_EMU_BURST_LOSS 5
#define RK_EMU_BLACK 6
#define RK_EMU_SCHEDULED 7
#define RK_EMU_BAD_HEADER 8
#define RK_EMU_TOO_LARGE 9
#define RK_EMU_QUEUE_FULL 10
#define RK_EMU_QUEUE_MANAGEMENT 11
#define RK_EMU_SUSPENDED 12
#define RK_EMU_NO_ROOM 13 /* capacity or memory: no fate that was asked for */
#define RK_EMU_CAUSES 14

struct rk_emu_frame {
    const uint8_t *octets;
    uint32_t len;
    int64_t due_ns; /* when it came out */
};

struct rk_emu;
/* Copies what the spec points to.  -EINVAL for what makes no sense. */
int rk_emu_open(struct rk_emu **out, const struct rk_emu_spec *spec);
void rk_emu_close(struct rk_emu *emu);
/* Two directions of one link: RK_EMU_BY_BOTH counts their packets together.  Close both at one time. */
void rk_emu_pair(struct rk_emu *one, struct rk_emu *other);
/* An Ethernet frame enters at a time, in ns from the link's beginning, before whatever else is due at that time.
 * Times do not go back: an earlier one counts as the next there is.  -EINVAL for what is no frame, -ENOBUFS without room. */
int rk_emu_offer(struct rk_emu *emu, int64_t now_ns, const uint8_t *octets, uint32_t len);
/* When something happens next; INT64_MAX when nothing does. */
int64_t rk_emu_next(const struct rk_emu *emu);
/* Let time pass.  Returns how many frames have come out and were not taken. */
uint32_t rk_emu_advance(struct rk_emu *emu, int64_t now_ns);
/* The first of these, valid until they are taken. */
uint32_t rk_emu_peek(const struct rk_emu *emu, struct rk_emu_frame *out, uint32_t room);
void rk_emu_take(struct rk_emu *emu, uint32_t n);
/* May be called from another thread. */
void rk_emu_read(const struct rk_emu *emu, uint64_t counts[RK_EMU_CAUSES]);

/* ---- link relay (rk_link.c) ------------------------------------------------------------------- */

struct rk_link_counters { /* of one direction */
    uint64_t received;   /* frames; of what was cut, the pieces */
    uint64_t sent;
    uint64_t cut;        /* segments larger than a packet, which became several */
    uint64_t refused;    /* by the kernel, on sending; or no frame that can go on */
    uint64_t overflow;   /* frames the kernel dropped before the relay saw them */
    uint64_t causes[RK_EMU_CAUSES];
};

struct rk_link;
/* A relay between two interfaces of the calling thread's namespace; [0] is a to b, [1] is b to a.  Their times
 * begin now.  For spin_ns before a frame is due it does not sleep. */
int rk_link_open(struct rk_link **out, int ifindex_a, int ifindex_b, const struct rk_emu_spec specs[2],
                 int64_t spin_ns);
void rk_link_close(struct rk_link *link);
/* Relay until rk_link_stop; 0 then, or the negative errno that ended it. */
int rk_link_run(struct rk_link *link);
/* End rk_link_run; may be called from another thread. */
void rk_link_stop(struct rk_link *link);
/* May be called while it runs. */
void rk_link_read(const struct rk_link *link, struct rk_link_counters out[2]);
/* How late the frames of a direction were sent, by rk_pace's bins.  May be called while it runs. */
void rk_link_lateness(const struct rk_link *link, int direction, uint64_t late[RK_PACE_BINS]);

/* ---- namespaces (rk_ns.c) ---------------------------------------------------------------------- */

#define RK_NS_NET 1
#define RK_NS_USER 2
#define RK_NS_PID 4
#define RK_NS_MOUNT 8

/* Move the calling thread (RK_NS_USER: the process, which must have one thread) into new namespaces. */
int rk_ns_unshare(uint32_t namespaces);
/* Move the calling thread into the namespace that fd refers to, which must be of the kind given. */
int rk_ns_enter(int fd, uint32_t kind);
/* Ask the kernel to kill this process when the thread that made it ends; -ESRCH if it has already. */
int rk_ns_die_with_parent(int parent_pid);
/* Mount a fresh /proc over the old one, in a mount namespace of one's own. */
int rk_ns_mount_proc(void);

/* ---- privileges (rk_priv.c) --------------------------------------------------------------------- */

/* Take every capability out of the calling thread's bounding set: no program it starts can gain one.
 * -EPERM without CAP_SETPCAP. */
int rk_priv_drop_bounds(void);
/* Give up all capabilities of the calling thread, the inheritable and ambient ones too, and forbid the
 * programs it starts to gain any (no_new_privs). */
int rk_priv_drop_all(void);

/* cffi: end */

#endif
