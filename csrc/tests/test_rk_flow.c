/* Flows: both directions are one, growing keeps them, and what has no room is counted. Sums and rates. */
#include "rk_test.h"

#include "rk_internal.h"

static void put_ip4(uint8_t frame[54], uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport, uint8_t protocol)
{
    memset(frame, 0, 54);
    frame[12] = 8;
    frame[14] = 0x45;
    frame[23] = protocol;
    rk_store_be32(frame + 26, src);
    rk_store_be32(frame + 30, dst);
    rk_store_be16(frame + 34, sport);
    rk_store_be16(frame + 36, dport);
}

static void test_directions(void)
{
    struct rk_flows *flows;
    EXPECT(rk_flows_open(&flows, 2), 0);
    struct rk_batch *batch = new_batch(6, 6 * 54);
    uint8_t frame[54];
    put_ip4(frame, 1, 2, 1000, 80, 6);
    add(batch, frame, 54);
    put_ip4(frame, 2, 1, 80, 1000, 6);
    add(batch, frame, 54);
    put_ip4(frame, 1, 2, 1000, 80, 17);
    add(batch, frame, 54);
    put_ip4(frame, 1, 3, 1000, 80, 6); /* a third, for which there is no room */
    add(batch, frame, 54);
    frame[12] = 9; /* no IP */
    add(batch, frame, 54);
    put_ip4(frame, 1, 2, 1000, 80, 6);
    add(batch, frame, 33); /* too short */
    for (uint32_t i = 0; i < 6; i++)
        batch->frames[i].time_ns = 10 - i;
    uint32_t numbers[6];
    EXPECT(rk_flows_add(flows, RK_LINK_ETHERNET, batch, numbers), 2);
    static const uint32_t want[6] = {1, 1, 2, 0, 0, 0};
    EXPECT(memcmp(numbers, want, sizeof want), 0);
    EXPECT(rk_flows_left_out(flows), 1);
    const struct rk_flow *row = rk_flows_rows(flows);
    EXPECT(row->packets[0], 1);
    EXPECT(row->packets[1], 1);
    EXPECT(row->octets[1], 54);
    EXPECT(row->a_port, 1000);
    EXPECT(row->first_ns, 9);
    EXPECT(row->last_ns, 10);
    batch->frames[0].offset = UINT32_MAX;
    EXPECT(rk_flows_add(flows, RK_LINK_ETHERNET, batch, NULL), -EINVAL);
    rk_flows_close(flows);
    drop_batch(batch);
}

/* The same packet behind other links, and IPv6 with headers between it and the ports. */
static void test_links(void)
{
    static const struct {
        uint32_t link, header_len, type_at;
    } links[] = {{RK_LINK_IP, 0, 0}, {RK_LINK_NULL, 4, 0}, {RK_LINK_SLL, 16, 14}, {RK_LINK_SLL2, 20, 0}, {RK_LINK_ETHERNET, 18, 16}};
    uint8_t ip6[40 + 8 + 8 + 8] = {0x60, 0, 0, 0, 0, 24, 0, 64};
    ip6[40] = 44; /* hop-by-hop options, then a fragment header */
    ip6[48] = 17;
    rk_store_be16(ip6 + 56, 4000);
    rk_store_be16(ip6 + 58, 53);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        struct rk_flows *flows;
        EXPECT(rk_flows_open(&flows, 10), 0);
        struct rk_batch *batch = new_batch(3, 300);
        uint8_t frame[100] = {0};
        if (links[i].link == RK_LINK_ETHERNET)
            rk_store_be16(frame + 12, 0x8100);
        if (links[i].link >= RK_LINK_SLL || links[i].link == RK_LINK_ETHERNET)
            rk_store_be16(frame + links[i].type_at, 0x86dd);
        memcpy(frame + links[i].header_len, ip6, sizeof ip6);
        add(batch, frame, links[i].header_len + (uint32_t)sizeof ip6);
        rk_store_be16(frame + links[i].header_len + 50, 8); /* a later fragment: no ports */
        add(batch, frame, links[i].header_len + (uint32_t)sizeof ip6);
        add(batch, frame, 3);
        uint32_t numbers[3];
        EXPECT(rk_flows_add(flows, links[i].link, batch, numbers), 2);
        EXPECT(numbers[0] == 1 && numbers[1] == 2 && numbers[2] == 0, 1);
        EXPECT(rk_flows_rows(flows)[0].b_port, 53);
        EXPECT(rk_flows_rows(flows)[1].b_port, 0);
        EXPECT(rk_flows_rows(flows)[1].protocol, 17);
        rk_flows_close(flows);
        drop_batch(batch);
    }
}

static void test_many(void)
{
    struct rk_flows *flows;
    EXPECT(rk_flows_open(&flows, UINT32_MAX), 0);
    struct rk_batch *batch = new_batch(1000, 1000 * 54);
    uint32_t numbers[1000];
    for (int direction = 0; direction < 2; direction++)
        for (uint32_t round = 0; round < 10; round++) {
            batch->n = batch->arena_used = 0;
            for (uint32_t i = 0; i < 1000; i++) {
                uint8_t frame[54];
                uint32_t flow = round * 1000 + i;
                if (direction)
                    put_ip4(frame, 7, flow, 53, (uint16_t)flow, 17);
                else
                    put_ip4(frame, flow, 7, (uint16_t)flow, 53, 17);
                add(batch, frame, 54);
            }
            rk_flows_add(flows, RK_LINK_ETHERNET, batch, numbers);
            EXPECT(numbers[0], round * 1000 + 1);
            EXPECT(numbers[999], round * 1000 + 1000);
        }
    EXPECT(rk_flows_add(flows, RK_LINK_ETHERNET, batch, NULL), 10000);
    rk_flows_close(flows);
    drop_batch(batch);
}

static void test_sums(void)
{
    struct rk_batch *batch = new_batch(4, 16);
    static const int64_t times[4] = {50, 10, 30, 95};
    for (uint32_t i = 0; i < 4; i++) {
        add(batch, "abcd", i + 1);
        batch->frames[i].time_ns = times[i];
        batch->frames[i].ifindex = (int32_t)(i % 3);
        batch->frames[i].wire_len = 4;
    }
    struct rk_tally tallies[2] = {0};
    rk_batch_tally(batch, tallies, 2);
    EXPECT(tallies[0].packets, 4);
    EXPECT(tallies[0].octets, 10);
    EXPECT(tallies[0].wire_octets, 16);
    EXPECT(tallies[0].cut, 3);
    EXPECT(tallies[0].backwards, 1);
    EXPECT(tallies[0].first_ns, 50);
    EXPECT(tallies[0].last_ns, 95);
    EXPECT(tallies[0].earliest_ns, 10);
    EXPECT(tallies[0].latest_ns, 95);
    EXPECT(tallies[0].shortest, 1);
    EXPECT(tallies[0].longest, 4);
    EXPECT(tallies[1].packets, 1);

    struct rk_interval rates[3] = {0};
    EXPECT(rk_batch_rates(batch, 0, 20, 20, rates, 3), 1); /* 10 is before the first one */
    EXPECT(rk_batch_rates(batch, 2, 20, 20, rates, 3), 3); /* 95 is behind the last one */
    EXPECT(rates[1].packets, 1);
    EXPECT(rates[0].octets, 4);
    EXPECT(rk_batch_rates(batch, 3, 20, 0, rates, 3), 3);
    EXPECT(rk_batch_rates(batch, 4, 20, 20, rates, 3), 4);

    uint8_t keep[4] = {1, 1, 0, 1};
    EXPECT(rk_batch_within(batch, 10, 95, keep), 2);
    EXPECT(keep[0] && keep[1] && !keep[2] && !keep[3], 1);
    drop_batch(batch);
}

int main(void)
{
    test_directions();
    test_links();
    test_many();
    test_sums();
    return result();
}
