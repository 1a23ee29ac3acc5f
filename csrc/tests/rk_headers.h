/* rk_headers.h: a table of a few real headers, which between them use most of what a table can say. */
#ifndef RK_HEADERS_H
#define RK_HEADERS_H

#include "rk.h"

enum { ETHER, VLAN, IP, UDP, ICMP, UNREACHABLE, GRE, CHOICE, LLC, SNAP, HEADERS };
enum { ETHERTYPES, PROTOCOLS = 3, KINDS = 7, VERSIONS = 8, NUMBERS = 9 };

static const struct rk_number numbers[NUMBERS] = {
    {.number = 0x0800, .header = IP}, {.number = 0x8100, .header = VLAN}, /* Ethernet, VLAN, GRE */
    {.number = RK_LENGTHS, .header = LLC},
    {.number = 1, .header = ICMP},    {.number = 4, .header = IP},        /* IP */
    {.number = 17, .header = UDP},    {.number = 47, .header = GRE},
    {.number = 3, .header = UNREACHABLE}, /* ICMP */
    {.number = 4, .header = IP},          /* first four bits */
};

static const struct rk_part parts[] = {
    {.when = {0, 1}, .any = 1, .unit = 4}, /* GRE: checksum and reserved */
    {.when = {2, 1}, .any = 1, .unit = 4}, /* GRE: key */
};

static const uint32_t wanted[] = {0, 1, 2, 3, 4}; /* ports; addresses; key */

static struct rk_header headers[HEADERS] = {
    [ETHER] = {.min_len = 14, .next = -1, .end = {96, 16}, .end_kind = RK_END_8023, .select = {{96, 16}},
               .select_n = 1, .uppers = ETHERTYPES, .uppers_n = 3, .lengths_below = 1536},
    [VLAN] = {.min_len = 4, .next = -1, .end = {16, 16}, .end_kind = RK_END_8023, .select = {{16, 16}},
              .select_n = 1, .uppers = ETHERTYPES, .uppers_n = 3, .lengths_below = 1536},
    [IP] = {.min_len = 20, .next = -1, .length = {4, 4}, .length_unit = 4, .fills = 1, .end = {16, 16},
            .end_kind = RK_END_TOTAL, .opaque = {51, 13}, .select = {{72, 8}}, .select_n = 1,
            .uppers = PROTOCOLS, .uppers_n = 4, .columns = 2, .columns_n = 2},
    [UDP] = {.min_len = 8, .next = -1, .end = {32, 16}, .end_kind = RK_END_TOTAL, .columns = 0, .columns_n = 2},
    [ICMP] = {.min_len = 4, .next = -1, .variant = {0, 8}, .variants = KINDS, .variants_n = 1},
    [UNREACHABLE] = {.min_len = 8, .next = IP, .quotes = 1},
    [GRE] = {.min_len = 4, .next = -1, .parts = 0, .parts_n = 2, .select = {{16, 16}}, .select_n = 1,
             .uppers = ETHERTYPES, .uppers_n = 3, .columns = 4, .columns_n = 1},
    [CHOICE] = {.min_len = UINT32_MAX, .next = -1, .variant = {0, 4}, .variants = VERSIONS, .variants_n = 1},
    [LLC] = {.min_len = 3, .next = -1, .at_least = 8, .longer = SNAP},
    [SNAP] = {.min_len = 8, .next = -1},
};

static struct rk_dissector table = {.headers = headers, .numbers = numbers, .parts = parts, .wanted = wanted,
                                    .headers_n = HEADERS, .numbers_n = NUMBERS, .parts_n = 2, .wanted_n = 5};

#endif
