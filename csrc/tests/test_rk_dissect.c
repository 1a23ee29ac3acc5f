/* Walking headers by a table: Ethernet, VLAN, IPv4 with options, fragments, UDP, a quoting ICMP error, an
 * optional field; cut off at every length; columns; and tables that point outside themselves. */
#include "rk_test.h" /* before the system headers: it says _GNU_SOURCE */

#include "rk_headers.h"
#include "rk_internal.h"

static const uint8_t ether[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
static const uint8_t vlan[18] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0};
static const uint8_t udp[12] = {0x12, 0x34, 0, 53, 0, 12, 0, 0, 'd', 'a', 't', 'a'};

/* An IPv4 header with words of options, for so many octets after it. */
static uint32_t put_ip(uint8_t *at, uint32_t options, uint8_t protocol, uint32_t payload_len)
{
    uint32_t len = 20 + options * 4;
    memset(at, 0, len);
    at[0] = (uint8_t)(0x45 + options);
    rk_store_be16(at + 2, (uint16_t)(len + payload_len));
    at[9] = protocol;
    memcpy(at + 12, (uint8_t[]){192, 0, 2, 1, 192, 0, 2, 2}, 8);
    return len;
}

struct packet {
    uint8_t octets[200];
    uint32_t len;
};

static void put(struct packet *packet, const void *octets, uint32_t len)
{
    memcpy(packet->octets + packet->len, octets, len);
    packet->len += len;
}

/* Walk a copy that ends where its allocation does. */
static int walk(const struct packet *packet, uint32_t len, uint32_t first, struct rk_layer *layers, uint32_t n)
{
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, packet->octets, len);
    int found = rk_dissect(&table, first, copy, len, layers, n);
    free(copy);
    return found;
}

static void expect_layer(const struct rk_layer *layer, uint32_t header, uint32_t offset, uint32_t header_end,
                         uint32_t end)
{
    EXPECT(layer->header, header);
    EXPECT(layer->offset, offset);
    EXPECT(layer->header_end, header_end);
    EXPECT(layer->end, end);
}

static struct packet datagram(const uint8_t *link, uint32_t link_len, uint32_t options)
{
    struct packet packet = {.len = 0};
    put(&packet, link, link_len);
    packet.len += put_ip(packet.octets + packet.len, options, 17, sizeof udp);
    put(&packet, udp, sizeof udp);
    return packet;
}

static void test_layers(void)
{
    struct rk_layer layers[RK_MAX_LAYERS];
    struct packet packet = datagram(ether, sizeof ether, 1);
    put(&packet, (uint8_t[10]){0}, 10); /* padding */
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 3);
    expect_layer(&layers[0], ETHER, 0, 14, 60);
    expect_layer(&layers[1], IP, 14, 38, 50);
    expect_layer(&layers[2], UDP, 38, 46, 50);
    EXPECT(walk(&packet, packet.len, ETHER, layers, 2), 2);
    EXPECT(walk(&packet, packet.len, ETHER, layers, 0), 0);

    static const struct { uint32_t from; int n; } cuts[] = {{0, 0}, {14, 1}, {38, 2}, {46, 3}};
    for (uint32_t len = 0; len <= packet.len; len++) {
        int n = 0;
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
            n = len >= cuts[i].from ? cuts[i].n : n;
        EXPECT(walk(&packet, len, ETHER, layers, RK_MAX_LAYERS), n);
    }

    packet.octets[14 + 6] = 0x20; /* more fragments: the first still starts with its header */
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 3);
    packet.octets[14 + 7] = 1;
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 2);
    packet.octets[14 + 7] = 0;
    packet.octets[14] = 0x44; /* 16 octets of header */
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 1);
    packet.octets[14] = 0x46;
    rk_store_be16(packet.octets + 16, 0); /* not filled in */
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 3);
    EXPECT(layers[1].end, 60);
    rk_store_be16(packet.octets + 16, 23); /* shorter than its header */
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 1);
    rk_store_be16(packet.octets + 12, 7); /* a length */
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 2);
    EXPECT(layers[0].end, 21);
    expect_layer(&layers[1], LLC, 14, 17, 21);
    rk_store_be16(packet.octets + 12, 8);
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 2);
    expect_layer(&layers[1], SNAP, 14, 22, 22);

    uint8_t jumbo[4000] = {0}; /* an EtherType counts no octets, however many there are */
    memcpy(jumbo, ether, sizeof ether);
    put_ip(jumbo + 14, 0, 17, sizeof jumbo - 34);
    EXPECT(rk_dissect(&table, ETHER, jumbo, sizeof jumbo, layers, RK_MAX_LAYERS), 3);
    EXPECT(layers[0].end, sizeof jumbo);

    packet = datagram(vlan, sizeof vlan, 0);
    EXPECT(walk(&packet, packet.len, ETHER, layers, RK_MAX_LAYERS), 4);
    expect_layer(&layers[1], VLAN, 14, 18, 50);
}

static void test_variants_and_quotes(void)
{
    struct rk_layer layers[RK_MAX_LAYERS];
    struct packet packet = {.len = 0};
    packet.len += put_ip(packet.octets, 0, 1, 8 + 28);
    put(&packet, (uint8_t[8]){3, 1}, 8);
    packet.len += put_ip(packet.octets + packet.len, 0, 17, 100); /* quoted: there had been more */
    put(&packet, udp, 8);
    EXPECT(walk(&packet, packet.len, IP, layers, RK_MAX_LAYERS), 4);
    expect_layer(&layers[1], UNREACHABLE, 20, 28, 56);
    expect_layer(&layers[2], IP, 28, 48, 56);
    expect_layer(&layers[3], UDP, 48, 56, 56);
    rk_store_be16(packet.octets + 30, 20); /* a quoted length that leaves nothing to follow does not count */
    EXPECT(walk(&packet, packet.len, IP, layers, RK_MAX_LAYERS), 4);
    packet.octets[20] = 8; /* an echo request: no row for it */
    EXPECT(walk(&packet, packet.len, IP, layers, RK_MAX_LAYERS), 2);
    EXPECT(layers[1].header, ICMP);
    EXPECT(walk(&packet, 24, IP, layers, RK_MAX_LAYERS), 2);
    EXPECT(walk(&packet, 23, IP, layers, RK_MAX_LAYERS), 1);
    EXPECT(walk(&packet, packet.len, CHOICE, layers, RK_MAX_LAYERS), 2);
    EXPECT(layers[0].header, IP);
    packet.octets[0] = 0x65;
    EXPECT(walk(&packet, packet.len, CHOICE, layers, RK_MAX_LAYERS), 0);
    EXPECT(walk(&packet, 0, CHOICE, layers, RK_MAX_LAYERS), 0);
}

static void test_depth(void)
{
    struct rk_layer layers[RK_MAX_LAYERS + 8];
    uint8_t octets[20 * 70];
    for (uint32_t i = 0; i < 70; i++)
        put_ip(octets + 20 * i, 0, 4, 20 * (69 - i));
    EXPECT(rk_dissect(&table, IP, octets, sizeof octets, layers, RK_MAX_LAYERS), RK_MAX_LAYERS);
    EXPECT(rk_dissect(&table, IP, octets, sizeof octets, layers, RK_MAX_LAYERS + 2), RK_MAX_LAYERS + 2);
}

#define ROWS 4

static void test_columns(void)
{
    uint16_t sport[ROWS] = {0};
    uint64_t dport[ROWS] = {0};
    uint8_t src[ROWS][4] = {{0}};
    uint32_t dst[ROWS] = {0}, key[ROWS] = {0};
    uint8_t present[5][ROWS] = {{0}};
    struct rk_column columns[5] = {
        {.values = sport, .present = present[0], .field = {0, 16}, .item_len = 2},
        {.values = dport, .present = present[1], .field = {16, 16}, .item_len = 8},
        {.values = src, .present = present[2], .field = {96, 32}, .octets_n = 4},
        {.values = dst, .present = present[3], .field = {128, 32}, .item_len = 4},
        {.values = key, .present = present[4], .field = {0, 32}, .item_len = 4, .part = 2},
    };
    struct packet first = datagram(ether, sizeof ether, 2), second = {.len = 0};
    put(&second, ether, sizeof ether);
    second.len += put_ip(second.octets + second.len, 0, 47, 12);
    put(&second, (uint8_t[]){0xa0, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8}, 12);
    struct rk_batch *batch = new_batch(4, 400);
    add(batch, "padding", 7);
    add(batch, first.octets, first.len);
    add(batch, second.octets, second.len);
    EXPECT(rk_extract(&table, ETHER, batch, 1, 2, columns, 5, 1), 2);
    for (uint32_t row = 0; row < ROWS; row++) {
        bool has_udp = row == 1, has_ip = row == 1 || row == 2, has_key = row == 2;
        EXPECT(present[0][row], has_udp);
        EXPECT(present[2][row], has_ip);
        EXPECT(present[4][row], has_key);
        EXPECT(sport[row], has_udp ? 0x1234 : 0);
        EXPECT(dport[row], has_udp ? 53 : 0);
        EXPECT(memcmp(src[row], (uint8_t[]){192, 0, 2, 1}, 4) == 0, has_ip);
        EXPECT(dst[row], has_ip ? 0xc0000202 : 0);
        EXPECT(key[row], has_key ? 0x05060708 : 0);
    }
    second.octets[14 + 20] = 0x20; /* the key without the checksum before it */
    batch->n = batch->arena_used = 0;
    add(batch, second.octets, second.len);
    present[4][3] = 0;
    EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 5, 3), 1);
    EXPECT(key[3], 0x01020304);
    memset(present, 0, sizeof present);
    second.octets[14 + 20] = 0x80; /* no key */
    memcpy(batch->arena, second.octets, second.len);
    EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 5, 3), 1);
    EXPECT(present[3][3], 1);
    EXPECT(present[4][3], 0);
    /* Row 0 from octets; what was there before is forgotten. */
    EXPECT(rk_pick(&table, ETHER, first.octets, first.len, columns, 5), 4);
    EXPECT(sport[0], 0x1234);
    EXPECT(rk_pick(&table, ETHER, second.octets, second.len, columns, 5), 2);
    EXPECT(present[0][0], 0);
    EXPECT(rk_pick(&table, ETHER, second.octets, 13, columns, 5), 0);
    memset(present, 0, sizeof present);

    EXPECT(rk_extract(&table, ETHER, batch, 0, 2, columns, 5, 0), -EINVAL);
    EXPECT(rk_extract(&table, ETHER, batch, UINT32_MAX, 2, columns, 5, 0), -EINVAL);
    EXPECT(rk_extract(&table, HEADERS, batch, 0, 1, columns, 5, 0), -EINVAL);
    EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 4, 0), -EINVAL); /* a column that is wanted */
    static const struct rk_bits wrong[] = {{16, 65}, {56, 16}, {0, 0}, {16, 17}, {UINT32_MAX, 16}};
    struct rk_column good = columns[0];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        columns[0].field = wrong[i];
        EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 5, 0), -EINVAL);
    }
    columns[0] = good;
    columns[0].item_len = 3;
    EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 5, 0), -EINVAL);
    columns[0] = good;
    columns[0].part = 1; /* of UDP, which has none */
    EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 5, 0), -EINVAL);
    columns[0] = good;
    batch->frames[0].offset = 390; /* a frame that passes the arena's end */
    EXPECT(rk_extract(&table, ETHER, batch, 0, 1, columns, 5, 0), -EINVAL);
    drop_batch(batch);
}

/* Whether a table with this row in place of UDP's is refused. */
static int with(struct rk_header changed)
{
    struct rk_header kept = headers[UDP];
    struct rk_layer layers[4];
    headers[UDP] = changed;
    int found = rk_dissect(&table, ETHER, ether, sizeof ether, layers, 4);
    headers[UDP] = kept;
    return found;
}

static void test_tables(void)
{
    struct rk_layer layers[4];
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1}), 1);
    EXPECT(with((struct rk_header){.min_len = 8, .next = HEADERS}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .length = {60, 5}}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .length = {0, 65}}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .end = {UINT32_MAX, 1}}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .opaque = {64, 1}}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .variant = {64, 1}}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .select = {{0, 1}, {64, 1}}, .select_n = 2}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .select_n = RK_SELECTORS + 1}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .uppers = 1, .uppers_n = NUMBERS}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .variants = 2, .variants_n = UINT32_MAX}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .columns = 5, .columns_n = 1}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .parts = 1, .parts_n = 2}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 0, .next = -1, .parts = 0, .parts_n = 1}), -EINVAL);
    EXPECT(with((struct rk_header){.min_len = 8, .next = -1, .at_least = 1, .longer = HEADERS}), -EINVAL);
    EXPECT(rk_dissect(&table, HEADERS, ether, sizeof ether, layers, 4), -EINVAL);
    struct rk_dissector fewer = table;
    fewer.headers_n = GRE; /* numbers lead to rows that are not there */
    EXPECT(rk_dissect(&fewer, ETHER, ether, sizeof ether, layers, 4), -EINVAL);
}

int main(void)
{
    test_layers();
    test_variants_and_quotes();
    test_depth();
    test_columns();
    test_tables();
    return result();
}
