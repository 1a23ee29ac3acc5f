/* Packets that follow each other: cut ones do, and nothing that was changed does. */
#include "rk_test.h"

#include <errno.h>
#include <string.h>

static const struct rk_bulk PLACES = {
    .header_len = 16, .seq_at = 4, .seq_len = 4, .length_at = 12, .length_len = 2, .sum_at = 14};

static void cut_packets_follow_each_other_across_the_wrap(void)
{
    uint8_t header[16] = {1, 2, 3, 4, 0xff, 0xff, 0xff, 0xf0, 9, 9, 9, 9};
    uint8_t payload[48], a[32], b[32], c[32];
    for (int i = 0; i < 48; i++)
        payload[i] = (uint8_t)i;
    EXPECT(rk_bulk_check(&PLACES) == 0, 1);
    EXPECT(rk_bulk_cut(&PLACES, header, 0, payload, 16, a) == 0, 1);
    EXPECT(rk_bulk_cut(&PLACES, header, 16, payload + 16, 16, b) == 0, 1);
    EXPECT(rk_bulk_cut(&PLACES, header, 32, payload + 32, 16, c) == 0, 1);
    EXPECT(b[4] == 0 && b[7] == 0 && c[7] == 16 && b[13] == 16, 1);
    EXPECT(rk_csum_add(0, b, sizeof b) == 0xffff, 1);
    EXPECT(rk_bulk_follows(&PLACES, a, 32, 0, b, 32) == 1, 1);
    EXPECT(rk_bulk_follows(&PLACES, a, 32, 32, c, 32) == 1, 1);
    EXPECT(rk_bulk_follows(&PLACES, a, 32, 0, c, 32) == 0, 1);
    EXPECT(rk_bulk_follows(&PLACES, b, 32, 0, a, 32) == 0, 1);
}

static void no_changed_octet_passes(void)
{
    uint8_t header[16] = {1}, payload[64] = {5}, a[48], b[48];
    rk_bulk_cut(&PLACES, header, 0, payload, 32, a);
    rk_bulk_cut(&PLACES, header, 32, payload + 32, 32, b);
    for (size_t i = 0; i < sizeof b; i++) {
        for (int side = 0; side < 2; side++) {
            uint8_t *changed = side ? b : a;
            changed[i] ^= 0x40;
            EXPECT(rk_bulk_follows(&PLACES, a, 48, 0, b, 48) == 0, 1);
            changed[i] ^= 0x40;
        }
    }
    for (size_t len = 0; len < sizeof b; len++) {
        EXPECT(rk_bulk_follows(&PLACES, a, 48, 0, b, len) == 0, 1);
        EXPECT(rk_bulk_follows(&PLACES, a, len, 0, b, 48) == 0, 1);
    }
    /* Another header with a right checksum. */
    uint8_t other[16] = {2};
    rk_bulk_cut(&PLACES, other, 32, payload + 32, 32, b);
    EXPECT(rk_bulk_follows(&PLACES, a, 48, 0, b, 48) == 0, 1);
}

static void places_outside_the_header_are_refused(void)
{
    struct rk_bulk bad[] = {PLACES, PLACES, PLACES, PLACES, PLACES};
    bad[0].seq_at = 13;
    bad[1].sum_at = 16;
    bad[2].length_len = 5;
    bad[3].seq_len = 0;
    bad[4].header_len = 15;
    for (int i = 0; i < 5; i++)
        EXPECT(rk_bulk_check(&bad[i]) == -EINVAL, 1);
    uint8_t header[16] = {0}, out[16 + 300];
    static uint8_t payload[300];
    struct rk_bulk narrow = PLACES;
    narrow.length_len = 1;
    EXPECT(rk_bulk_cut(&narrow, header, 0, payload, 300, out) == -EOVERFLOW, 1);
}

int main(void)
{
    cut_packets_follow_each_other_across_the_wrap();
    no_changed_octet_passes();
    places_outside_the_header_are_refused();
    return failures != 0;
}
