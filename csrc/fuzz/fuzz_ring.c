/* Any octets as a block of a receive ring, whose numbers come from the kernel and are not trusted all the same:
 * every frame that is handed out lies in the block, and the walk ends. */
#include "../rk_ring.c"

#define BLOCK_LEN 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t kind = data[0];
    data++, size--;
    struct rk_ring ring = {.fd = -1,
                           .flags = kind & 1 ? RK_PACKET_COOKED | RK_PACKET_SLL2 : kind & 2 ? RK_PACKET_COOKED : 0,
                           .prefixed = !(kind & 3) && kind & 4,
                           .memory = aligned_alloc(BLOCK_LEN, BLOCK_LEN),
                           .memory_len = BLOCK_LEN,
                           .block_len = BLOCK_LEN,
                           .block_n = 1};
    memset(ring.memory, 0, BLOCK_LEN);
    memcpy(ring.memory, data, size < BLOCK_LEN ? size : BLOCK_LEN);
    struct tpacket_hdr_v1 *header = block_header(&ring);
    header->block_status |= TP_STATUS_USER;
    struct rk_frame frames[3];
    struct rk_batch batch = {.arena = ring.memory, .frames = frames, .arena_len = BLOCK_LEN, .capacity = 3};
    uint32_t all = 0;
    for (uint32_t n; (n = hand_out(&ring, &batch)) > 0; all += n)
        for (uint32_t i = 0; i < n; i++)
            if (!rk_range_ok(frames[i].offset, frames[i].cap_len, BLOCK_LEN))
                abort();
    /* A frame takes its header at least. */
    if (all > BLOCK_LEN / HEADER_LEN || header->block_status != TP_STATUS_KERNEL)
        abort();
    free(ring.memory);
    return 0;
}
