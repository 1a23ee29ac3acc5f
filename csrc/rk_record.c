/* Frames from a receive ring into a capture file, without coming back for each block.
 *
 * A few hundred rows at a time are described, made into records and, whenever these fill a piece of the file,
 * written: then the rows, the frames and the records are still in the processor's caches at each step. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"

#include <errno.h>
#include <unistd.h>

#define ROWS_AT_ONCE 512 /* 24 KiB of rows */
#define PAUSE_NS 100000000

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Write what is gathered up to a place in the file, in pieces. */
static bool write_up_to(struct rk_recorder *recorder, uint64_t end)
{
    while (recorder->file_len + recorder->done < end) {
        uint64_t at = recorder->file_len + recorder->done;
        size_t len = least(recorder->piece_len - at % recorder->piece_len, end - at);
        ssize_t n = pwrite(recorder->fd, recorder->buffer + recorder->done, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            recorder->error = n < 0 ? errno : EIO;
            return false;
        }
        recorder->done += (uint32_t)n;
    }
    return true;
}

/* Write the pieces that are full. Then only the record that goes over the end of the last of them has to stay,
 * which begins at `last`: the file can still be cut back to there. */
static bool write_pieces(struct rk_recorder *recorder, uint32_t last)
{
    uint64_t end = recorder->file_len + recorder->used;
    if (!write_up_to(recorder, end - end % recorder->piece_len))
        return false;
    bool all = recorder->done == recorder->used;
    uint32_t gone = all ? recorder->used : last;
    if (gone > recorder->done)
        return true;
    memmove(recorder->buffer, recorder->buffer + gone, recorder->used - gone);
    recorder->file_len += gone;
    recorder->file_packets = recorder->packets - !all;
    recorder->used -= gone;
    recorder->done -= gone;
    return true;
}

static bool write_all(struct rk_recorder *recorder)
{
    return recorder->error == 0 && write_up_to(recorder, recorder->file_len + recorder->used) &&
           write_pieces(recorder, recorder->used);
}

/* Record all rows of the batch. False when it has to stop before. */
static bool put_rows(struct rk_recorder *recorder, const struct rk_batch *batch, const struct rk_pcap_output *output)
{
    while (recorder->next < batch->n) {
        uint64_t len = recorder->file_len + recorder->used;
        if (len >= recorder->full_len)
            return false;
        /* Those that fit into the piece, or the one that goes over its end. */
        uint64_t goal = least(len - len % recorder->piece_len + recorder->piece_len, recorder->full_len);
        uint32_t room = (uint32_t)least(recorder->used + (goal - len), recorder->buffer_len);
        int n = rk_pcap_write(output, batch, recorder->next, batch->n - recorder->next, recorder->buffer, room,
                              &recorder->used);
        uint32_t last = recorder->used;
        if (n == -ENOSPC)
            n = rk_pcap_write(output, batch, recorder->next, 1, recorder->buffer, recorder->buffer_len,
                              &recorder->used);
        if (n <= 0)
            return false;
        recorder->next += (uint32_t)n;
        recorder->packets += (uint32_t)n;
        if (recorder->file_len + recorder->used >= goal && !write_pieces(recorder, last))
            return false;
    }
    return true;
}

int rk_record(struct rk_recorder *recorder, struct rk_ring *ring, struct rk_batch *batch,
              const struct rk_pcap_output *output, int64_t deadline_ns)
{
    if (recorder->done > recorder->used || recorder->used > recorder->buffer_len || recorder->piece_len == 0)
        return -EINVAL;
    uint32_t capacity = batch->capacity;
    recorder->taken = recorder->rejected = 0;
    recorder->next = batch->n = 0;
    recorder->error = 0;
    int result = 0;
    while (recorder->taken < recorder->most && recorder->file_len + recorder->used < recorder->full_len) {
        batch->capacity = (uint32_t)least(least(capacity, ROWS_AT_ONCE), recorder->most - recorder->taken);
        int64_t pause_ns = rk_monotonic_ns() + PAUSE_NS;
        if ((result = rk_ring_receive(ring, batch, pause_ns < deadline_ns ? pause_ns : deadline_ns)) < 0)
            break;
        recorder->taken += (uint32_t)result;
        if (recorder->insns != NULL) {
            int kept = rk_filter_sift(recorder->pcaplib, recorder->insns, recorder->insns_n, batch, recorder->judged);
            if (kept < 0) {
                result = kept;
                break;
            }
            recorder->rejected += (uint32_t)(result - kept);
        }
        recorder->next = 0;
        if (!put_rows(recorder, batch, output) || (result == 0 && !write_all(recorder)) ||
            rk_monotonic_ns() >= deadline_ns || __atomic_load_n(recorder->stop, __ATOMIC_RELAXED))
            break;
    }
    batch->capacity = capacity;
    write_all(recorder);
    return result < 0 ? result : 0;
}
