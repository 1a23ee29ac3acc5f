/* Any octets as a merged frame to be explained: nothing outside it is read, and the text fits its room.
 *
 * The first octet says which link it is from and which way it went, the next two how long its segments were, the
 * fourth how much longer it was than what was captured. */
#include <stdlib.h>
#include <string.h>

#include "rk.h"
#include "rk_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t linktypes[] = {1, 101, 276, 113};
    if (size < 4 || size > 65536)
        return 0;
    uint32_t len = (uint32_t)size - 4;
    uint8_t *octets = malloc(len ? len : 1); /* as long as the frame: the sanitizer sees every octet too far */
    memcpy(octets, data + 4, len);
    struct rk_frame frame = {.cap_len = len,
                             .wire_len = len + data[3] * 257u,
                             .gso_len = rk_load_le16(data + 1),
                             .flags = (data[0] & 4 ? RK_FRAME_OUTGOING : 0u) | (data[0] & 8 ? RK_FRAME_CSUM_NOT_READY : 0u)};
    char text[RK_PCAP_NOTE_LEN];
    memset(text, 'x', sizeof text);
    uint32_t text_len = rk_pcap_note(&frame, octets, linktypes[data[0] & 3], text);
    if (text_len >= sizeof text || (text_len == 0) != (frame.gso_len == 0) || (text_len > 0 && strlen(text) != text_len) ||
        (text_len > 0 && rk_pcap_noted((const uint8_t *)text, text_len) != frame.gso_len))
        abort();
    free(octets);
    return 0;
}
