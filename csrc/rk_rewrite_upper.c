/* rk_rewrite_upper.c: what IP carries, with other ports and addresses, or with nothing in it that tells who it was.
 *
 * Checksums are not computed but updated by what changed (RFC 1624): a good one stays good, and a bad one, which
 * may be the point of the packet, as bad as it was.  It also works where the octets that a checksum covers are not
 * all there: in fragments and in what ICMP errors quote. */
#include "rk_rewrite.h"

#define DEPTH_MAX 8 /* packets in packets */
#define VXLAN_PORT 4789

enum { V4 = 1, V6 = 2 };

/* Where protocols keep their Internet checksum. */
static const struct place {
    uint8_t protocol;
    uint8_t at;
    uint8_t families;
    bool pseudo; /* it covers a pseudo-header */
    bool ports;  /* the header begins with two ports */
    bool all;    /* it covers all that follows, always */
} places[] = {
    {TCP, 16, V4 | V6, .pseudo = true, .ports = true, .all = true},
    {UDP, 6, V4 | V6, .pseudo = true, .ports = true, .all = true},
    {ICMP, 2, V4, .all = true},
    {ICMP6, 2, V6, .pseudo = true, .all = true},
    {IGMP, 2, V4, .all = true},
    {UDP_LITE, 6, V4 | V6, .pseudo = true, .ports = true},
    {DCCP, 6, V4 | V6, .pseudo = true, .ports = true}, /* RFC 4340 section 9 */
    {89, 12, V6, .pseudo = true, .all = true},         /* OSPFv3 (RFC 5340 section A.3.1) */
    {PIM, 2, V6, .pseudo = true},                      /* RFC 7761 section 4.9 */
    {135, 4, V6, .pseudo = true, .all = true},         /* mobility header (RFC 6275 section 6.1.1) */
    {139, 4, V4 | V6, .pseudo = true, .all = true},    /* HIP (RFC 7401 section 5.1) */
};

static const struct place *place_of(uint8_t protocol, uint8_t family)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (places[i].protocol == protocol && places[i].families & family)
            return &places[i];
    return NULL;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* How many octets from the upper header on the checksum covers. */
static uint32_t covered_len(uint8_t protocol, const uint8_t *octets, uint32_t len)
{
    if (protocol == UDP_LITE && len >= 8 && rk_load_be16(octets + 4) >= 8) /* RFC 3828 section 3.1 */
        return least(len, rk_load_be16(octets + 4));
    if (protocol == DCCP && len >= 12 && (octets[5] & 15) > 0) /* RFC 4340 section 9.2 */
        return least(len, octets[4] * 4u + ((octets[5] & 15) - 1u) * 4);
    if (protocol == PIM && len >= 8 && (octets[0] & 15) == 1) /* register: its header alone */
        return 8;
    return len;
}

static void map_ports(const struct rk_rewrite *rules, uint8_t *ports)
{
    rk_store_be16(ports, rules->ports[rk_load_be16(ports)]);
    rk_store_be16(ports + 2, rules->ports[rk_load_be16(ports + 2)]);
}

static void map_mac(const struct rk_rewrite *rules, uint8_t *mac)
{
    if (rules->anonymous)
        rk_anonymous_address(rules->anonymous, mac, 6);
}

/* Zeros for all from `from` on. */
static void blank_from(struct rk_changed *packet, uint8_t *octets, uint32_t len, uint32_t from)
{
    if (from < len)
        rk_blank_out(packet, octets + from, len - from);
}

/* The same for what belongs to users, which they may want to keep. */
static void payload_from(struct rk_changed *packet, uint8_t *octets, uint32_t len, uint32_t from)
{
    if (!(packet->rules->flags & RK_REWRITE_KEEP_PAYLOAD))
        blank_from(packet, octets, len, from);
}

/* The first `bits` of a prefix of which `len` octets are there. */
static void map_prefix(const struct rk_rewrite *rules, uint8_t *octets, uint32_t len, uint32_t bits)
{
    uint8_t mapped[16] = {0};
    len = least(len, 16);
    memcpy(mapped, octets, len);
    rk_map_address(rules, mapped, 16, RK_EITHER_END);
    bits = least(bits, len * 8);
    memcpy(octets, mapped, bits / 8);
    if (bits % 8) {
        uint8_t kept = (uint8_t)(0xff >> bits % 8);
        octets[bits / 8] = (uint8_t)((mapped[bits / 8] & ~kept) | (octets[bits / 8] & kept));
    }
    /* Whoever wrote an address there has it changed behind the prefix too. */
    if (rules->anonymous)
        for (uint32_t bit = bits; bit < len * 8; bit++)
            if (octets[bit / 8] >> (7 - bit % 8) & 1) {
                memcpy(octets, mapped, len);
                return;
            }
}

/* ---- ICMP ---------------------------------------------------------------------------------------- */

static void rewrite_quote(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    struct rk_changed quote = {.rules = packet->rules, .blank = packet->blank, .quoted = true};
    rk_rewrite_ip(&quote, octets, len);
}

/* Of the extensions of an ICMP error (RFC 4884) those that describe interfaces hold addresses. */
static void hide_extensions(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    if (len < 4) {
        blank_from(packet, octets, len, 0);
        return;
    }
    uint32_t before = rk_csum_add(0, octets, len), at = 4;
    while (at + 4 <= len) {
        uint32_t object_len = rk_load_be16(octets + at);
        if (object_len < 4 || object_len > len - at)
            break;
        if (octets[at + 2] != 1) /* label stack (RFC 4950) */
            blank_from(packet, octets, at + object_len, at + 4);
        at += object_len;
    }
    blank_from(packet, octets, len, at);
    if (rk_load_be16(octets + 2) != 0) /* none was computed */
        rk_update_at(octets + 2, (uint16_t)~before + rk_csum_add(0, octets, len));
}

/* An error's quote is as long as it says, in words of 4 or 8 octets, or goes to the end. */
static void rewrite_error(struct rk_changed *packet, uint8_t *octets, uint32_t len, uint32_t quote_len)
{
    uint32_t end = quote_len > 0 && 8 + quote_len < len ? 8 + quote_len : len;
    rewrite_quote(packet, octets + 8, end - 8);
    if (packet->rules->anonymous)
        hide_extensions(packet, octets + end, len - end);
}

/* Addresses in an ICMP message, and the packet that an error quotes. */
static void rewrite_icmp4(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    uint32_t known = 8;
    switch (octets[0]) {
    case 3: case 11: case 12:
        rewrite_error(packet, octets, len, octets[5] * 4u);
        return;
    case 5: /* redirect (RFC 792) */
        rk_map_address(rules, octets + 4, 4, RK_REWRITE_DST);
        /* fall through */
    case 4:
        rewrite_quote(packet, octets + 8, len - 8);
        return;
    case 9: /* router advertisement (RFC 1256) */
        for (uint32_t i = 0; octets[5] > 0 && i < octets[4] && known + octets[5] * 4u <= len; i++) {
            rk_map_address(rules, octets + known, 4, RK_EITHER_END);
            blank_from(packet, octets, known + octets[5] * 4u, known + 8);
            known += octets[5] * 4u;
        }
        break;
    case 13: case 14:
        known = 20;
        break;
    case 17: case 18:
        known = 12;
        break;
    case 0: case 8:
        payload_from(packet, octets, len, known);
        return;
    default:
        break;
    }
    blank_from(packet, octets, len, known);
}

static void rewrite_nd_options(struct rk_changed *packet, uint8_t *octets, uint32_t len, uint32_t at)
{
    const struct rk_rewrite *rules = packet->rules;
    while (at + 2 <= len) {
        uint8_t *option = octets + at;
        uint32_t option_len = option[1] * 8u;
        if (option_len == 0 || option_len > len - at)
            break;
        switch (option[0]) {
        case 1: case 2: /* link-layer addresses (RFC 4861 section 4.6.1) */
            map_mac(rules, option + 2);
            blank_from(packet, option, option_len, 8);
            break;
        case 3: /* prefix information */
            if (option_len == 32)
                map_prefix(rules, option + 16, 16, option[2]);
            else
                blank_from(packet, option, option_len, 2);
            break;
        case 4: /* redirected header */
            if (option_len > 8)
                rewrite_quote(packet, option + 8, option_len - 8);
            break;
        case 24: /* route information (RFC 4191 section 2.3) */
            map_prefix(rules, option + 8, option_len - 8, option[2]);
            blank_from(packet, option, option_len, 24);
            break;
        case 25: /* recursive DNS servers (RFC 8106 section 5.1) */
            for (uint32_t i = 8; i + 16 <= option_len; i += 16)
                rk_map_address(rules, option + i, 16, RK_EITHER_END);
            blank_from(packet, option, option_len, 8 + (option_len - 8) / 16 * 16);
            break;
        case 5: case 7: case 14: /* MTU, intervals, nonces */
            break;
        default:
            blank_from(packet, option, option_len, 2);
        }
        at += option_len;
    }
    blank_from(packet, octets, len, at);
}

/* Groups of MLD (RFC 2710, RFC 3810), and who is asked for. */
static uint32_t map_listeners(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    uint32_t at = 8, n = octets[0] == 143 ? rk_load_be16(octets + 6) : 1;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t sources = 0, aux = 0;
        if (octets[0] == 143) {
            if (at + 20 > len)
                return at;
            aux = octets[at + 1] * 4u;
            sources = rk_load_be16(octets + at + 2);
            at += 4;
        } else if (at + 16 > len) {
            return at;
        }
        rk_map_address(rules, octets + at, 16, RK_REWRITE_DST);
        at += 16;
        if (octets[0] == 130 && at + 4 <= len) {
            sources = rk_load_be16(octets + at + 2);
            at += 4;
        }
        for (; sources > 0 && at + 16 <= len; sources--, at += 16)
            rk_map_address(rules, octets + at, 16, RK_REWRITE_SRC);
        if (sources > 0 || aux > len - at)
            return at;
        if (aux > 0)
            blank_from(packet, octets, at + aux, at);
        at += aux;
    }
    return at;
}

static void rewrite_icmp6(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    uint8_t type = octets[0];
    uint32_t options = 8;
    switch (type) {
    case 1: case 2: case 3: case 4:
        rewrite_error(packet, octets, len, type == 1 || type == 3 ? octets[4] * 8u : 0);
        return;
    case 130: case 131: case 132: case 143:
        blank_from(packet, octets, len, map_listeners(packet, octets, len));
        return;
    case 133:
        break;
    case 134:
        options = 16;
        break;
    case 135: case 136: case 137: /* solicitation, advertisement, redirect (RFC 4861 sections 4.3 to 4.5) */
        for (options = 8; options < (type == 137 ? 40 : 24); options += 16) {
            if (options + 16 > len) {
                blank_from(packet, octets, len, options);
                return;
            }
            rk_map_address(packet->rules, octets + options, 16, RK_REWRITE_DST);
        }
        break;
    case 128: case 129:
        payload_from(packet, octets, len, 8);
        return;
    default:
        blank_from(packet, octets, len, 8);
        return;
    }
    if (options > len)
        return;
    rewrite_nd_options(packet, octets, len, options);
}

/* Groups and sources of IGMP (RFC 2236, RFC 3376). */
static void rewrite_igmp(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    uint32_t at = 8;
    if (octets[0] == 0x11 || octets[0] == 0x12 || octets[0] == 0x16 || octets[0] == 0x17) {
        rk_map_address(rules, octets + 4, 4, RK_REWRITE_DST);
        if (octets[0] == 0x11 && len >= 12) {
            uint32_t n = rk_load_be16(octets + 10);
            for (at = 12; n > 0 && at + 4 <= len; n--, at += 4)
                rk_map_address(rules, octets + at, 4, RK_REWRITE_SRC);
        }
    } else if (octets[0] == 0x22) {
        for (uint32_t n = rk_load_be16(octets + 6); n > 0 && at + 8 <= len; n--) {
            uint32_t aux = octets[at + 1] * 4u, sources = rk_load_be16(octets + at + 2);
            rk_map_address(rules, octets + at + 4, 4, RK_REWRITE_DST);
            for (at += 8; sources > 0 && at + 4 <= len; sources--, at += 4)
                rk_map_address(rules, octets + at, 4, RK_REWRITE_SRC);
            if (sources > 0 || aux > len - at)
                break;
            if (aux > 0)
                blank_from(packet, octets, at + aux, at);
            at += aux;
        }
    } else {
        at = 4;
    }
    blank_from(packet, octets, len, at);
}

static void rewrite_messages(struct rk_changed *packet, uint8_t protocol, uint8_t *octets, uint32_t len)
{
    if (packet->quoted || len < 8) { /* of a request for an echo number and sequence stay, which say whose it is */
        bool echo = protocol == ICMP ? octets[0] == 8 || octets[0] == 0 : octets[0] == 128 || octets[0] == 129;
        blank_from(packet, octets, len, echo && len >= 8 ? 8 : 4);
        return;
    }
    if (protocol == ICMP)
        rewrite_icmp4(packet, octets, len);
    else if (protocol == ICMP6)
        rewrite_icmp6(packet, octets, len);
    else
        rewrite_igmp(packet, octets, len);
}

/* ---- what else may not stay when nobody is to be known -------------------------------------------- */

/* Options whose values say nothing about who and where stay, and MPTCP's addresses are mapped. */
static void hide_tcp_options(struct rk_changed *packet, uint8_t *options, uint32_t len)
{
    static const uint8_t harmless[] = {2, 3, 4, 5, 8, 14, 15, 18, 19, 27, 28, 29, 34};
    uint32_t at = 0;
    while (at < len && options[at] != 0) {
        if (options[at] == 1) {
            at++;
            continue;
        }
        if (at + 2 > len || options[at + 1] < 2 || options[at + 1] > len - at)
            break;
        uint8_t *option = options + at;
        uint32_t option_len = option[1];
        bool stays = false;
        for (size_t i = 0; i < sizeof harmless; i++)
            stays = stays || harmless[i] == option[0];
        if (option[0] == 30 && option_len >= 3) { /* ADD_ADDR (RFC 8684 section 3.4.1) */
            uint8_t subtype = option[2] >> 4;
            if (subtype == 3 && option_len >= 20)
                rk_map_address(packet->rules, option + 4, 16, RK_EITHER_END);
            else if (subtype == 3 && option_len >= 8)
                rk_map_address(packet->rules, option + 4, 4, RK_EITHER_END);
            stays = true;
        }
        if (!stays)
            blank_from(packet, option, option_len, 2);
        at += option_len;
    }
    if (at < len)
        memset(options + at, 0, len - at);
}

/* Chunks of SCTP (RFC 9260 section 3.3): what describes the transport stays, addresses are mapped. */
static void hide_chunks(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    uint32_t at = 0;
    while (at + 4 <= len) {
        uint8_t type = octets[at];
        uint32_t chunk_len = rk_load_be16(octets + at + 2), end = at + chunk_len;
        if (chunk_len < 4)
            break;
        bool whole = chunk_len <= len - at;
        if (!whole)
            end = len;
        if (type == 0) { /* DATA */
            payload_from(packet, octets, end, at + 16);
        } else if (type == 1 || type == 2) { /* INIT and its answer: addresses among the parameters */
            uint32_t parameter = at + 20;
            while (parameter + 4 <= end) {
                uint32_t kind = rk_load_be16(octets + parameter), size = rk_load_be16(octets + parameter + 2);
                if (size < 4 || size > end - parameter)
                    break;
                if ((kind == 5 && size == 8) || (kind == 6 && size == 20))
                    rk_map_address(packet->rules, octets + parameter + 4, size - 4, RK_EITHER_END);
                else
                    blank_from(packet, octets, parameter + size, parameter + 4);
                parameter += size + (-size & 3);
            }
            blank_from(packet, octets, end, parameter);
        } else if (type == 4 || type == 5) { /* HEARTBEAT: a parameter of the sender's own */
            blank_from(packet, octets, end, at + 8);
        } else if (type != 3 && type != 7 && type != 192) { /* SACK, SHUTDOWN, FORWARD-TSN */
            blank_from(packet, octets, end, at + 4);
        }
        if (!whole)
            return;
        at = end + (-end & 3);
    }
    blank_from(packet, octets, len, at);
}

/* A packet in another one. */
static void hide_inner(struct rk_changed *packet, uint8_t *octets, uint32_t len,
                       void rewrite(struct rk_changed *packet, uint8_t *octets, uint32_t len))
{
    struct rk_changed inner = {.rules = packet->rules, .blank = packet->blank, .quoted = packet->quoted,
                               .depth = packet->depth + 1};
    if (inner.depth > DEPTH_MAX)
        rk_blank_out(packet, octets, len);
    else
        rewrite(&inner, octets, len);
}

/* RFC 2784 and RFC 2890: the checksum, when there is one, covers all that follows. */
static void hide_gre(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    uint32_t header_len = 4;
    for (int bit = 7; len >= 4 && bit >= 4; bit--)
        if (bit != 6 && octets[0] >> bit & 1)
            header_len += 4;
    if (len < header_len || octets[1] & 7) {
        blank_from(packet, octets, len, 4);
        return;
    }
    uint16_t carries = rk_load_be16(octets + 2);
    uint32_t before = rk_csum_add(0, octets, len);
    if (carries == 0x0800 || carries == 0x86dd)
        hide_inner(packet, octets + header_len, len - header_len, rk_rewrite_ip);
    else
        blank_from(packet, octets, len, header_len);
    if (octets[0] & 0x80)
        rk_update_at(octets + 4, (uint16_t)~before + rk_csum_add(0, octets, len));
}

/* Leave no address and, unless it is to be kept, no payload; the checksum at `sum_at`, if any, is updated later. */
static void hide_upper(struct rk_changed *packet, uint8_t protocol, uint8_t *octets, uint32_t len, uint32_t sum_at)
{
    uint32_t header_len;
    switch (protocol) {
    case TCP:
        header_len = len >= 20 ? (octets[12] >> 4) * 4u : 20;
        if (header_len < 20)
            header_len = 20;
        if (len > 20)
            hide_tcp_options(packet, octets + 20, least(header_len, len) - 20);
        payload_from(packet, octets, len, header_len);
        break;
    case UDP:
        if (len > 16 && rk_load_be16(octets + 2) == VXLAN_PORT) /* RFC 7348 section 5 */
            hide_inner(packet, octets + 16, len - 16, rk_rewrite_ethernet);
        else
            payload_from(packet, octets, len, 8);
        break;
    case UDP_LITE:
        payload_from(packet, octets, len, 8);
        break;
    case DCCP:
        payload_from(packet, octets, len, len >= 12 && octets[4] >= 3 ? octets[4] * 4u : 12);
        break;
    case ESP:
        payload_from(packet, octets, len, 8);
        break;
    case ICMP: case ICMP6: case IGMP:
        if (sum_at > 0) {
            rewrite_messages(packet, protocol, octets, len);
            break;
        }
        rk_blank_out(packet, octets, len);
        break;
    case IP_IN_IP: case IP6_IN_IP:
        hide_inner(packet, octets, len, rk_rewrite_ip);
        break;
    case GRE:
        hide_gre(packet, octets, len);
        break;
    default:
        if (sum_at > 0) {
            rk_blank_out(packet, octets, least(len, sum_at));
            blank_from(packet, octets, len, sum_at + 2);
        } else {
            rk_blank_out(packet, octets, len);
        }
    }
}

/* The sum of what is in a fragment behind the first is part of a checksum in another: a word of it stays. */
static void hide_fragment(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    if (packet->rules->flags & RK_REWRITE_KEEP_PAYLOAD || len < 2)
        return;
    uint32_t sum = rk_csum_add(0, octets, len);
    if (sum == 0)
        return;
    rk_blank_out(packet, octets, len);
    uint8_t *word = octets + (len & ~1u) - 2;
    rk_store_be16(word, (uint16_t)sum);
    packet->blank->from = packet->blank->to; /* not all zero */
}

/* ---- all of it ----------------------------------------------------------------------------------- */

/* The CRC is linear: what the change of the octets makes of a good one is done to a bad one as well.  Of a fragment
 * it cannot be known, so there the ports stay. */
static void rewrite_sctp(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    bool renew = packet->not_ready || rules->flags & RK_REWRITE_CHECKSUMS;
    if (!packet->whole || len < 12) {
        if (packet->quoted && rules->ports && len >= 4)
            map_ports(rules, octets); /* nobody verifies the checksum of a quote */
        if (rules->anonymous && len > 12)
            hide_chunks(packet, octets + 12, len - 12);
        return;
    }
    if (!rules->ports && !rules->anonymous && !renew)
        return;
    uint32_t stored = rk_load_le32(octets + 8);
    memset(octets + 8, 0, 4);
    uint32_t before = rk_crc32c(0, octets, len);
    if (rules->ports)
        map_ports(rules, octets);
    if (rules->anonymous)
        hide_chunks(packet, octets + 12, len - 12);
    uint32_t after = rk_crc32c(0, octets, len);
    rk_store_le32(octets + 8, renew ? after : stored ^ before ^ after);
    packet->finished = packet->not_ready;
}

static uint16_t upper_checksum(const struct rk_changed *packet, const struct place *place, const uint8_t *octets,
                               uint32_t len)
{
    uint32_t sum = 0;
    if (place->pseudo)
        sum = rk_csum_pseudo(packet->src, packet->dst, packet->addr_len, place->protocol, len);
    return (uint16_t)~rk_csum_add(sum, octets, len);
}

/* Whether a transport checksum is what a host leaves for its network card to finish, going by the octets: the sum
 * of the pseudo-header, from before its addresses were changed.  A good one may have that value by chance, which does
 * no harm where it can be computed; fragments were never left to a card. */
static bool looks_unfinished(const struct rk_changed *packet, uint8_t protocol, uint16_t stored)
{
    if ((protocol != TCP && protocol != UDP) || stored == 0 || !packet->whole || !packet->dst)
        return false;
    uint32_t sum = rk_csum_pseudo(packet->src, packet->dst, packet->addr_len, protocol, packet->upper_len);
    return (stored + packet->pseudo) % 0xffff == sum % 0xffff;
}

void rk_rewrite_upper(struct rk_changed *packet, uint8_t protocol, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    if (!packet->first) {
        if (rules->anonymous)
            hide_fragment(packet, octets, len);
        return;
    }
    if (len == 0)
        return;
    if (protocol == SCTP) {
        rewrite_sctp(packet, octets, len);
        return;
    }
    const struct place *place = place_of(protocol, packet->addr_len == 4 ? V4 : V6);
    if (!place) {
        if (rules->anonymous)
            hide_upper(packet, protocol, octets, len, 0);
        return;
    }
    bool changed = place->pseudo && packet->pseudo_changed;
    uint32_t change = changed ? packet->pseudo : 0;
    bool messages = protocol == ICMP || protocol == ICMP6 || protocol == IGMP;
    if (place->ports && rules->ports && len >= 4) {
        uint8_t before[4];
        memcpy(before, octets, 4);
        map_ports(rules, octets);
        if (memcmp(before, octets, 4) != 0) {
            change = rk_add_change(change, before, octets, 4);
            changed = true;
        }
    } else if (rules->anonymous || (messages && (rules->prefixes_n > 0 || rules->ports))) {
        uint32_t covered = covered_len(protocol, octets, len);
        uint32_t before = rk_csum_add(0, octets, covered);
        if (rules->anonymous)
            hide_upper(packet, protocol, octets, len, place->at);
        else
            rewrite_messages(packet, protocol, octets, len);
        uint32_t after = rk_csum_add(0, octets, covered);
        if (before != after) {
            change = (uint16_t)~before + after + change;
            changed = true;
        }
    }
    if (len < place->at + 2u)
        return;
    uint8_t *at = octets + place->at;
    bool may_be_zero = protocol != UDP && protocol != UDP_LITE;
    uint16_t stored = rk_load_be16(at);
    packet->not_ready = packet->not_ready || looks_unfinished(packet, protocol, stored);
    bool none = protocol == UDP && stored == 0 && !packet->not_ready; /* RFC 768: none was computed */
    bool renew = packet->not_ready || rules->flags & RK_REWRITE_CHECKSUMS;
    if (renew && place->all && packet->whole && packet->dst && !(none && packet->addr_len == 4)) {
        rk_store_be16(at, 0);
        rk_store_be16(at, upper_checksum(packet, place, octets, len));
        packet->finished = packet->not_ready;
    } else if (!changed || none) {
        return;
    } else if (packet->not_ready) { /* what stands there is the pseudo-header's sum, not complemented */
        rk_update_at(at, (uint16_t)~packet->pseudo);
        return;
    } else {
        if (!may_be_zero && stored == 0xffff) /* stands for 0 */
            rk_store_be16(at, 0);
        rk_update_at(at, change);
    }
    if (!may_be_zero && rk_load_be16(at) == 0)
        rk_store_be16(at, 0xffff);
}
