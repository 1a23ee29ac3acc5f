/* rk_pcap_find.c: where records of a damaged capture file go on. */
#include "rk_pcap.h"


#define CHAIN 4             /* records that have to follow each other before they are believed */
#define YEAR_S (366 * 86400u)
#define WIRE_MAX (1u << 24) /* octets of a packet on its wire, merged ones included */

static bool likely_record(const struct rk_pcap_file *file, const uint8_t *record)
{
    bool big = file->big_endian != 0;
    uint32_t cap_len = load32(record + 8, big), wire_len = load32(record + 12, big);
    return cap_len <= wire_len && wire_len > 0 && wire_len <= WIRE_MAX && cap_len <= RK_PCAP_PACKET_LEN &&
           load32(record + 4, big) < SECOND_NS / file->tick_ns;
}

static bool same_age(const struct rk_pcap_file *file, const uint8_t *one, const uint8_t *other)
{
    bool big = file->big_endian != 0;
    uint32_t a = load32(one, big), b = load32(other, big);
    return (a > b ? a - b : b - a) < YEAR_S;
}

/* Whether records begin here: several one behind the other, or all up to the end of the file, of which the last may
 * be cut when there are others. */
static bool record_here(const struct rk_pcap_file *file, const uint8_t *octets, uint32_t len, uint32_t at, bool at_end)
{
    const uint8_t *last = NULL;
    for (uint32_t n = 0; n < CHAIN; n++) {
        if (len - at < file->record_len)
            return at_end ? n > 0 && (at == len || n > 1) : n > 1;
        const uint8_t *record = octets + at;
        if (!likely_record(file, record) || (last && !same_age(file, last, record)))
            return false;
        uint32_t cap_len = load32(record + 8, file->big_endian != 0);
        if (cap_len > len - at - file->record_len)
            return n > 0;
        at += file->record_len + cap_len;
        last = record;
    }
    return true;
}

uint32_t rk_pcap_find(const struct rk_pcap_file *file, const uint8_t *octets, uint32_t len, uint32_t at, int at_end)
{
    for (; at < len; at++)
        if (record_here(file, octets, len, at, at_end != 0))
            return at;
    return len;
}

uint32_t rk_pcap_odd(const struct rk_pcap_file *file, const struct rk_batch *batch)
{
    for (uint32_t i = 0; i < batch->n; i++) {
        const uint8_t *record = batch->arena + batch->frames[i].offset - file->record_len;
        const uint8_t *before = i ? batch->arena + batch->frames[i - 1].offset - file->record_len : record;
        if (!likely_record(file, record) || !same_age(file, before, record))
            return i;
    }
    return batch->n;
}

/* Whether a block of a known type with both its lengths begins here. */
static bool block_here(const uint8_t *octets, uint32_t room, bool big)
{
    uint32_t type = load32(octets, big), len = load32(octets + 4, big), least = BLOCK_LEN;
    switch (type) {
    case 0x0a0d0d0a:
        if (room < 28 || (load32(octets + 8, true) != 0x1a2b3c4d && load32(octets + 8, false) != 0x1a2b3c4d))
            return false;
        big = load32(octets + 8, true) == 0x1a2b3c4d;
        len = load32(octets + 4, big);
        least = 28;
        break;
    case 1:
        least = 20;
        break;
    case OBSOLETE_PACKET: case ENHANCED_PACKET:
        least = 32;
        break;
    case SIMPLE_PACKET:
        least = 16;
        break;
    case 5:
        least = 24;
        break;
    case 4: case 9: case 10: case 0xbad: case 0x40000bad:
        break;
    default:
        return false;
    }
    if (len < least || len % 4 != 0 || len > RK_PCAP_BLOCK_LEN || len > room || load32(octets + len - 4, big) != len)
        return false;
    /* Three octets before a block in one byte order something like one in the other begins: a closer look. */
    if (type == 1)
        return load16(octets + 10, big) == 0;
    return least != 32 || load32(octets + 20, big) <= len - 32;
}

uint32_t rk_pcapng_find(int big_endian, const uint8_t *octets, uint32_t len, uint32_t at, uint32_t aligned)
{
    bool big = big_endian != 0;
    for (; at < len && len - at >= BLOCK_LEN; at++) {
        if (!block_here(octets + at, len - at, big))
            continue;
        if ((at - aligned) % 4 == 0)
            return at;
        uint32_t next = at + load32(octets + at + 4, load32(octets + at, true) == 0x0a0d0d0a
                                                         ? load32(octets + at + 8, true) == 0x1a2b3c4d : big);
        if (next == len || (len - next >= BLOCK_LEN && block_here(octets + next, len - next, big)))
            return at;
    }
    return len;
}
