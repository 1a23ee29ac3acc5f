/* When the kernel handed a frame to its interface: transmit time stamps, which come back by a socket's error
 * queue (Documentation/networking/timestamping.rst). */
#define _GNU_SOURCE
#include "rk_io.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

int rk_stamp_start(int fd)
{
    /* Numbers start at 0 when they are switched on, so they are switched off first. */
    int error = rk_io_set_option(fd, SOL_SOCKET, SO_TIMESTAMPING, 0);
    if (error != 0)
        return error;
    return rk_io_set_option(fd, SOL_SOCKET, SO_TIMESTAMPING,
                            SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
                                SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY);
}

/* Whether ancillary data tells which frame a message of the error queue is about, and that is a stamp. */
static bool read_number(const struct cmsghdr *c, uint32_t *number)
{
    bool told = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR) ||
                (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_TX_TIMESTAMP);
    struct sock_extended_err error;
    if (!told || c->cmsg_len < CMSG_LEN(sizeof error))
        return false;
    memcpy(&error, CMSG_DATA(c), sizeof error);
    if (error.ee_origin != SO_EE_ORIGIN_TIMESTAMPING || error.ee_info != SCM_TSTAMP_SND)
        return false;
    *number = error.ee_data;
    return true;
}

int rk_stamp_read(int fd, struct rk_stamp *stamps, uint32_t n)
{
    uint32_t got = 0;
    while (got < n) {
        _Alignas(struct cmsghdr) uint8_t control[RK_CONTROL_LEN];
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN || got > 0 ? (int)got : -errno;
        }
        struct rk_stamp stamp = {0};
        bool numbered = false;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
                struct timespec time; /* the first of three is the one by software */
                memcpy(&time, CMSG_DATA(c), sizeof time);
                stamp.time_ns = rk_io_time(&time);
            } else if (read_number(c, &stamp.number)) {
                numbered = true;
            }
        }
        if (numbered && stamp.time_ns != 0)
            stamps[got++] = stamp;
    }
    return (int)got;
}
