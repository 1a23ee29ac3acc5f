#include "rk.h"
uint64_t rk_cookie(const uint8_t *key, const uint8_t *data, size_t len){ return (uint64_t)-38; }
