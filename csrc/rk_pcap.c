/* Records of capture files and batches: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).
 *
 * Reading leaves the octets where they are: the arena of a batch holds a piece of the file, and its rows point
 * into it. Only packets are looked at here; what other blocks say, and what is wrong with a record, is for the
 * caller to find out. Every number from the file is checked before it is used, and added in 64 bits. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_pcap.h"

#include <errno.h>
#include <stdio.h>

/* How the note on a merged frame begins. */
#define NOT_CUT "not cut yet (GSO): "
#define MERGED "merged (GRO), or never cut (GSO): "

#define LINKTYPE_ETHERNET 1
#define LINKTYPE_RAW 101
#define LINKTYPE_SLL2 276

/* ---- reading ----------------------------------------------------------------------------------- */

/* Whether another file begins here: two joined into one look like an empty packet. */
static bool pcap_header(const uint8_t *octets)
{
    static const uint32_t magics[] = {0xa1b2c3d4, 0xa1b23c4d, 0xa1b2cd34};
    for (int order = 0; order < 2; order++)
        for (int i = 0; i < 3; i++)
            if (load32(octets, order) == magics[i] && load16(octets + 4, order) == 2 && load16(octets + 6, order) == 4)
                return true;
    return false;
}

int rk_pcap_read(const struct rk_pcap_file *file, struct rk_batch *batch, uint32_t *at)
{
    batch->n = 0;
    if (batch->arena_used > batch->arena_len || *at > batch->arena_used || file->record_len < PCAP_RECORD_LEN)
        return -EINVAL;
    bool big = file->big_endian != 0;
    while (batch->n < batch->capacity) {
        uint32_t room = batch->arena_used - *at;
        const uint8_t *record = batch->arena + *at;
        if (room < file->record_len)
            return RK_PCAP_MORE;
        uint32_t cap_len = load32(record + 8, big);
        if (cap_len > RK_PCAP_PACKET_LEN || (cap_len == 0 && pcap_header(record)))
            return RK_PCAP_DAMAGED;
        if (cap_len > room - file->record_len)
            return RK_PCAP_MORE;
        /* 32 bits of each fit: the year 2106, and an hour of microseconds more. */
        int64_t time_ns = (int64_t)load32(record, big) * SECOND_NS + (int64_t)load32(record + 4, big) * file->tick_ns;
        batch->frames[batch->n++] = (struct rk_frame){
            .time_ns = time_ns,
            .offset = *at + file->record_len,
            .cap_len = cap_len,
            .wire_len = load32(record + 12, big),
            .flags = RK_FRAME_NO_DIRECTION,
            .ifindex = 1,
        };
        *at += file->record_len + cap_len;
    }
    return RK_PCAP_FULL;
}

/* ticks of an interface's clock in nanoseconds since 1970, rounded down, held within 64 signed bits. */
static int64_t since_1970(const struct rk_pcap_interface *interface, uint64_t ticks)
{
    static const uint32_t tick_ns[] = {1000000000, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    unsigned exponent = interface->tsresol & 0x7f;
    __int128 ns;
    if (interface->tsresol & 0x80) {
        ns = (__int128)ticks * SECOND_NS >> exponent;
    } else if (exponent <= 9) {
        ns = (__int128)ticks * tick_ns[exponent];
    } else {
        for (; exponent > 9 && ticks > 0; exponent--)
            ticks /= 10;
        ns = ticks;
    }
    ns += (__int128)interface->offset_s * SECOND_NS;
    return ns > INT64_MAX ? INT64_MAX : ns < INT64_MIN ? INT64_MIN : (int64_t)ns;
}

static bool take_text(const uint8_t **text, const uint8_t *end, const char *wanted)
{
    size_t len = strlen(wanted);
    if ((size_t)(end - *text) < len || memcmp(*text, wanted, len) != 0)
        return false;
    *text += len;
    return true;
}

static uint32_t take_number(const uint8_t **text, const uint8_t *end)
{
    uint32_t number = 0;
    for (; *text < end && **text >= '0' && **text <= '9' && number <= UINT16_MAX; (*text)++)
        number = number * 10 + (uint32_t)(**text - '0');
    return number;
}

uint16_t rk_pcap_noted(const uint8_t *text, uint32_t len)
{
    const uint8_t *end = text + len;
    if (!take_text(&text, end, NOT_CUT) && !take_text(&text, end, MERGED))
        return 0;
    if (take_number(&text, end) > 0 && !take_text(&text, end, " "))
        return 0;
    if (!take_text(&text, end, "segments of "))
        return 0;
    uint32_t gso_len = take_number(&text, end);
    return gso_len <= UINT16_MAX && take_text(&text, end, " octets") ? (uint16_t)gso_len : 0;
}

/* Take the flags word and the length of segments from the options of a packet; RK_FRAME_OPTIONS when there is
 * more, or damage. */
static uint32_t read_options(const uint8_t *octets, uint32_t len, bool big, uint16_t *gso_len)
{
    uint32_t word = 0, flags = 0, at = 0;
    while (at + 4 <= len) {
        uint16_t code = load16(octets + at, big), option_len = load16(octets + at + 2, big);
        at += 4;
        if (code == OPTION_END) {
            at = len;
            break;
        }
        if (option_len > len - at) {
            flags |= RK_FRAME_OPTIONS;
            break;
        }
        if (code == OPTION_FLAGS && option_len == 4)
            word = load32(octets + at, big);
        else
            flags |= RK_FRAME_OPTIONS;
        if (code == OPTION_COMMENT && *gso_len == 0)
            *gso_len = rk_pcap_noted(octets + at, option_len);
        at += option_len + padding(option_len);
    }
    if (at < len)
        flags |= RK_FRAME_OPTIONS;
    uint32_t direction = word & FLAG_DIRECTIONS, csum = word & (FLAG_CSUM_NOT_READY | FLAG_CSUM_VALID);
    if (direction == FLAG_OUT)
        flags |= RK_FRAME_OUTGOING;
    else if (direction != FLAG_IN)
        flags |= RK_FRAME_NO_DIRECTION;
    if (csum == FLAG_CSUM_NOT_READY)
        flags |= RK_FRAME_CSUM_NOT_READY;
    else if (csum == FLAG_CSUM_VALID)
        flags |= RK_FRAME_CSUM_VALID;
    return flags;
}

/* A packet block of len octets as a row, but for offset and time: false when it is damaged. */
static bool read_packet(const struct rk_pcapng_section *section, const uint8_t *block, uint32_t type, uint32_t len,
                        uint32_t *number, struct rk_frame *frame)
{
    bool big = section->big_endian != 0;
    *frame = (struct rk_frame){.flags = RK_FRAME_NO_DIRECTION};
    if (type == SIMPLE_PACKET) {
        *number = 0;
        if (len < 16 || section->interfaces_n == 0)
            return false;
        uint32_t snaplen = section->interfaces[0].snaplen;
        frame->wire_len = load32(block + 8, big);
        frame->cap_len = snaplen && snaplen < frame->wire_len ? snaplen : frame->wire_len;
        frame->offset = 12;
        return frame->cap_len <= len - 16 && frame->cap_len <= RK_PCAP_PACKET_LEN;
    }
    if (len < 32)
        return false;
    *number = type == ENHANCED_PACKET ? load32(block + 8, big) : load16(block + 8, big);
    if (*number >= section->interfaces_n)
        return false;
    frame->cap_len = load32(block + 20, big);
    frame->wire_len = load32(block + 24, big);
    frame->offset = 28;
    /* Checked before it is rounded up, which would wrap the largest numbers to 0. */
    if (frame->cap_len > RK_PCAP_PACKET_LEN || frame->cap_len + padding(frame->cap_len) > len - 32)
        return false;
    uint64_t ticks = (uint64_t)load32(block + 12, big) << 32 | load32(block + 16, big);
    frame->time_ns = since_1970(&section->interfaces[*number], ticks);
    uint32_t options = 28 + frame->cap_len + padding(frame->cap_len);
    if (options < len - 4)
        frame->flags = read_options(block + options, len - 4 - options, big, &frame->gso_len);
    if (type == OBSOLETE_PACKET && load16(block + 10, big) != 0xffff) /* a drop count that is known */
        frame->flags |= RK_FRAME_OPTIONS;
    return true;
}

int rk_pcapng_read(const struct rk_pcapng_section *section, struct rk_batch *batch, uint32_t *at)
{
    batch->n = 0;
    if (batch->arena_used > batch->arena_len || *at > batch->arena_used)
        return -EINVAL;
    bool big = section->big_endian != 0;
    uint16_t linktype = 0;
    while (batch->n < batch->capacity) {
        uint32_t room = batch->arena_used - *at;
        const uint8_t *block = batch->arena + *at;
        if (room < BLOCK_LEN)
            return RK_PCAP_MORE;
        uint32_t type = load32(block, big), len = load32(block + 4, big);
        if (type != ENHANCED_PACKET && type != SIMPLE_PACKET && type != OBSOLETE_PACKET)
            return RK_PCAP_BLOCK;
        if (len < BLOCK_LEN || len % 4 != 0 || len > RK_PCAP_BLOCK_LEN)
            return RK_PCAP_DAMAGED;
        if (len > room)
            return RK_PCAP_MORE;
        struct rk_frame frame;
        uint32_t number;
        if (load32(block + len - 4, big) != len || !read_packet(section, block, type, len, &number, &frame))
            return RK_PCAP_DAMAGED;
        const struct rk_pcap_interface *interface = &section->interfaces[number];
        if (batch->n == 0)
            linktype = interface->linktype;
        else if (linktype != interface->linktype)
            return RK_PCAP_FULL;
        frame.offset += *at;
        frame.ifindex = interface->ifindex;
        batch->frames[batch->n++] = frame;
        *at += len;
    }
    return RK_PCAP_FULL;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* The interface of the next frame, most often that of the last one. */
static const struct rk_pcap_interface *interface_of(const struct rk_pcap_output *output, int32_t ifindex,
                                                    const struct rk_pcap_interface *last)
{
    if (last != NULL && last->ifindex == ifindex)
        return last;
    for (uint32_t i = 0; i < output->interfaces_n; i++)
        if (output->interfaces[i].ifindex == ifindex)
            return &output->interfaces[i];
    return NULL;
}

static uint32_t flags_word(const struct rk_frame *frame)
{
    uint32_t word = frame->gso_len ? FLAG_GSO : 0;
    if (frame->flags & RK_FRAME_OUTGOING)
        word |= FLAG_OUT;
    else if (frame->ifindex != 0 && !(frame->flags & RK_FRAME_NO_DIRECTION))
        word |= FLAG_IN;
    if (frame->flags & RK_FRAME_CSUM_NOT_READY)
        word |= FLAG_CSUM_NOT_READY;
    else if (frame->flags & RK_FRAME_CSUM_VALID)
        word |= FLAG_CSUM_VALID;
    return word;
}

/* Where the IP header begins in a frame; len where there is none. */
static uint32_t ip_at(const uint8_t *octets, uint32_t len, uint32_t linktype)
{
    if (linktype == LINKTYPE_RAW)
        return 0;
    if (linktype == LINKTYPE_SLL2)
        return RK_SLL2_LEN;
    uint32_t at = linktype == LINKTYPE_ETHERNET ? 12 : len;
    while (rk_range_ok(at, 4, len) && (rk_load_be16(octets + at) == 0x8100 || rk_load_be16(octets + at) == 0x88a8))
        at += 4;
    return rk_range_ok(at, 2, len) ? at + 2 : len;
}

/* How many octets of a frame the headers take, TCP's or UDP's included; 0 for anything else, and tunnels. */
static uint32_t headers_len(const uint8_t *octets, uint32_t len, uint32_t linktype)
{
    static const uint16_t tunnels[] = {4789, 4790, 6081, 8472, 2152}; /* VXLAN, VXLAN-GPE, Geneve, OTV, GTP-U */
    uint32_t at = ip_at(octets, len, linktype);
    if (!rk_range_ok(at, 40, len))
        return 0;
    uint8_t protocol;
    if (octets[at] >> 4 == 4) {
        protocol = octets[at + 9];
        at += 4u * (octets[at] & 15);
    } else if (octets[at] >> 4 == 6) {
        protocol = octets[at + 6];
        at += 40;
        /* hop-by-hop options, routing, destination options */
        while ((protocol == 0 || protocol == 43 || protocol == 60) && rk_range_ok(at, 8, len)) {
            protocol = octets[at];
            at += 8u + 8u * octets[at + 1];
        }
    } else {
        return 0;
    }
    if (protocol == 6)
        return rk_range_ok(at, 20, len) ? at + 4u * (octets[at + 12] >> 4) : 0;
    if (protocol != 17 || !rk_range_ok(at, 8, len))
        return 0;
    for (size_t i = 0; i < sizeof tunnels / sizeof *tunnels; i++)
        if (rk_load_be16(octets + at + 2) == tunnels[i])
            return 0;
    return at + 8;
}

uint32_t rk_pcap_note(const struct rk_frame *frame, const uint8_t *octets, uint32_t linktype,
                      char text[RK_PCAP_NOTE_LEN])
{
    if (frame->gso_len == 0)
        return 0;
    uint32_t headers = headers_len(octets, frame->cap_len, linktype);
    int len = snprintf(text, RK_PCAP_NOTE_LEN, "%s", frame->flags & RK_FRAME_OUTGOING ? NOT_CUT : MERGED);
    if (headers > 0 && frame->wire_len > headers)
        len += snprintf(text + len, RK_PCAP_NOTE_LEN - (size_t)len, "%u ",
                        (frame->wire_len - headers - 1) / frame->gso_len + 1);
    len += snprintf(text + len, RK_PCAP_NOTE_LEN - (size_t)len, "segments of %u octets%s", frame->gso_len,
                    frame->flags & RK_FRAME_CSUM_NOT_READY ? ", transport checksum not ready" : "");
    return (uint32_t)len;
}

static uint8_t *put_option(uint8_t *out, uint16_t code, const void *value, uint16_t len)
{
    rk_store_le16(out, code);
    rk_store_le16(out + 2, len);
    memcpy(out + 4, value, len);
    memset(out + 4 + len, 0, padding(len));
    return out + 4 + len + padding(len);
}

/* One record of cap_len octets; returns its length, 0 when room is too small for it. */
static uint32_t write_pcap(const struct rk_pcap_output *output, const struct rk_frame *frame, const uint8_t *octets,
                           uint32_t cap_len, uint8_t *out, uint32_t room)
{
    if (room < PCAP_RECORD_LEN || room - PCAP_RECORD_LEN < cap_len)
        return 0;
    uint32_t fraction = (uint32_t)(frame->time_ns % SECOND_NS);
    rk_store_le32(out, (uint32_t)(frame->time_ns / SECOND_NS));
    rk_store_le32(out + 4, output->tick_ns == 1 ? fraction : fraction / output->tick_ns);
    rk_store_le32(out + 8, cap_len);
    rk_store_le32(out + 12, frame->wire_len);
    memcpy(out + PCAP_RECORD_LEN, octets, cap_len);
    return PCAP_RECORD_LEN + cap_len;
}

static uint32_t write_pcapng(const struct rk_pcap_output *output, const struct rk_frame *frame, const uint8_t *octets,
                             uint32_t cap_len, uint32_t number, uint8_t *out, uint32_t room)
{
    char text[RK_PCAP_NOTE_LEN];
    uint32_t note_len = output->notes ? rk_pcap_note(frame, octets, output->linktype, text) : 0;
    uint32_t word = flags_word(frame);
    uint32_t options_len = (note_len ? 4 + note_len + padding(note_len) : 0) + (word ? 8 : 0);
    options_len += options_len ? 4 : 0;
    uint32_t len = 32 + cap_len + padding(cap_len) + options_len;
    if (room < len)
        return 0;
    uint8_t *end = out + 28 + cap_len + padding(cap_len);
    rk_store_le32(end - 4, 0); /* the padding; what of it is none is overwritten */
    uint64_t time_ns = (uint64_t)frame->time_ns;
    rk_store_le32(out, ENHANCED_PACKET);
    rk_store_le32(out + 4, len);
    rk_store_le32(out + 8, number);
    rk_store_le32(out + 12, (uint32_t)(time_ns >> 32));
    rk_store_le32(out + 16, (uint32_t)time_ns);
    rk_store_le32(out + 20, cap_len);
    rk_store_le32(out + 24, frame->wire_len);
    memcpy(out + 28, octets, cap_len);
    if (note_len)
        end = put_option(end, OPTION_COMMENT, text, (uint16_t)note_len);
    if (word) { /* nearly always: no call of functions for four octets */
        rk_store_le32(end, OPTION_FLAGS | 4u << 16);
        rk_store_le32(end + 4, word);
        end += 8;
    }
    if (options_len) {
        rk_store_le32(end, OPTION_END);
        end += 4;
    }
    rk_store_le32(end, len);
    return len;
}

int rk_pcap_write(const struct rk_pcap_output *output, const struct rk_batch *batch, uint32_t first, uint32_t n,
                  uint8_t *out, uint32_t out_len, uint32_t *used)
{
    bool pcapng = output->tick_ns == 0;
    if (!rk_range_ok(first, n, batch->n) || batch->n > batch->capacity || *used > out_len)
        return -EINVAL;
    int64_t time_end = pcapng ? INT64_MAX : (int64_t)UINT32_MAX * SECOND_NS + SECOND_NS - 1;
    const struct rk_pcap_interface *interface = NULL;
    uint32_t done = 0, at = *used;
    int stop = 0;
    for (; done < n; done++) {
        const struct rk_frame *frame = &batch->frames[first + done];
        if (!rk_range_ok(frame->offset, frame->cap_len, batch->arena_len)) {
            stop = -EINVAL;
            break;
        }
        if (frame->cap_len > RK_PCAP_PACKET_LEN || frame->time_ns < 0 || frame->time_ns > time_end) {
            stop = -ERANGE;
            break;
        }
        if (pcapng && (interface = interface_of(output, frame->ifindex, interface)) == NULL) {
            stop = -ENODEV;
            break;
        }
        uint32_t snaplen = pcapng ? interface->snaplen : output->snaplen;
        uint32_t cap_len = frame->cap_len < snaplen ? frame->cap_len : snaplen;
        const uint8_t *octets = batch->arena + frame->offset;
        uint32_t len = pcapng ? write_pcapng(output, frame, octets, cap_len, interface->number, out + at,
                                        out_len - at)
                              : write_pcap(output, frame, octets, cap_len, out + at, out_len - at);
        if (len == 0) {
            stop = -ENOSPC;
            break;
        }
        at += len;
    }
    *used = at;
    return done > 0 ? (int)done : stop;
}
