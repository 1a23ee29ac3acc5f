#include "rk.h"
uint32_t rk_csum_add(uint32_t sum, const uint8_t *data, size_t len){ return (uint32_t)-38; }
uint16_t rk_csum(const uint8_t *data, size_t len){ return (uint16_t)-38; }
uint32_t rk_csum_pseudo(const uint8_t *src, const uint8_t *dst, uint32_t addr_len, uint8_t protocol,
                        uint32_t upper_len){ return (uint32_t)-38; }
uint16_t rk_csum_update(uint16_t checksum, uint16_t old_word, uint16_t new_word){ return (uint16_t)-38; }
uint32_t rk_crc32c(uint32_t crc, const uint8_t *data, size_t len){ return (uint32_t)-38; }
