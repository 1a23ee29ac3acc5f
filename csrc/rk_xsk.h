/* rk_xsk.h: an AF_XDP socket's transmit ring, the fast way out of a packet socket (rk_packet.c). */
#ifndef RK_XSK_H
#define RK_XSK_H

#include "rk.h"

#include <stdbool.h>

struct rk_xsk;
/* Make the socket, which is what needs CAP_NET_RAW, in the calling thread's network namespace. */
int rk_xsk_open(struct rk_xsk **out);
/* Lock memory and take a transmit queue of an Ethernet interface: the first that is free. Once only. The packet
 * socket in the same namespace stays open as long as this one.
 * -EBUSY when none is until the deadline, -ENOBUFS beyond RLIMIT_MEMLOCK, -ENODEV, -EOPNOTSUPP where the kernel
 * lacks a part. */
int rk_xsk_start(struct rk_xsk *xsk, int packet_fd, int ifindex, int64_t deadline_ns);
void rk_xsk_close(struct rk_xsk *xsk);

/* An rk_offer (rk_io.h) of frames [first, first + *n), all of them within the batch's rows: how many were given
 * to the driver, or -ENOBUFS when it takes none at present. 0: the first *n are for a packet socket, which carries
 * them or says why not: frames too long or too short, or whatever is wrong with the interface. */
int rk_xsk_offer(struct rk_xsk *xsk, const struct rk_batch *batch, uint32_t first, uint32_t *n);
/* Whether it was started, and its queue still exists. */
bool rk_xsk_works(const struct rk_xsk *xsk);

#endif
