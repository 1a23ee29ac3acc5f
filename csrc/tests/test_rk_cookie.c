/* SipHash-2-4 against the authors' vectors: key 00 01 .. 0f, data 00 01 .. of growing length. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rk.h"

/* From the vectors.h of the reference implementation, lengths 0 to 15; length 15 is also worked through in
 * appendix A of the paper. */
static const uint64_t expected[16] = {
    0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
    0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
    0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
    0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
};

int main(void)
{
    int failed = 0;
    uint8_t key[16], data[16], room[32];
    for (unsigned i = 0; i < 16; i++)
        key[i] = data[i] = (uint8_t)i;
    for (size_t len = 0; len < 16; len++) {
        for (size_t shift = 0; shift < 16; shift++) {
            memcpy(room + shift, data, len);
            uint64_t got = rk_cookie(key, room + shift, len);
            if (got != expected[len]) {
                fprintf(stderr, "length %zu alignment %zu: %016" PRIx64 ", want %016" PRIx64 "\n", len, shift,
                        got, expected[len]);
                failed = 1;
            }
        }
    }
    return failed;
}
