/* XDP live frames: over a veth pair in a namespace of our own; skipped without the capabilities. */
#include "rk_veth.h"

/* Frames of many lengths arrive whole, in order, none missing, also past what the map holds at once. */
static void check_lengths(struct rk_xdp *xdp, int far)
{
    uint8_t want[1600], got[2048];
    struct rk_batch *batch = new_batch(3000, 3000 * 1600);
    for (uint32_t i = 0; i < 3000; i++) {
        make_frame(want, i);
        add(batch, want, length_of(i));
    }
    uint32_t from = 0, received = 0;
    while (from < 3000) { /* few at a time: the socket's buffer has to hold them */
        uint32_t n = from == 0 ? 1 : 3000 - from < 1499 ? 3000 - from : 1499;
        EXPECT(rk_xdp_send(xdp, batch, from, n, INT64_MAX), n);
        for (from += n; received < from; received++) {
            ssize_t len = recv(far, got, sizeof got, 0);
            if (len < 0)
                break;
            make_frame(want, received);
            EXPECT(len, length_of(received));
            EXPECT(memcmp(got, want, length_of(received)), 0);
        }
    }
    EXPECT(received, 3000);
    drop_batch(batch);
}

static void check_refusals(struct rk_xdp *xdp)
{
    static const uint8_t octets[4000];
    struct rk_batch *batch = new_batch(8, 10000);
    add(batch, octets, 60);
    add(batch, octets, 1519);
    add(batch, octets, 13);
    EXPECT(rk_xdp_send(xdp, batch, 0, 4, INT64_MAX), -EINVAL);
    EXPECT(rk_xdp_send(xdp, batch, 0, 0, INT64_MAX), 0);
    EXPECT(rk_xdp_send(xdp, batch, 0, 3, INT64_MAX), 1); /* a refused frame does not hold back those before it */
    EXPECT(rk_xdp_send(xdp, batch, 1, 2, INT64_MAX), -EMSGSIZE);
    EXPECT(rk_xdp_send(xdp, batch, 2, 1, INT64_MAX), -EINVAL);
    set_interface("v0", true, 3000, true);
    set_interface("v1", true, 3000, true);
    add(batch, octets, RK_XDP_FRAME_LEN);
    add(batch, octets, RK_XDP_FRAME_LEN + 1);
    EXPECT(rk_xdp_send(xdp, batch, 3, 1, INT64_MAX), 1);
    EXPECT(rk_xdp_send(xdp, batch, 4, 1, INT64_MAX), -EFBIG);
    set_interface("v0", false, 1500, true);
    EXPECT(rk_xdp_send(xdp, batch, 0, 1, INT64_MAX), -ENETDOWN);
    drop_batch(batch);
}

/* The deadline ends a long batch between two slices, and the count says where. */
static void check_deadline(struct rk_xdp *xdp)
{
    static const uint8_t octets[14];
    struct rk_batch *batch = new_batch(5000, 5000 * 14);
    for (uint32_t i = 0; i < 5000; i++)
        add(batch, octets, 14);
    EXPECT(rk_xdp_send(xdp, batch, 0, 5000, 0), 4096);
    EXPECT(rk_xdp_send(xdp, batch, 4096, 5000 - 4096, INT64_MAX), 5000 - 4096);
    drop_batch(batch);
}

int main(void)
{
    struct rk_xdp *xdp = NULL;
    if (!enter_private_network())
        return 77;
    if (make_pair() != 0) {
        printf("skipped: no veth pair here\n");
        return 77;
    }
    set_interface("v0", true, 1500, true);
    set_interface("v1", true, 1500, true);
    int error = rk_xdp_open(&xdp, (int)if_nametoindex("v0"));
    if (error == -EPERM || error == -EOPNOTSUPP || error == -ENOSYS) {
        printf("skipped: no XDP here: %s\n", strerror(-error));
        return 77;
    }
    EXPECT(error, 0);
    if (error != 0)
        return result();
    struct rk_xdp *none = NULL;
    EXPECT(rk_xdp_open(&none, 9999), -ENODEV);
    EXPECT(none == NULL, true);

    int far = listen_on("v1");
    check_lengths(xdp, far);
    close(far);
    check_deadline(xdp);

    /* Elsewhere, where no such interface exists: the handle keeps to its own. */
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    static const uint8_t octets[60];
    struct rk_batch *batch = new_batch(1, 60);
    add(batch, octets, 60);
    EXPECT(unshare(CLONE_NEWNET), 0);
    EXPECT(rk_xdp_send(xdp, batch, 0, 1, INT64_MAX), 1);
    EXPECT(setns(home, CLONE_NEWNET), 0);
    close(home);

    check_refusals(xdp);
    drop_batch(batch);
    rk_xdp_close(xdp);
    return result();
}
