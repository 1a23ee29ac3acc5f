/* Segments cut into packets: sequence numbers, flags, lengths and checksums of each; and what nobody can cut. */
#define _GNU_SOURCE
#include "../rk_gso.c"

#include "rk_test.h"

enum { MSS = 100, PAYLOAD = 350, ROOM = 66000 };

struct pieces {
    uint8_t frames[8][2000];
    uint32_t lens[8];
    int n;
};

static void note(void *context, const uint8_t *frame, uint32_t len)
{
    struct pieces *pieces = context;
    if (pieces->n < 8 && len <= sizeof pieces->frames[0]) {
        memcpy(pieces->frames[pieces->n], frame, len);
        pieces->lens[pieces->n] = len;
    }
    pieces->n++;
}

/* A frame as the kernel hands it over: the checksum field holds the pseudo-header's part. */
static uint32_t make(uint8_t *frame, bool v6, bool udp, bool tagged, uint32_t payload, struct rk_gso_info *info)
{
    uint32_t ip = tagged ? 18 : 14, upper = ip + (v6 ? 40 : 20), upper_len = udp ? 8 : 32;
    uint32_t len = upper + upper_len + payload;
    memset(frame, 0, len);
    if (tagged)
        memcpy(frame + 12, (const uint8_t[]){0x81, 0, 0, 5}, 4);
    rk_store_be16(frame + ip - 2, v6 ? 0x86dd : 0x0800);
    uint8_t *src = frame + ip + (v6 ? 8 : 12);
    if (v6) {
        frame[ip] = 0x60;
        rk_store_be16(frame + ip + 4, (uint16_t)(upper_len + payload));
        frame[ip + 6] = udp ? 17 : 6;
    } else {
        frame[ip] = 0x45;
        rk_store_be16(frame + ip + 2, (uint16_t)(20 + upper_len + payload));
        rk_store_be16(frame + ip + 4, 0xffff); /* wraps */
        frame[ip + 9] = udp ? 17 : 6;
    }
    uint32_t addr_len = v6 ? 16 : 4;
    for (uint32_t i = 0; i < 2 * addr_len; i++)
        src[i] = (uint8_t)(i * 13 + 1);
    if (udp) {
        rk_store_be16(frame + upper + 4, (uint16_t)(8 + payload));
    } else {
        rk_store_be32(frame + upper + 4, 0xffffffc0); /* wraps */
        frame[upper + 12] = 0x80;
        frame[upper + 13] = FIN | PSH | CWR | 0x10;
    }
    for (uint32_t i = 0; i < payload; i++)
        frame[upper + upper_len + i] = (uint8_t)(i * 7);
    uint32_t sum = rk_csum_pseudo(src, src + addr_len, addr_len, udp ? 17 : 6, upper_len + payload);
    rk_store_be16(frame + upper + (udp ? 6 : 16), (uint16_t)sum);
    *info = (struct rk_gso_info){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .type = udp ? VIRTIO_NET_HDR_GSO_UDP_L4 : v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
        .segment_len = MSS,
        .csum_start = (uint16_t)upper,
        .csum_offset = udp ? 6 : 16,
    };
    return len;
}

static void check_upper_sum(const uint8_t *frame, uint32_t ip, bool v6, bool udp, uint32_t len)
{
    uint32_t upper = ip + (v6 ? 40 : 20), addr_len = v6 ? 16 : 4;
    const uint8_t *src = frame + ip + (v6 ? 8 : 12);
    uint32_t sum = rk_csum_pseudo(src, src + addr_len, addr_len, udp ? 17 : 6, len - upper);
    EXPECT(rk_csum_add(sum, frame + upper, len - upper), 0xffff);
}

static void check_cut(bool v6, bool udp, bool tagged)
{
    static uint8_t frame[2000], scratch[ROOM];
    static struct pieces pieces;
    struct rk_gso_info info;
    uint32_t len = make(frame, v6, udp, tagged, PAYLOAD, &info), done = 0;
    uint32_t ip = tagged ? 18 : 14, upper = ip + (v6 ? 40 : 20), header = upper + (udp ? 8 : 32);
    pieces.n = 0;
    EXPECT(rk_gso_finish(&info, frame, len, scratch, sizeof scratch, note, &pieces), 4);
    EXPECT(pieces.n, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const uint8_t *piece = pieces.frames[i];
        uint32_t n = i < 3 ? MSS : PAYLOAD - 3 * MSS;
        EXPECT(pieces.lens[i], header + n);
        EXPECT(memcmp(piece, frame, ip), 0);
        for (uint32_t k = 0; k < n; k++)
            EXPECT(piece[header + k], (uint8_t)((done + k) * 7));
        if (v6) {
            EXPECT(rk_load_be16(piece + ip + 4), header - upper + n);
        } else {
            EXPECT(rk_load_be16(piece + ip + 2), header - ip + n);
            EXPECT(rk_load_be16(piece + ip + 4), (uint16_t)(0xffff + i));
            EXPECT(rk_csum_add(0, piece + ip, 20), 0xffff);
        }
        if (udp) {
            EXPECT(rk_load_be16(piece + upper + 4), 8 + n);
        } else {
            EXPECT(rk_load_be32(piece + upper + 4), (uint32_t)(0xffffffc0 + done));
            EXPECT(piece[upper + 13], 0x10 | (i == 0 ? CWR : 0) | (i == 3 ? FIN | PSH : 0));
        }
        check_upper_sum(piece, ip, v6, udp, pieces.lens[i]);
        done += n;
    }
    /* Not to be cut: only its checksum is missing. */
    len = make(frame, v6, udp, tagged, PAYLOAD, &info);
    info.type = VIRTIO_NET_HDR_GSO_NONE;
    pieces.n = 0;
    EXPECT(rk_gso_finish(&info, frame, len, scratch, sizeof scratch, note, &pieces), 1);
    EXPECT(pieces.lens[0], len);
    check_upper_sum(pieces.frames[0], ip, v6, udp, len);
}

static void count_piece(void *context, const uint8_t *frame, uint32_t len)
{
    *(uint64_t *)context += frame[0] + len;
}

/* Whatever the kernel might say, and whatever octets come: nothing outside the frame is read or written. */
static void check_nonsense(void)
{
    uint64_t state = 5, sum = 0;
    for (int round = 0; round < 200000; round++) {
        uint32_t len = 14 + (uint32_t)(next_number(&state) % 150), room = 64 + (uint32_t)(next_number(&state) % 200);
        uint8_t *frame = malloc(len), *scratch = malloc(room);
        for (uint32_t i = 0; i < len; i++)
            frame[i] = (uint8_t)next_number(&state);
        if (round % 2 && len > 40) {
            memcpy(frame + 12, (const uint8_t[]){8, 0, 0x45}, 3);
            frame[46 < len ? 46 : 20] = 0x50;
        }
        struct rk_gso_info info = {
            .flags = (uint8_t)(next_number(&state) % 2),
            .type = (uint8_t)(next_number(&state) % 7 | (next_number(&state) % 2) << 7),
            .segment_len = (uint16_t)(next_number(&state) % 60),
            .csum_start = round % 4 ? 34 : (uint16_t)(next_number(&state) % 300),
            .csum_offset = (uint16_t)(next_number(&state) % 40),
        };
        rk_gso_finish(&info, frame, len, scratch, room, count_piece, &sum);
        free(frame);
        free(scratch);
    }
    EXPECT(sum > 0, true);
}

int main(void)
{
    for (int kind = 0; kind < 8; kind++)
        check_cut(kind & 1, kind & 2, kind & 4);
    check_nonsense();
    return result();
}
