/* libpcap through our boundary: programs, messages, and programs nobody should run. */
#include "rk_test.h"

static const char *const libraries[] = {"libpcap.so.1", "libpcap.so.0.8", "libpcap.so"};

int main(void)
{
    struct rk_pcaplib *lib = NULL;
    EXPECT(rk_pcaplib_open(&lib, "/nonexistent.so"), -ENOENT);
    EXPECT(rk_pcaplib_open(&lib, "libm.so.6"), -ENOENT); /* a library, but another one */
    EXPECT(lib == NULL, 1);
    for (int i = 0; i < 3 && lib == NULL; i++)
        rk_pcaplib_open(&lib, libraries[i]);
    if (lib == NULL) {
        puts("skipped: no libpcap on this system");
        return failures > 0 ? 1 : 77;
    }
    EXPECT(strncmp(rk_pcaplib_version(lib), "libpcap", 7), 0);

    struct rk_insn insns[256];
    char error[64] = "untouched";
    int n = rk_filter_compile(lib, "ip", 1, 96, insns, 256, error, sizeof error);
    EXPECT(n, 4); /* ldh [12]; jeq #0x800; ret #96; ret #0 */
    EXPECT(insns[0].code, 0x28);
    EXPECT(insns[0].k, 12);
    EXPECT(insns[2].k, 96);
    EXPECT(strcmp(error, "untouched"), 0);
    EXPECT(rk_filter_compile(lib, "ip", 1, 96, insns, 3, error, sizeof error), -ENOSPC);
    EXPECT(rk_filter_compile(lib, "no such thing (", 1, 96, insns, 256, error, sizeof error), -EINVAL);
    EXPECT(strlen(error) > 0 && strcmp(error, "untouched") != 0, 1);
    EXPECT(rk_filter_compile(lib, "ip (", 1, 96, insns, 256, NULL, 0), -EINVAL);
    char shortest[1];
    EXPECT(rk_filter_compile(lib, "ip (", 1, 96, insns, 256, shortest, 1), -EINVAL);
    EXPECT(shortest[0], 0);

    n = rk_filter_compile(lib, "ip", 1, 96, insns, 256, error, sizeof error);
    struct rk_batch *batch = new_batch(4, 64);
    uint8_t frame[16] = {[12] = 8};
    add(batch, frame, 14);
    add(batch, frame, 13); /* cut before the type: no match, and nothing read behind it */
    frame[13] = 6;
    add(batch, frame, 14);
    add(batch, frame, 0);
    uint8_t keep[4] = {9, 9, 9, 9};
    EXPECT(rk_filter_run(lib, insns, (uint32_t)n, batch, 0, 4, keep), 1);
    EXPECT(memcmp(keep, (uint8_t[]){1, 0, 0, 0}, 4), 0);
    EXPECT(rk_filter_run(lib, insns, (uint32_t)n, batch, 4, 0, keep), 0);
    EXPECT(rk_filter_run(lib, insns, (uint32_t)n, batch, 3, 2, keep), -EINVAL);
    EXPECT(rk_filter_run(lib, insns, (uint32_t)n, batch, 5, UINT32_MAX, keep), -EINVAL);
    EXPECT(rk_filter_run(lib, insns, 0, batch, 0, 4, keep), -EINVAL);
    EXPECT(rk_filter_run(lib, insns, (uint32_t)n - 1, batch, 0, 4, keep), -EINVAL); /* falls off its end */
    char text[80];
    EXPECT(rk_filter_image(lib, insns, (uint32_t)n, 1, text, sizeof text), 0);
    EXPECT(strncmp(text, "(001) jeq      #0x800", 21), 0);
    EXPECT(rk_filter_image(lib, insns, (uint32_t)n, 4, text, sizeof text), -EINVAL);
    EXPECT(rk_filter_image(lib, &(struct rk_insn){.code = 0xffff}, 1, 0, text, sizeof text), -EINVAL);
    EXPECT(rk_filter_image(lib, insns, (uint32_t)n, 1, text, 1), 0);
    EXPECT(text[0], 0);

    struct rk_batch *sifted = new_batch(4, 600);
    memset(frame, 0, sizeof frame);
    frame[12] = 8;
    uint8_t longer[200] = {[12] = 8};
    add(sifted, longer, 200);
    add(sifted, frame, 10);
    add(sifted, longer, 150);
    add(sifted, frame, 14);
    sifted->frames[1].flags = RK_FRAME_VLAN;
    sifted->frames[2].flags = RK_FRAME_VLAN;
    EXPECT(rk_filter_sift(lib, insns, (uint32_t)n, sifted, RK_FRAME_VLAN), 3);
    EXPECT(sifted->n, 3);
    EXPECT(sifted->frames[0].cap_len, 200); /* not judged */
    EXPECT(sifted->frames[1].cap_len, 96);  /* cut to the program's snaplen */
    EXPECT(sifted->frames[1].wire_len, 150);
    EXPECT(sifted->frames[2].cap_len, 14);
    sifted->frames[1].cap_len = 11;
    EXPECT(rk_filter_sift(lib, insns, (uint32_t)n, sifted, 0), 2);
    EXPECT(sifted->frames[0].cap_len, 96);
    EXPECT(sifted->frames[1].cap_len, 14);
    EXPECT(rk_filter_sift(lib, insns, (uint32_t)n - 1, sifted, 0), -EINVAL);
    EXPECT(sifted->n, 2);
    drop_batch(sifted);

    batch->frames[3].offset = 60;
    batch->frames[3].cap_len = 5;
    EXPECT(rk_filter_run(lib, insns, (uint32_t)n, batch, 0, 4, keep), -EINVAL);
    batch->frames[3].cap_len = 0;

    /* Whatever a program holds, it is refused or ends with an answer. */
    uint64_t random = 1;
    int accepted = 0;
    for (int round = 0; round < 200000; round++) {
        uint32_t len = 1 + (uint32_t)(next_number(&random) % 6);
        for (uint32_t i = 0; i < len; i++) {
            uint64_t r = next_number(&random);
            insns[i] = (struct rk_insn){.code = r & 0xff, .jt = r >> 8 & 3, .jf = r >> 10 & 3, .k = r >> 12 & 31};
            if (r >> 20 & 1)
                insns[i].k = (uint32_t)(r >> 32);
        }
        for (uint32_t i = 0; i < len; i++)
            if (insns[i].code == 0x05 && insns[i].k > 5)
                insns[i].k = 0; /* jumping backwards it could go on for ever */
        insns[len - 1].code = 0x06;
        int got = rk_filter_run(lib, insns, len, batch, 0, 4, keep);
        accepted += got >= 0;
        if (got > 4 || (got < 0 && got != -EINVAL))
            EXPECT(got, 0);
    }
    EXPECT(accepted > 1000, 1);
    drop_batch(batch);
    rk_pcaplib_close(lib);
    rk_pcaplib_close(NULL);
    return result();
}
