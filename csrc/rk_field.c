/* Templates: frames that differ in a few bit fields, written by copying a base frame, storing the fields and
 * repairing the checksums that cover them.
 *
 * The base has zero in every field that varies and in every checksum that is repaired. An Internet checksum
 * is then the sum of what stays, known beforehand, plus the fields' values in their place within 16-bit
 * words (RFC 1071 section 2: the sum may be taken in parts, and RFC 1624, which takes the difference to the
 * old words: here zero). Nothing is subtracted, so that a sum is 0 exactly where all of the data is. */
#include "rk.h"
#include "rk_internal.h"

#include <errno.h>

_Static_assert(sizeof(struct rk_template_field) == 56, "Python fills the rows with this layout");
_Static_assert(sizeof(struct rk_template_sum) == 32, "Python fills the rows with this layout");

enum writer { WRITE_8, WRITE_16, WRITE_32, WRITE_64, WRITE_BITS };

/* A field's place in octets, and where its source has come to. */
struct cursor {
    enum writer writer;
    uint32_t offset;   /* of the first octet */
    uint32_t octets_n; /* WRITE_BITS: octets touched, 9 at most */
    uint32_t shift;    /* WRITE_BITS: bits after the field in the last of them */
    uint64_t mask;
    uint64_t index; /* number of the frame, modulo the field's count */
    struct rk_perm perm;
};

/* The upper half of a 64 by 64 bit product: x scaled to [0, count). */
static inline uint64_t scale(uint64_t x, uint64_t count)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)x * count >> 64);
}

static inline uint64_t next_value(const struct rk_template_field *field, struct cursor *cursor)
{
    uint64_t index = cursor->index++, value;
    if (cursor->index == field->count)
        cursor->index = 0;
    switch (field->kind) {
    case RK_FIELD_COUNTER:
        value = field->start + field->step * index;
        break;
    case RK_FIELD_VALUES:
        value = field->values[index];
        break;
    case RK_FIELD_RANDOM:
        value = rk_hash(field->seed, index);
        break;
    case RK_FIELD_RANDOM_BELOW:
        value = field->start + scale(rk_hash(field->seed, index), field->step);
        break;
    default:
        value = field->start + field->step * rk_perm_at(&cursor->perm, index);
    }
    return value & cursor->mask;
}

static inline void write_value(uint8_t *frame, const struct cursor *cursor, uint64_t value)
{
    uint8_t *at = frame + cursor->offset;
    switch (cursor->writer) {
    case WRITE_8:
        *at = (uint8_t)value;
        return;
    case WRITE_16:
        rk_store_be16(at, (uint16_t)value);
        return;
    case WRITE_32:
        rk_store_be32(at, (uint32_t)value);
        return;
    case WRITE_64:
        rk_store_be64(at, value);
        return;
    case WRITE_BITS:
        break;
    }
    /* The other bits of these octets may be a neighbour's. */
    uint32_t last = cursor->octets_n - 1;
    at[last] |= (uint8_t)(value << cursor->shift);
    value >>= 8 - cursor->shift;
    while (last-- > 0) {
        at[last] |= (uint8_t)value;
        value >>= 8;
    }
}

static inline uint16_t fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff); /* at most 33 bits */
    sum = (sum >> 16) + (sum & 0xffff);     /* at most 18 bits */
    sum = (sum >> 16) + (sum & 0xffff);     /* at most 17 bits */
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)sum;
}

/* The copies of up to 64 octets are two of a fixed size that overlap. */
static inline void copy(uint8_t *to, const uint8_t *from, uint32_t len)
{
    if (len >= 32 && len <= 64) {
        memcpy(to, from, 32);
        memcpy(to + len - 32, from + len - 32, 32);
    } else {
        memcpy(to, from, len);
    }
}

static bool field_ok(const struct rk_template *program, const struct rk_template_field *field)
{
    if (field->width < 1 || field->width > 64)
        return false;
    if (!rk_range_ok(field->at, field->width, (uint64_t)program->base_len * 8))
        return false;
    switch (field->kind) {
    case RK_FIELD_COUNTER:
    case RK_FIELD_RANDOM:
    case RK_FIELD_RANDOM_BELOW:
        return true;
    case RK_FIELD_VALUES:
        return field->values != NULL && field->count > 0;
    case RK_FIELD_PERMUTATION:
        return field->count > 0;
    default:
        return false;
    }
}

static bool sum_ok(const struct rk_template *program, uint32_t i)
{
    const struct rk_template_sum *sum = &program->sums[i];
    if (sum->kind == RK_SUM_CRC32C)
        return rk_range_ok(sum->at, 4, program->base_len) && sum->from <= sum->to &&
               sum->to <= program->base_len;
    if (sum->kind != RK_SUM_INET || !rk_range_ok(sum->at, 2, program->base_len) || sum->zero > 0xffff)
        return false;
    if (sum->terms_n > RK_TEMPLATE_TERMS || !rk_range_ok(sum->terms, sum->terms_n, program->terms_n))
        return false;
    for (uint32_t k = sum->terms; k < sum->terms + sum->terms_n; k++)
        if (program->terms[k].item >= program->fields_n + i || program->terms[k].shift > 15)
            return false;
    return true;
}

static struct cursor cursor_at(const struct rk_template_field *field, uint64_t first)
{
    uint32_t end = field->at + field->width;
    struct cursor cursor = {
        .writer = WRITE_BITS,
        .offset = field->at / 8,
        .octets_n = (end + 7) / 8 - field->at / 8,
        .shift = (8 - end % 8) % 8,
        .mask = UINT64_MAX >> (64 - field->width),
        .index = field->count ? first % field->count : first,
    };
    if (field->kind == RK_FIELD_PERMUTATION)
        rk_perm_init(&cursor.perm, field->count, field->seed);
    if (field->at % 8 == 0)
        cursor.writer = field->width == 8    ? WRITE_8
                        : field->width == 16 ? WRITE_16
                        : field->width == 32 ? WRITE_32
                        : field->width == 64 ? WRITE_64
                                             : WRITE_BITS;
    return cursor;
}

int rk_template_fill(const struct rk_template *program, struct rk_batch *batch, uint64_t first, uint32_t n)
{
    uint32_t len = program->base_len, fields_n = program->fields_n, sums_n = program->sums_n;
    if (len == 0 || len > RK_TEMPLATE_LEN || fields_n > RK_TEMPLATE_ITEMS ||
        sums_n > RK_TEMPLATE_ITEMS - fields_n)
        return -EINVAL;
    struct cursor cursors[RK_TEMPLATE_ITEMS];
    for (uint32_t i = 0; i < fields_n; i++) {
        if (!field_ok(program, &program->fields[i]))
            return -EINVAL;
        cursors[i] = cursor_at(&program->fields[i], first);
    }
    for (uint32_t i = 0; i < sums_n; i++)
        if (!sum_ok(program, i))
            return -EINVAL;

    if (n > batch->capacity)
        n = batch->capacity;
    if (n > batch->arena_len / len)
        n = batch->arena_len / len;
    uint64_t items[RK_TEMPLATE_ITEMS]; /* values of this frame's fields, then its checksums */
    uint8_t *frame = batch->arena;
    for (uint32_t row = 0; row < n; row++, frame += len) {
        copy(frame, program->base, len);
        for (uint32_t i = 0; i < fields_n; i++) {
            uint64_t value = next_value(&program->fields[i], &cursors[i]);
            write_value(frame, &cursors[i], value);
            /* As much modulo 0xffff, and of 33 bits: shifted and added it cannot overflow. */
            items[i] = (value >> 32) + (value & 0xffffffff);
        }
        for (uint32_t i = 0; i < sums_n; i++) {
            const struct rk_template_sum *sum = &program->sums[i];
            if (sum->kind == RK_SUM_CRC32C) {
                uint32_t crc = rk_crc32c(0, frame + sum->from, sum->to - sum->from);
                rk_store_le32(frame + sum->at, crc); /* least significant octet first (RFC 9260 appendix A) */
                items[fields_n + i] = rk_load_be32(frame + sum->at);
                continue;
            }
            uint64_t total = sum->start;
            const struct rk_template_term *terms = program->terms + sum->terms;
            for (uint32_t k = 0; k < sum->terms_n; k++)
                total += items[terms[k].item] << terms[k].shift;
            uint16_t checksum = (uint16_t)~fold(total);
            if (checksum == 0)
                checksum = (uint16_t)sum->zero;
            rk_store_be16(frame + sum->at, checksum);
            items[fields_n + i] = checksum;
        }
        batch->frames[row] = (struct rk_frame){.offset = row * len, .cap_len = len, .wire_len = len};
    }
    batch->n = n;
    batch->arena_used = n * len;
    return (int)n;
}
