/* Packets of a transport protocol of any kind whose octets follow each other: taken for one on receipt, and cut
 * from one when sending.  What is known of the protocol is where its header has a few fields. */
#include "rk.h"

#include <errno.h>
#include <string.h>

#include "rk_internal.h"

static uint64_t load_be(const uint8_t *at, uint32_t len)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < len; i++)
        value = value << 8 | at[i];
    return value;
}

static void store_be(uint8_t *at, uint32_t len, uint64_t value)
{
    for (uint32_t i = len; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
}

static bool inside(const struct rk_bulk *bulk, uint32_t at, uint32_t len)
{
    return at + len <= bulk->header_len;
}

int rk_bulk_check(const struct rk_bulk *bulk)
{
    bool fits = bulk->seq_len >= 1 && bulk->seq_len <= 8 && inside(bulk, bulk->seq_at, bulk->seq_len) &&
                bulk->length_len <= 4 && inside(bulk, bulk->length_at, bulk->length_len) &&
                bulk->sum_at % 2 == 0 && bulk->header_len % 2 == 0 && inside(bulk, bulk->sum_at, 2);
    return fits ? 0 : -EINVAL;
}

/* Whether the length field and the checksum of a packet are right, and it carries anything. */
static bool is_sound(const struct rk_bulk *bulk, const uint8_t *packet, size_t len)
{
    if (len <= bulk->header_len)
        return false;
    if (bulk->length_len != 0 &&
        load_be(packet + bulk->length_at, bulk->length_len) != len - bulk->header_len + bulk->length_extra)
        return false;
    return rk_csum_add(0, packet, len) == 0xffff;
}

int rk_bulk_follows(const struct rk_bulk *bulk, const uint8_t *first, size_t first_len, uint64_t octets,
                    const uint8_t *next, size_t next_len)
{
    if (octets == 0 && !is_sound(bulk, first, first_len))
        return 0;
    uint64_t before = octets == 0 ? first_len - bulk->header_len : octets;
    uint64_t mask = bulk->seq_len == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * bulk->seq_len) - 1;
    uint64_t wanted = (load_be(first + bulk->seq_at, bulk->seq_len) + before) & mask;
    if (next_len <= bulk->header_len || load_be(next + bulk->seq_at, bulk->seq_len) != wanted)
        return 0;
    for (uint32_t i = 0; i < bulk->header_len; i++) {
        bool differs = (i - bulk->seq_at < bulk->seq_len) || (i - bulk->length_at < bulk->length_len) ||
                       (i - bulk->sum_at < 2);
        if (!differs && first[i] != next[i])
            return 0;
    }
    return is_sound(bulk, next, next_len);
}

int rk_bulk_cut(const struct rk_bulk *bulk, const uint8_t *header, uint64_t offset, const uint8_t *piece,
                size_t piece_len, uint8_t *out)
{
    memcpy(out, header, bulk->header_len);
    memcpy(out + bulk->header_len, piece, piece_len);
    uint64_t seq = load_be(header + bulk->seq_at, bulk->seq_len) + offset;
    store_be(out + bulk->seq_at, bulk->seq_len, seq);
    if (bulk->length_len != 0) {
        uint64_t length = piece_len + bulk->length_extra;
        if (bulk->length_len < 8 && length >> 8 * bulk->length_len != 0)
            return -EOVERFLOW;
        store_be(out + bulk->length_at, bulk->length_len, length);
    }
    memset(out + bulk->sum_at, 0, 2);
    rk_store_be16(out + bulk->sum_at, (uint16_t)~rk_csum_add(0, out, bulk->header_len + piece_len));
    return 0;
}
