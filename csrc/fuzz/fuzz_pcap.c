/* Any octets as the records of a pcap file. The first octet says which kind of file, the second where the
 * octets are cut in two. */
#include "rk_records.h"

static int read_pcap(const struct records *records, struct rk_batch *batch, uint32_t *at)
{
    return rk_pcap_read(records->file, batch, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct rk_pcap_file file = {.big_endian = data[0] & 1,
                                .record_len = data[0] & 2 ? 24 : 16,
                                .tick_ns = data[0] & 4 ? 1 : 1000};
    struct records records = {
        .read = read_pcap,
        .file = &file,
        .copy = {.big_endian = file.big_endian, .record_len = file.record_len, .options = UINT64_MAX},
        .header_len = file.record_len,
        .last_ifindex = 1};
    uint8_t *octets = malloc(size - 1);
    uint32_t len = (uint32_t)size - 2, found = 0;
    memcpy(octets, data + 2, len);
    do { /* where it goes on when it is damaged: a record at least */
        found = rk_pcap_find(&file, octets, len, found, data[0] >> 3 & 1);
        REQUIRE(found == len || (found < len && len - found >= file.record_len));
    } while (found++ < len);
    free(octets);
    check_records(&records, data + 2, size - 2, data[1] * (size_t)17);
    return 0;
}
