/* What taking records out of a pcap file costs in C at least: the bounds beside which benchmarks/pcap_tools.py puts
 * `rawkit pcap slice` and `split`.
 *
 *     limit_copy IN OUT FROM UNTIL WAY
 *
 * Reads all of a little-endian pcap file a mebibyte at a time, walks its records from header to header, looks at the
 * time of each, and writes the windows that lie between FROM and UNTIL (octets). WAY is
 *   one   everything in one thread;
 *   two   a second thread writes, three windows behind at most. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW_LEN = 1 << 20, WINDOWS = 4, RECORD_LEN = 16, HEADER_LEN = 24, PACKET_LEN = 262144 };

static uint8_t windows[WINDOWS][PACKET_LEN + WINDOW_LEN];
static struct {
    const uint8_t *octets;
    size_t len;
} pieces[WINDOWS];
static unsigned put, written; /* pieces */
static int ended;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int out;
static off_t out_len;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void write_piece(const uint8_t *octets, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(out, octets, len, out_len);
        if (n < 0)
            fail("pwrite");
        octets += n;
        out_len += n;
        len -= (size_t)n;
    }
}

static void *write_pieces(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (put == written && !ended)
            pthread_cond_wait(&changed, &lock);
        if (put == written)
            break;
        unsigned i = written % WINDOWS;
        pthread_mutex_unlock(&lock);
        write_piece(pieces[i].octets, pieces[i].len);
        pthread_mutex_lock(&lock);
        written++;
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static uint32_t load32(const uint8_t *octets)
{
    uint32_t word;
    memcpy(&word, octets, sizeof word);
    return word;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int in = open(argv[1], O_RDONLY);
    out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || out < 0)
        fail("open");
    long long from = atoll(argv[3]), until = atoll(argv[4]), at = 0;
    int two = strcmp(argv[5], "two") == 0;
    pthread_t thread;
    if (two && pthread_create(&thread, NULL, write_pieces, NULL) != 0)
        fail("pthread_create");
    const uint8_t *rest = NULL;
    size_t rest_len = 0;
    uint64_t packets = 0, newest = 0;
    for (unsigned n = 0;; n++) {
        if (two) { /* the window is free when what was put three windows ago is written */
            pthread_mutex_lock(&lock);
            while (put - written >= WINDOWS - 1)
                pthread_cond_wait(&changed, &lock);
            pthread_mutex_unlock(&lock);
        }
        uint8_t *window = windows[n % WINDOWS] + PACKET_LEN;
        ssize_t got = read(in, window, WINDOW_LEN);
        if (got < 0)
            fail("read");
        if (got == 0)
            break;
        uint8_t *start = window - rest_len, *end = window + got, *record = start;
        memcpy(start, rest, rest_len);
        if (n == 0)
            record += HEADER_LEN;
        while (end - record >= RECORD_LEN && load32(record + 8) <= (size_t)(end - record - RECORD_LEN)) {
            uint64_t time = (uint64_t)load32(record) * 1000000 + load32(record + 4);
            newest = time > newest ? time : newest;
            record += RECORD_LEN + load32(record + 8);
            packets++;
        }
        if (at >= from && at < until) {
            if (two) {
                pthread_mutex_lock(&lock);
                pieces[put % WINDOWS].octets = start;
                pieces[put % WINDOWS].len = (size_t)(record - start);
                put++;
                pthread_cond_signal(&changed);
                pthread_mutex_unlock(&lock);
            } else {
                write_piece(start, (size_t)(record - start));
            }
        }
        at += got;
        rest = record;
        rest_len = (size_t)(end - record);
        if (rest_len > PACKET_LEN)
            fail("not a pcap file");
    }
    if (two) {
        pthread_mutex_lock(&lock);
        ended = 1;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
        pthread_join(thread, NULL);
    }
    printf("%llu packets, the newest of %llu us\n", (unsigned long long)packets, (unsigned long long)newest);
    return 0;
}
