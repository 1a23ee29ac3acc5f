/* A main for a fuzz target where there is no libFuzzer: the files named on the command line, one by one. What
 * once made a target fail lies in its corpus, and so stays a test. */
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rbe");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        /* As long as the file, so that the sanitizer sees every octet too far. */
        fseek(file, 0, SEEK_END);
        long len = ftell(file);
        rewind(file);
        uint8_t *data = malloc(len > 0 ? (size_t)len : 1);
        size_t got = fread(data, 1, len > 0 ? (size_t)len : 0, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, got);
        free(data);
    }
    return argc > 1 ? 0 : 1;
}
