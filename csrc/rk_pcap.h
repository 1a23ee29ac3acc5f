/* rk_pcap.h: what reading, writing and copying records of capture files share. */
#ifndef RK_PCAP_H
#define RK_PCAP_H

#include "rk.h"
#include "rk_internal.h"

#define SECOND_NS 1000000000
#define PCAP_RECORD_LEN 16u
#define BLOCK_LEN 12u /* of an empty block: its type and its length twice */

/* pcapng block types, options of packet blocks, and the flags word (section 4.3.1 of the draft) */
#define OBSOLETE_PACKET 2u
#define SIMPLE_PACKET 3u
#define ENHANCED_PACKET 6u
#define OPTION_END 0u
#define OPTION_COMMENT 1u
#define OPTION_FLAGS 2u
#define OPTION_HASH 3u
#define OPTION_DROPCOUNT 4u
#define OPTION_PACKET_ID 5u
#define OPTION_QUEUE 6u
#define OPTION_VERDICT 7u
#define OPTION_PROCESS 8u /* and thread */
#define FLAG_DIRECTIONS 3u
#define FLAG_IN 1u
#define FLAG_OUT 2u
#define FLAG_CSUM_NOT_READY (1u << 9)
#define FLAG_CSUM_VALID (1u << 10)
#define FLAG_GSO (1u << 11)

static inline uint16_t load16(const uint8_t *octets, bool big)
{
    return big ? rk_load_be16(octets) : rk_load_le16(octets);
}

static inline uint32_t load32(const uint8_t *octets, bool big)
{
    return big ? rk_load_be32(octets) : rk_load_le32(octets);
}

static inline void store16(uint8_t *octets, uint16_t value, bool big)
{
    if (big)
        rk_store_be16(octets, value);
    else
        rk_store_le16(octets, value);
}

static inline void store32(uint8_t *octets, uint32_t value, bool big)
{
    if (big)
        rk_store_be32(octets, value);
    else
        rk_store_le32(octets, value);
}

static inline uint32_t padding(uint32_t len)
{
    return -len & 3;
}

#endif
