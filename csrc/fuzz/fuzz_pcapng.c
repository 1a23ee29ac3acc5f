/* Any octets as blocks of a pcapng section, among interfaces that differ in their clocks and link types. The first
 * octet says which byte order and how many interfaces, the second where the octets are cut in two. */
#include "rk_records.h"

static int read_pcapng(const struct records *records, struct rk_batch *batch, uint32_t *at)
{
    return rk_pcapng_read(records->file, batch, at);
}

/* In the other byte order the records hold the same. */
static void turn_round(const struct rk_pcapng_section *section, const uint8_t *octets, uint32_t len)
{
    struct rk_batch *batch = batch_of(octets, len, len / 12 + 1);
    struct rk_pcapng_section other = *section;
    other.big_endian = !section->big_endian;
    struct rk_pcap_copy copy = {.big_endian = section->big_endian, .options = UINT64_MAX, .turn = 1};
    uint32_t at = 0, used = 0, copied = 0, out_len = len + 32 * (batch->capacity + 1);
    uint8_t *out = malloc(out_len);
    rk_pcapng_read(section, batch, &at);
    at = 0;
    REQUIRE(rk_pcap_copy(&copy, batch, 0, batch->n, NULL, NULL, 0, &at, out, out_len, &used, &copied) == (int)batch->n);
    struct rk_batch *back = batch_of(out, used, batch->n + 1);
    at = 0;
    REQUIRE(rk_pcapng_read(&other, back, &at) == RK_PCAP_MORE && at == used && back->n == batch->n);
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct rk_frame *a = &batch->frames[i], *b = &back->frames[i];
        REQUIRE(a->time_ns == b->time_ns && a->cap_len == b->cap_len && a->wire_len == b->wire_len &&
                a->ifindex == b->ifindex && a->gso_len == b->gso_len &&
                (a->flags & ~(uint32_t)RK_FRAME_OPTIONS) == (b->flags & ~(uint32_t)RK_FRAME_OPTIONS) &&
                memcmp(batch->arena + a->offset, back->arena + b->offset, a->cap_len) == 0);
    }
    drop(back);
    drop(batch);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct rk_pcap_interface interfaces[] = {
        {.ifindex = 1, .linktype = 1, .tsresol = 6, .snaplen = 96},
        {.ifindex = 2, .linktype = 1, .tsresol = 9, .offset_s = -5},
        {.ifindex = 3, .linktype = 1, .tsresol = 0x80 | 127, .offset_s = INT64_MAX},
        {.ifindex = 4, .linktype = 101, .tsresol = 0x80 | 30, .offset_s = INT64_MIN},
        {.ifindex = 5, .linktype = 101, .tsresol = 20, .snaplen = UINT32_MAX},
    };
    if (size < 2)
        return 0;
    struct rk_pcapng_section section = {.interfaces = interfaces,
                                        .interfaces_n = (data[0] >> 1) % 6,
                                        .big_endian = data[0] & 1};
    struct records records = {.read = read_pcapng,
                              .file = &section,
                              .copy = {.big_endian = section.big_endian, .options = UINT64_MAX},
                              .header_len = 12,
                              .last_ifindex = (int32_t)section.interfaces_n};
    uint8_t *octets = malloc(size - 1);
    uint32_t len = (uint32_t)size - 2, found = 0;
    memcpy(octets, data + 2, len);
    do { /* where it goes on when it is damaged: a block that is there as a whole */
        found = rk_pcapng_find(section.big_endian != 0, octets, len, found, data[1]);
        REQUIRE(found == len || (found < len && len - found >= 12));
    } while (found++ < len);
    free(octets);
    turn_round(&section, data + 2, len);
    check_records(&records, data + 2, size - 2, data[1] * (size_t)17);
    return 0;
}
