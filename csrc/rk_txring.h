/* rk_txring.h: a packet socket with a transmit ring, the fast way out of another packet socket (rk_packet.c). */
#ifndef RK_TXRING_H
#define RK_TXRING_H

#include "rk.h"

struct rk_txring;
/* Make the socket, which is what needs CAP_NET_RAW, in the calling thread's network namespace, for an interface of
 * that hardware type (ARPHRD_...). -EOPNOTSUPP for one whose frames have other link headers than Ethernet's or none.
 * The ring itself is made beside when some thousand frames were offered, and is to be had some 10 ms later. */
int rk_txring_open(struct rk_txring **out, int ifindex, int hardware_type);
/* Pass by the queueing discipline from now on. */
int rk_txring_bypass(struct rk_txring *ring);
void rk_txring_close(struct rk_txring *ring);

/* An rk_offer (rk_io.h) of frames [first, first + *n), all of them within the batch's rows: how many the device
 * took, or -ENOBUFS when it takes none at present. 0: the first *n are for an ordinary packet socket, which carries
 * them or says why not: frames too long or too short, or whatever is wrong with the interface. */
int rk_txring_offer(struct rk_txring *ring, const struct rk_batch *batch, uint32_t first, uint32_t *n);

#endif
