/* rk_pcap_copy.c: records of one capture file for another, as they stand, or with other octets in their packets.
 *
 * What is not about the packet's octets is copied and not understood: times, options, padding. */
#include "rk_pcap.h"

#include <errno.h>

/* A record being copied, and what stands in place of its packet (as it was, or edited). */
struct copy {
    const struct rk_pcap_copy *rules;
    const uint8_t *record;
    uint32_t len;
    const struct rk_frame *frame;   /* as it was */
    const struct rk_frame *becomes;
    const uint8_t *octets;          /* of `becomes` */
};

/* How long the record at `at` is; 0 when it does not lie in the piece of the file, or does not have the frame in it. */
static uint32_t record_len(const struct rk_pcap_copy *rules, const struct rk_batch *batch, uint32_t at,
                           const struct rk_frame *frame)
{
    if (at > batch->arena_used || batch->arena_used > batch->arena_len)
        return 0;
    bool big = rules->big_endian != 0;
    uint32_t room = batch->arena_used - at, least = rules->record_len ? rules->record_len : BLOCK_LEN + 4;
    if (room < least)
        return 0;
    const uint8_t *record = batch->arena + at;
    uint32_t before = rules->record_len, after = 0;
    if (!before) {
        before = load32(record, big) == SIMPLE_PACKET ? 12 : 28;
        after = 4 + padding(frame->cap_len);
    }
    uint64_t len = rules->record_len ? (uint64_t)rules->record_len + load32(record + 8, big) : load32(record + 4, big);
    bool inside = frame->offset == at + before && (uint64_t)before + frame->cap_len + after <= len;
    return inside && len <= room ? (uint32_t)len : 0;
}

static uint32_t copy_pcap(const struct copy *copy, uint8_t *out, uint32_t room)
{
    uint32_t header_len = copy->rules->record_len, cap_len = copy->becomes->cap_len;
    if (room < header_len || room - header_len < cap_len)
        return 0;
    bool big = copy->rules->big_endian != 0;
    memcpy(out, copy->record, header_len);
    store32(out + 8, cap_len, big);
    store32(out + 12, copy->becomes->wire_len, big);
    memcpy(out + header_len, copy->octets, cap_len);
    return header_len + cap_len;
}

/* Copy the options that are wanted, and keep the flags word right; their length. With all of them that is the whole
 * rest of the block, whatever stands there. */
static uint32_t copy_options(const struct copy *copy, const uint8_t *options, uint32_t len, uint8_t *out)
{
    bool big = copy->rules->big_endian != 0, all = copy->rules->options == UINT64_MAX;
    bool finished = copy->frame->flags & RK_FRAME_CSUM_NOT_READY && !(copy->becomes->flags & RK_FRAME_CSUM_NOT_READY);
    uint32_t used = 0;
    if (all) {
        memcpy(out, options, len);
        if (!finished)
            return len;
    }
    for (uint32_t at = 0; at + 4 <= len;) {
        uint16_t code = load16(options + at, big), value_len = load16(options + at + 2, big);
        uint32_t whole_len = 4u + value_len + padding(value_len);
        if (code == OPTION_END || whole_len > len - at)
            break;
        uint8_t *to = NULL;
        if (all) {
            to = out + at;
        } else if (code < 64 && copy->rules->options >> code & 1) {
            to = out + used;
            memcpy(to, options + at, whole_len);
            used += whole_len;
        }
        if (to && finished && code == OPTION_FLAGS && value_len == 4)
            store32(to + 4, load32(to + 4, big) & ~FLAG_CSUM_NOT_READY, big);
        at += whole_len;
    }
    if (all)
        return len;
    if (used > 0) {
        memset(out + used, 0, 4); /* the end of options, whose room is that of what was left out, or of the old end */
        used += 4;
    }
    return used;
}

/* What the value of an option holds, as far as it is numbers: their width, and where the first begins. */
static bool numbers_in(uint16_t code, const uint8_t *value, uint32_t len, uint32_t *width, uint32_t *at)
{
    *width = *at = 0;
    switch (code) {
    case OPTION_COMMENT: case OPTION_HASH:
        return true;
    case OPTION_FLAGS: case OPTION_QUEUE: case OPTION_PROCESS:
        *width = 4;
        return len % 4 == 0;
    case OPTION_DROPCOUNT: case OPTION_PACKET_ID:
        *width = 8;
        return len % 8 == 0;
    case OPTION_VERDICT: /* one octet that says whose it is; those of eBPF are numbers */
        *at = 1;
        *width = len == 9 && (value[0] == 1 || value[0] == 2) ? 8 : 0;
        return len > 0;
    default:
        return false;
    }
}

/* Copy the options whose layout is known, and that are wanted, in the other byte order; their length. */
static uint32_t turn_options(const struct copy *copy, const uint8_t *options, uint32_t len, uint8_t *out)
{
    bool from = copy->rules->big_endian != 0;
    uint32_t used = 0;
    for (uint32_t at = 0; at + 4 <= len;) {
        uint16_t code = load16(options + at, from), value_len = load16(options + at + 2, from);
        uint32_t whole_len = 4u + value_len + padding(value_len), width, number;
        if (code == OPTION_END || whole_len > len - at)
            break;
        const uint8_t *value = options + at + 4;
        at += whole_len;
        if (!numbers_in(code, value, value_len, &width, &number) || !(copy->rules->options >> code & 1))
            continue;
        uint8_t *to = out + used + 4;
        store16(out + used, code, !from);
        store16(out + used + 2, value_len, !from);
        memcpy(to, value, whole_len - 4);
        for (; width && number < value_len; number += width)
            for (uint32_t i = 0; i < width; i++)
                to[number + i] = value[number + width - 1 - i];
        used += whole_len;
    }
    if (used > 0) {
        memset(out + used, 0, 4); /* the end of options */
        used += 4;
    }
    return used;
}

static uint32_t copy_pcapng(const struct copy *copy, uint8_t *out, uint32_t room)
{
    bool from = copy->rules->big_endian != 0, big = from != (copy->rules->turn != 0);
    const struct rk_frame *was = copy->frame, *is = copy->becomes;
    uint32_t kind = load32(copy->record, from), header_len = kind == SIMPLE_PACKET ? 12 : 28;
    /* A simple packet says no captured length, and no interface: what it cannot say an enhanced one does. */
    bool simple = kind == SIMPLE_PACKET && !copy->rules->interfaces &&
                  (is->cap_len == was->cap_len || (was->cap_len == was->wire_len && is->cap_len == is->wire_len));
    if (kind == SIMPLE_PACKET && !simple)
        kind = ENHANCED_PACKET;
    uint32_t new_header_len = simple ? 12 : 28;
    uint32_t options_at = header_len + was->cap_len + padding(was->cap_len);
    uint32_t options_len = copy->len - 4 - options_at;
    uint64_t most = (uint64_t)new_header_len + is->cap_len + 3 + options_len + 4 + 4;
    if (room < most)
        return 0;
    memset(out, 0, new_header_len);
    memcpy(out, copy->record, header_len < new_header_len ? 4 : header_len);
    store32(out, kind, big);
    if (simple) {
        store32(out + 8, is->wire_len, big);
    } else {
        uint32_t number = kind == OBSOLETE_PACKET ? load16(out + 8, from) : load32(out + 8, from);
        if (number < copy->rules->interfaces_n)
            number = copy->rules->interfaces[number];
        if (kind == OBSOLETE_PACKET) {
            store16(out + 8, (uint16_t)number, big);
            store16(out + 10, load16(out + 10, from), big); /* packets lost before this one */
        } else {
            store32(out + 8, number, big);
        }
        store32(out + 12, load32(out + 12, from), big);
        store32(out + 16, load32(out + 16, from), big);
        store32(out + 20, is->cap_len, big);
        store32(out + 24, is->wire_len, big);
    }
    uint8_t *end = out + new_header_len;
    memcpy(end, copy->octets, is->cap_len);
    end += is->cap_len;
    if (is->cap_len == was->cap_len && copy->rules->options == UINT64_MAX)
        memcpy(end, copy->record + header_len + was->cap_len, padding(was->cap_len));
    else
        memset(end, 0, padding(is->cap_len));
    end += padding(is->cap_len);
    if (header_len == 28) {
        end += (copy->rules->turn ? turn_options : copy_options)(copy, copy->record + options_at, options_len, end);
    } else if (simple && copy->rules->options == UINT64_MAX) { /* nothing should be here */
        memcpy(end, copy->record + options_at, options_len);
        end += options_len;
    }
    uint32_t len = (uint32_t)(end - out) + 4;
    store32(out + 4, len, big);
    store32(end, len, big);
    return len;
}

int rk_pcap_copy(const struct rk_pcap_copy *rules, const struct rk_batch *batch, uint32_t first, uint32_t n,
                 const uint8_t *keep, const struct rk_batch *edited, uint32_t edited_first, uint32_t *at, uint8_t *out,
                 uint32_t out_len, uint32_t *used, uint32_t *copied)
{
    if (!rk_range_ok(first, n, batch->n) || *used > out_len || (edited && !rk_range_ok(edited_first, n, edited->n)))
        return -EINVAL;
    uint32_t done = 0, put = *used;
    for (; done < n; done++) {
        const struct rk_frame *frame = &batch->frames[first + done];
        struct copy copy = {.rules = rules, .record = batch->arena + *at, .frame = frame, .becomes = frame};
        copy.len = record_len(rules, batch, *at, frame);
        if (copy.len == 0)
            return -EINVAL;
        if (keep && !keep[first + done]) {
            *at += copy.len;
            continue;
        }
        copy.octets = batch->arena + frame->offset;
        if (edited) {
            copy.becomes = &edited->frames[edited_first + done];
            if (!rk_range_ok(copy.becomes->offset, copy.becomes->cap_len, edited->arena_len))
                return -EINVAL;
            copy.octets = edited->arena + copy.becomes->offset;
        }
        uint32_t len = rules->record_len ? copy_pcap(&copy, out + put, out_len - put)
                                         : copy_pcapng(&copy, out + put, out_len - put);
        if (len == 0)
            break;
        put += len;
        *at += copy.len;
        ++*copied;
    }
    *used = put;
    return done > 0 || n == 0 ? (int)done : -ENOSPC;
}

int rk_pcap_records(const struct rk_pcap_copy *rules, struct rk_batch *batch, uint32_t at)
{
    bool big = rules->big_endian != 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        if (at > batch->arena_len || batch->arena_len - at < 12)
            return -EINVAL;
        const uint8_t *record = batch->arena + at;
        uint64_t len = rules->record_len ? (uint64_t)rules->record_len + load32(record + 8, big) : load32(record + 4, big);
        if (len < 12 || len > batch->arena_len - at)
            return -EINVAL;
        batch->frames[i].offset = at;
        batch->frames[i].cap_len = (uint32_t)len;
        at += (uint32_t)len;
    }
    batch->arena_used = at;
    return 0;
}
