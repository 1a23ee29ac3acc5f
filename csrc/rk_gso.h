/* rk_gso.h: what a network card does with what the kernel leaves to it. */
#ifndef RK_GSO_H
#define RK_GSO_H

#include "rk.h"

/* What the kernel says of a frame (struct virtio_net_hdr in the host's order; virtio 1.1 section 5.1.6). */
struct rk_gso_info {
    uint8_t flags;
    uint8_t type;
    uint16_t header_len;
    uint16_t segment_len; /* payload of each piece */
    uint16_t csum_start;  /* the checksum that is to be finished covers what follows, */
    uint16_t csum_offset; /* and stands there */
};
#define RK_GSO_INFO_LEN 10

/* Finish a frame's checksum, or cut it into the packets that it stands for, each finished, and hand these to `emit`
 * in order.  They are made in `room` octets at `scratch`.  Returns how many, or -EINVAL for what it cannot cut. */
int rk_gso_finish(const struct rk_gso_info *info, uint8_t *frame, uint32_t len, uint8_t *scratch, uint32_t room,
                  void (*emit)(void *context, const uint8_t *frame, uint32_t len), void *context);

#endif
