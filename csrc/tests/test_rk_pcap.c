/* Capture files octet by octet: what is read from them, where reading stops, and what is written. */
#include "rk_test.h"

#define MS 1000000LL

static uint8_t *put32(uint8_t *at, uint32_t value, int big)
{
    for (int i = 0; i < 4; i++)
        at[big ? 3 - i : i] = (uint8_t)(value >> 8 * i);
    return at + 4;
}

static uint8_t *put16(uint8_t *at, uint32_t value, int big)
{
    at[big] = (uint8_t)value;
    at[!big] = (uint8_t)(value >> 8);
    return at + 2;
}

static uint8_t *record(uint8_t *at, int big, uint32_t seconds, uint32_t fraction, uint32_t cap_len, uint32_t wire_len)
{
    at = put32(put32(put32(put32(at, seconds, big), fraction, big), cap_len, big), wire_len, big);
    memset(at, 'x', cap_len < 100 ? cap_len : 0);
    return at + (cap_len < 100 ? cap_len : 0);
}

/* A block around len octets of body, which already stand behind its first eight. */
static uint8_t *block(uint8_t *at, int big, uint32_t type, uint32_t len)
{
    put32(put32(at, type, big), 12 + len, big);
    return put32(at + 8 + len, 12 + len, big);
}

static uint8_t *enhanced(uint8_t *at, int big, uint32_t interface, uint64_t ticks, uint32_t cap_len, uint32_t options_len)
{
    uint8_t *body = put32(at + 8, interface, big);
    body = put32(put32(body, (uint32_t)(ticks >> 32), big), (uint32_t)ticks, big);
    put32(put32(body, cap_len, big), cap_len + 2, big);
    return block(at, big, 6, 20 + ((cap_len + 3) & ~3u) + options_len);
}

static void read_pcap(int big)
{
    for (uint32_t record_len = 16; record_len <= 24; record_len += 8) {
        struct rk_batch *batch = new_batch(2, 24 + 3 * (24 + 5));
        struct rk_pcap_file file = {.big_endian = (uint32_t)big, .record_len = record_len, .tick_ns = 1000};
        uint32_t at = 24;
        uint8_t *end = batch->arena + at;
        for (uint32_t i = 0; i < 3; i++) {
            put32(put32(put32(put32(end, 0xffffffff, big), i, big), i, big), 1500, big);
            end += record_len + i;
        }
        batch->arena_used = (uint32_t)(end - batch->arena);
        EXPECT(rk_pcap_read(&file, batch, &at), RK_PCAP_FULL);
        EXPECT(batch->n, 2);
        EXPECT(batch->frames[0].time_ns, 0xffffffffLL * 1000 * MS);
        EXPECT(batch->frames[1].time_ns, 0xffffffffLL * 1000 * MS + 1000);
        EXPECT(batch->frames[1].offset, 24 + 2 * record_len);
        EXPECT(batch->frames[1].cap_len, 1);
        EXPECT(batch->frames[1].wire_len, 1500);
        EXPECT(batch->frames[1].flags, RK_FRAME_NO_DIRECTION);
        EXPECT(rk_pcap_read(&file, batch, &at), RK_PCAP_MORE);
        EXPECT(batch->n, 1);
        EXPECT(at, batch->arena_used);

        /* Cut anywhere, there are as many as are whole, and `at` stays before the one that is not. */
        for (uint32_t keep = 24; keep < batch->arena_used; keep++) {
            struct rk_batch cut = *batch;
            cut.arena_used = keep;
            at = 24;
            EXPECT(rk_pcap_read(&file, &cut, &at), keep >= 24 + 2 * record_len + 1 ? RK_PCAP_FULL : RK_PCAP_MORE);
            EXPECT(cut.n, keep >= 24 + 2 * record_len + 1 ? 2 : keep >= 24 + record_len);
        }
        at = batch->arena_used + 1;
        EXPECT(rk_pcap_read(&file, batch, &at), -EINVAL);
        drop_batch(batch);
    }
}

static void damaged_pcap(void)
{
    static const uint32_t lengths[] = {262145, 0x7fffffff, 0xfffffff0, 0xffffffff};
    struct rk_pcap_file file = {.record_len = 16, .tick_ns = 1};
    struct rk_batch *batch = new_batch(4, 100);
    for (int i = 0; i < 4; i++) {
        uint32_t at = 0;
        uint8_t *second = record(batch->arena, 0, 1, 2, 3, 3);
        batch->arena_used = (uint32_t)(record(second, 0, 1, 2, lengths[i], 3) - batch->arena);
        EXPECT(rk_pcap_read(&file, batch, &at), RK_PCAP_DAMAGED);
        EXPECT(batch->n, 1);
        EXPECT(at, second - batch->arena);
    }
    /* Another file's header. */
    for (int big = 0; big < 2; big++) {
        uint32_t at = 0;
        put16(put16(put32(batch->arena, 0xa1b23c4d, big), 2, big), 4, big);
        memset(batch->arena + 8, 0, 8);
        batch->arena_used = 24;
        EXPECT(rk_pcap_read(&file, batch, &at), RK_PCAP_DAMAGED);
        batch->arena[0] ^= 1;
        EXPECT(rk_pcap_read(&file, batch, &at), RK_PCAP_MORE);
        EXPECT(batch->n, 1);
    }
    file.record_len = 8;
    uint32_t at = 0;
    EXPECT(rk_pcap_read(&file, batch, &at), -EINVAL);
    drop_batch(batch);
}

static void read_pcapng(int big)
{
    static const struct rk_pcap_interface interfaces[] = {
        {.ifindex = 7, .linktype = 1, .tsresol = 9, .snaplen = 2},
        {.ifindex = 8, .linktype = 1, .tsresol = 6, .offset_s = -1},
        {.ifindex = 9, .linktype = 101, .tsresol = 0x80 | 10},
    };
    struct rk_pcapng_section section = {.interfaces = interfaces, .interfaces_n = 3, .big_endian = (uint32_t)big};
    struct rk_batch *batch = new_batch(10, 400);
    uint8_t *second = enhanced(batch->arena, big, 0, 0x100000002ull, 5, 0);
    /* flags word: outbound, checksum not ready; end of options */
    uint8_t *options = second + 28 + 4;
    put32(put32(put16(put16(options, 2, big), 4, big), 2 | 1 << 9, big), 0, big);
    uint8_t *third = enhanced(second, big, 1, 1000001, 4, 12);
    put32(third + 8, 60, big); /* a simple packet, cut by the snaplen */
    uint8_t *fourth = block(third, big, 3, 8);
    put32(put16(put16(fourth + 8, 1, big), 0xffff, big), 0, big); /* an obsolete packet */
    put32(put32(put32(fourth + 16, 5, big), 3, big), 3, big);
    uint8_t *fifth = block(fourth, big, 2, 24);
    uint8_t *sixth = enhanced(fifth, big, 2, 1024, 0, 0);
    batch->arena_used = (uint32_t)(block(sixth, big, 0x777, 0) - batch->arena);

    uint32_t at = 0;
    EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_FULL); /* the fifth has another link type */
    EXPECT(at, fifth - batch->arena);
    EXPECT(batch->n, 4);
    const struct rk_frame *frames = batch->frames;
    EXPECT(frames[0].time_ns, 0x100000002ll);
    EXPECT(frames[0].offset, 28);
    EXPECT(frames[0].cap_len, 5);
    EXPECT(frames[0].wire_len, 7);
    EXPECT(frames[0].ifindex, 7);
    EXPECT(frames[0].flags, RK_FRAME_NO_DIRECTION);
    EXPECT(frames[1].time_ns, 1000);
    EXPECT(frames[1].ifindex, 8);
    EXPECT(frames[1].flags, RK_FRAME_OUTGOING | RK_FRAME_CSUM_NOT_READY);
    EXPECT(frames[2].time_ns, 0);
    EXPECT(frames[2].cap_len, 2);
    EXPECT(frames[2].wire_len, 60);
    EXPECT(frames[2].offset, third - batch->arena + 12);
    EXPECT(frames[3].time_ns, 5000 - 1000 * MS);
    EXPECT(frames[3].cap_len, 3);
    EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_BLOCK);
    EXPECT(batch->n, 1);
    EXPECT(frames[0].time_ns, 1000 * MS);
    EXPECT(frames[0].ifindex, 9);
    EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_BLOCK);
    EXPECT(batch->n, 0);

    /* Cut anywhere. */
    batch->arena_used = (uint32_t)(fifth - batch->arena);
    for (uint32_t keep = 0; keep < batch->arena_used; keep++) {
        struct rk_batch cut = *batch;
        cut.arena_used = keep;
        at = 0;
        EXPECT(rk_pcapng_read(&section, &cut, &at), RK_PCAP_MORE);
        EXPECT(cut.n, (keep >= second - cut.arena) + (keep >= third - cut.arena) + (keep >= fourth - cut.arena));
    }
    /* An option besides the flags, damage among the options, a drop count. */
    batch->arena_used = (uint32_t)(third - batch->arena);
    put16(options, 1, big);
    at = 0;
    EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_MORE);
    EXPECT(frames[1].flags, RK_FRAME_OPTIONS | RK_FRAME_NO_DIRECTION);
    put16(put16(options, 2, big), 400, big);
    at = 0;
    EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_MORE);
    EXPECT(frames[1].flags, RK_FRAME_OPTIONS | RK_FRAME_NO_DIRECTION);
    drop_batch(batch);
}

static void damaged_pcapng(void)
{
    static const struct rk_pcap_interface interface = {.ifindex = 1, .linktype = 1};
    static const struct {
        uint32_t at, value;
    } damages[] = {
        {4, 0}, {4, 8}, {4, 41}, {4, 0xfffffffc}, {4, RK_PCAP_BLOCK_LEN + 4}, {36, 44}, {8, 1},
        {20, 9}, {20, 262145}, {20, 0xfffffffc}, {20, 0xfffffffd}, {20, 0xffffffff},
    };
    struct rk_pcapng_section section = {.interfaces = &interface, .interfaces_n = 1};
    struct rk_batch *batch = new_batch(4, 200);
    for (unsigned i = 0; i < sizeof damages / sizeof *damages; i++) {
        uint8_t *second = enhanced(batch->arena, 0, 0, 1, 4, 0);
        batch->arena_used = (uint32_t)(enhanced(second, 0, 0, 1, 6, 0) - batch->arena);
        put32(second + damages[i].at, damages[i].value, 0);
        uint32_t at = 0;
        EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_DAMAGED);
        EXPECT(batch->n, 1);
        EXPECT(at, second - batch->arena);
    }
    section.interfaces_n = 0;
    uint32_t at = 0;
    EXPECT(rk_pcapng_read(&section, batch, &at), RK_PCAP_DAMAGED);
    EXPECT(batch->n, 0);
    drop_batch(batch);
}

static void times(void)
{
    static const struct {
        uint8_t tsresol;
        int64_t offset_s;
        uint64_t ticks;
        int64_t time_ns;
    } cases[] = {
        {0, 0, 3, 3000000000}, {9, 0, INT64_MAX, INT64_MAX}, {9, 0, UINT64_MAX, INT64_MAX}, {10, 0, 39, 3},
        {20, 0, UINT64_MAX, 184467440}, {127, 0, UINT64_MAX, 0}, {0x80 | 127, 0, UINT64_MAX, 0},
        {0x80, 0, UINT64_MAX, INT64_MAX}, {6, INT64_MIN, 1, INT64_MIN}, {6, INT64_MAX, 1, INT64_MAX},
        {6, -10, 1000002, -8999998000},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rk_pcap_interface interface = {.tsresol = cases[i].tsresol, .offset_s = cases[i].offset_s};
        struct rk_pcapng_section section = {.interfaces = &interface, .interfaces_n = 1};
        struct rk_batch *batch = new_batch(1, 100);
        batch->arena_used = (uint32_t)(enhanced(batch->arena, 0, 0, cases[i].ticks, 0, 0) - batch->arena);
        uint32_t at = 0;
        rk_pcapng_read(&section, batch, &at);
        EXPECT(batch->n, 1);
        EXPECT(batch->frames[0].time_ns, cases[i].time_ns);
        drop_batch(batch);
    }
}

static void write_both(void)
{
    static const struct rk_pcap_interface interfaces[] = {{.ifindex = 3, .snaplen = 4, .number = 6},
                                                          {.ifindex = 4, .snaplen = 262144, .number = 0}};
    struct rk_pcap_output pcap = {.tick_ns = 1000, .snaplen = 5};
    struct rk_pcap_output pcapng = {.interfaces = interfaces, .interfaces_n = 2, .notes = 1};
    struct rk_batch *batch = new_batch(3, 100);
    add(batch, "abcdefg", 7);
    add(batch, "h", 1);
    batch->frames[0].time_ns = 1500 * MS + 7001;
    batch->frames[0].ifindex = 3;
    batch->frames[0].wire_len = 1500;
    batch->frames[1].ifindex = 4;
    batch->frames[1].flags = RK_FRAME_OUTGOING | RK_FRAME_CSUM_NOT_READY;
    batch->frames[1].gso_len = 1448;

    uint8_t out[200];
    uint32_t used = 3;
    EXPECT(rk_pcap_write(&pcap, batch, 0, 2, out, sizeof out, &used), 2);
    EXPECT(used, 3 + 16 + 5 + 16 + 1);
    EXPECT(memcmp(out + 3, "\1\0\0\0\x27\xa1\7\0\5\0\0\0\xdc\5\0\0abcde", 21), 0);
    /* No room for the second; then for none. */
    used = 3;
    EXPECT(rk_pcap_write(&pcap, batch, 0, 2, out, 3 + 21 + 16, &used), 1);
    EXPECT(used, 3 + 21);
    EXPECT(rk_pcap_write(&pcap, batch, 0, 2, out, 3 + 21 + 20, &used), -ENOSPC);
    EXPECT(used, 3 + 21);

    used = 0;
    EXPECT(rk_pcap_write(&pcapng, batch, 0, 1, out, sizeof out, &used), 1);
    EXPECT(memcmp(out, "\6\0\0\0\x30\0\0\0\6\0\0\0\0\0\0\0\x59\x4a\x68\x59\4\0\0\0\xdc\5\0\0abcd\2\0\4\0\1\0\0\0\0\0\0\0\x30\0\0", 47), 0);
    EXPECT(used, 48);
    used = 0;
    EXPECT(rk_pcap_write(&pcapng, batch, 1, 1, out, sizeof out, &used), 1);
    const char *note = "not cut yet (GSO): segments of 1448 octets, transport checksum not ready";
    EXPECT(used, 32 + 4 + 4 + 72 + 8 + 4);
    EXPECT(memcmp(out + 28, "h\0\0\0\1\0\x48\0", 8), 0);
    EXPECT(memcmp(out + 36, note, 72), 0);
    EXPECT(memcmp(out + 108, "\2\0\4\0\2\x0a\0\0\0\0\0\0", 12), 0);
    for (uint32_t room = 0; room < used; room++) {
        uint8_t *exact = malloc(room ? room : 1);
        uint32_t nothing = 0;
        EXPECT(rk_pcap_write(&pcapng, batch, 1, 1, exact, room, &nothing), -ENOSPC);
        free(exact);
    }

    batch->frames[1].ifindex = 5;
    used = 0;
    EXPECT(rk_pcap_write(&pcapng, batch, 0, 2, out, sizeof out, &used), 1);
    EXPECT(rk_pcap_write(&pcapng, batch, 1, 1, out, sizeof out, &used), -ENODEV);
    batch->frames[0].time_ns = -1;
    EXPECT(rk_pcap_write(&pcap, batch, 0, 1, out, sizeof out, &used), -ERANGE);
    batch->frames[0].time_ns = (1000 * MS) << 32;
    EXPECT(rk_pcap_write(&pcap, batch, 0, 1, out, sizeof out, &used), -ERANGE);
    EXPECT(rk_pcap_write(&pcapng, batch, 0, 1, out, sizeof out, &used), 1);
    batch->frames[0].time_ns -= 1;
    EXPECT(rk_pcap_write(&pcap, batch, 0, 1, out, sizeof out, &used), 1);
    batch->frames[0].offset = 94;
    EXPECT(rk_pcap_write(&pcap, batch, 0, 1, out, sizeof out, &used), -EINVAL);
    EXPECT(rk_pcap_write(&pcap, batch, 1, 2, out, sizeof out, &used), -EINVAL);
    used = sizeof out + 1;
    EXPECT(rk_pcap_write(&pcap, batch, 1, 1, out, sizeof out, &used), -EINVAL);
    drop_batch(batch);
}

static void read_notes(void)
{
    static const struct {
        const char *text;
        uint16_t gso_len;
    } cases[] = {
        {"not cut yet (GSO): 3 segments of 1448 octets, transport checksum not ready", 1448},
        {"merged (GRO), or never cut (GSO): segments of 65535 octets", 65535},
        {"merged (GRO), or never cut (GSO): segments of 65536 octets", 0},
        {"merged (GRO), or never cut (GSO): segments of 4294968744 octets", 0},
        {"not cut yet (GSO): 3segments of 1448 octets", 0},
        {"not cut yet (GSO): 3 segments of 1448 octet", 0},
        {"not cut yet (GSO): 3 segments of ", 0},
        {"he said: not cut yet (GSO): 3 segments of 1448 octets", 0},
        {"", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t len = (uint32_t)strlen(cases[i].text);
        uint8_t *exact = malloc(len ? len : 1);
        memcpy(exact, cases[i].text, len);
        EXPECT(rk_pcap_noted(exact, len), cases[i].gso_len);
        free(exact);
    }
}

int main(void)
{
    read_notes();
    read_pcap(0);
    read_pcap(1);
    damaged_pcap();
    read_pcapng(0);
    read_pcapng(1);
    damaged_pcapng();
    times();
    write_both();
    return result();
}
