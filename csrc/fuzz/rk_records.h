/* rk_records.h: what must hold for the packets that are found in any octets. */
#ifndef RK_RECORDS_H
#define RK_RECORDS_H

#include "rk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(holds)                                                                               \
    do {                                                                                             \
        if (!(holds))                                                                                \
            abort();                                                                                 \
    } while (0)

/* rk_pcap_read or rk_pcapng_read, with what the file says. */
struct records {
    int (*read)(const struct records *records, struct rk_batch *batch, uint32_t *at);
    const void *file;
    struct rk_pcap_copy copy; /* to a file of the same kind */
    uint32_t header_len;  /* least octets of a record before the packet */
    int32_t last_ifindex; /* of the interfaces, which count from 1 */
};

static inline struct rk_batch *batch_of(const uint8_t *octets, size_t len, uint32_t capacity)
{
    struct rk_batch *batch = malloc(sizeof *batch);
    *batch = (struct rk_batch){.arena = malloc(len ? len : 1),
                               .frames = malloc(capacity * sizeof(struct rk_frame)),
                               .arena_len = (uint32_t)len,
                               .arena_used = (uint32_t)len,
                               .capacity = capacity};
    if (len > 0)
        memcpy(batch->arena, octets, len);
    return batch;
}

static inline void drop(struct rk_batch *batch)
{
    free(batch->arena);
    free(batch->frames);
    free(batch);
}

/* Records of the frames, made by rk_pcap_write, hold what the frames hold. */
static inline void write_again(const struct rk_batch *batch)
{
    struct rk_pcap_interface interfaces[256];
    for (int i = 0; i < 256; i++)
        interfaces[i] = (struct rk_pcap_interface){
            .ifindex = i, .snaplen = RK_PCAP_PACKET_LEN, .tsresol = 9, .number = (uint32_t)i};
    struct rk_pcap_output output = {.interfaces = interfaces, .interfaces_n = 256};
    struct rk_pcapng_section section = {.interfaces = interfaces, .interfaces_n = 256};
    uint32_t len = batch->arena_used + 64 * batch->n + 64, used = 0, at = 0, done = 0;
    uint8_t *out = malloc(len);
    while (done < batch->n) {
        int n = rk_pcap_write(&output, batch, done, batch->n - done, out, len, &used);
        if (n == -ERANGE) { /* a time before 1970 */
            REQUIRE(batch->frames[done].time_ns < 0);
            n = 1;
            batch->frames[done].cap_len = UINT32_MAX; /* is not in the file */
        }
        REQUIRE(n > 0);
        done += (uint32_t)n;
    }
    struct rk_batch *back = batch_of(out, used, batch->n + 1);
    REQUIRE(rk_pcapng_read(&section, back, &at) == RK_PCAP_MORE && at == used);
    for (uint32_t i = 0, k = 0; i < batch->n; i++) {
        const struct rk_frame *a = &batch->frames[i], *b = &back->frames[k];
        if (a->cap_len == UINT32_MAX)
            continue;
        k++;
        REQUIRE(k <= back->n && a->time_ns == b->time_ns && a->cap_len == b->cap_len && a->wire_len == b->wire_len &&
                a->ifindex == b->ifindex && (a->flags & ~(uint32_t)RK_FRAME_OPTIONS) == b->flags &&
                memcmp(batch->arena + a->offset, back->arena + b->offset, a->cap_len) == 0);
    }
    drop(back);
    free(out);
}

/* Copies of the records are the same octets; with shorter packets they are records all the same. */
static inline void copy_again(const struct records *records, const struct rk_batch *batch, uint32_t end)
{
    uint32_t at = 0, used = 0, copied = 0, len = batch->arena_used + 32 * batch->n + 1;
    uint8_t *out = malloc(len);
    int done = 0;
    while ((uint32_t)done < batch->n) {
        int n = rk_pcap_copy(&records->copy, batch, (uint32_t)done, batch->n - (uint32_t)done, NULL, NULL, 0, &at, out,
                             len, &used, &copied);
        REQUIRE(n > 0);
        done += n;
    }
    REQUIRE(at == end && used == end && copied == batch->n && memcmp(out, batch->arena, end) == 0);
    struct rk_batch *edited = batch_of(batch->arena, batch->arena_used, batch->n + 1);
    for (uint32_t i = 0; i < batch->n; i++) {
        edited->frames[i] = batch->frames[i];
        edited->frames[i].cap_len -= edited->frames[i].cap_len / 2; /* not 0: that might look like a file header */
        edited->frames[i].flags &= ~(uint32_t)RK_FRAME_CSUM_NOT_READY;
    }
    edited->n = batch->n;
    at = used = copied = 0;
    struct rk_pcap_copy few = records->copy;
    few.options = 1 << 2;
    REQUIRE(rk_pcap_copy(&few, batch, 0, batch->n, NULL, edited, 0, &at, out, len, &used, &copied) == (int)batch->n);
    struct rk_batch *back = batch_of(out, used, batch->n + 1);
    uint32_t back_at = 0;
    REQUIRE(records->read(records, back, &back_at) == RK_PCAP_MORE && back_at == used && back->n == batch->n);
    for (uint32_t i = 0; i < batch->n; i++)
        REQUIRE(back->frames[i].cap_len == edited->frames[i].cap_len &&
                memcmp(back->arena + back->frames[i].offset, edited->arena + edited->frames[i].offset,
                       back->frames[i].cap_len) == 0);
    drop(back);
    drop(edited);
    free(out);
}

/* Read the octets whole, and again up to `split` with few rows at a time: the same packets both times. */
static inline void check_records(const struct records *records, const uint8_t *octets, size_t len, size_t split)
{
    struct rk_batch *whole = batch_of(octets, len, (uint32_t)len / records->header_len + 1);
    uint32_t at = 0, end = 0, n = 0;
    int stop = records->read(records, whole, &at);
    REQUIRE(stop == RK_PCAP_MORE || stop == RK_PCAP_FULL || stop == RK_PCAP_BLOCK || stop == RK_PCAP_DAMAGED);
    REQUIRE(at <= len && whole->n < whole->capacity);
    for (uint32_t i = 0; i < whole->n; i++) {
        const struct rk_frame *frame = &whole->frames[i];
        REQUIRE(frame->offset >= end + records->header_len && frame->cap_len <= at - frame->offset);
        REQUIRE(frame->cap_len <= RK_PCAP_PACKET_LEN);
        REQUIRE(frame->ifindex >= 1 && frame->ifindex <= records->last_ifindex);
        end = frame->offset + frame->cap_len;
    }

    split = len ? split % (len + 1) : 0;
    struct rk_batch *part = batch_of(octets, split, 2);
    uint32_t part_at = 0;
    do {
        int part_stop = records->read(records, part, &part_at);
        REQUIRE(part_at <= split);
        for (uint32_t i = 0; i < part->n && n < whole->n; i++, n++)
            REQUIRE(memcmp(&part->frames[i], &whole->frames[n], sizeof(struct rk_frame)) == 0);
        /* Another link type ends the whole. */
        if (part_stop != RK_PCAP_FULL || n == whole->n)
            break;
    } while (part->n > 0);
    drop(part);

    copy_again(records, whole, at);
    write_again(whole); /* last: it marks frames */
    drop(whole);
}

#endif
