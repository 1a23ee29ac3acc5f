/* Any octets as places of fields and two packets: nothing outside is read, and what is cut from one packet
 * follows it. */
#include <stdlib.h>
#include <string.h>

#include "rk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8 || size > 4096)
        return 0;
    struct rk_bulk bulk = {.header_len = data[0], .seq_at = data[1], .seq_len = data[2], .length_at = data[3],
                           .length_len = data[4], .length_extra = data[5], .sum_at = data[6]};
    if (rk_bulk_check(&bulk) != 0)
        return 0;
    size_t first_len = data[7];
    data += 8;
    size -= 8;
    if (first_len > size)
        first_len = size;
    /* Copies exactly as long as they claim to be, so that the sanitizer sees every octet too far. */
    uint8_t *first = malloc(first_len), *next = malloc(size - first_len);
    if (!first || !next)
        abort();
    memcpy(first, data, first_len);
    memcpy(next, data + first_len, size - first_len);
    rk_bulk_follows(&bulk, first, first_len, 0, next, size - first_len);
    if (first_len >= bulk.header_len && size > first_len) {
        size_t piece_len = size - first_len, len = bulk.header_len + piece_len;
        uint8_t *a = malloc(len), *b = malloc(len);
        if (!a || !b)
            abort();
        if (rk_bulk_cut(&bulk, first, 0, next, piece_len, a) == 0 &&
            rk_bulk_cut(&bulk, first, piece_len, next, piece_len, b) == 0)
            rk_bulk_follows(&bulk, a, len, 0, b, len);
        free(a);
        free(b);
    }
    free(first);
    free(next);
    return 0;
}
