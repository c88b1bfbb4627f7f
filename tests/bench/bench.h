#pragma once
/*
 * What the benchmark programs share: samples, percentiles, one JSON line per cell. One thread
 * writes a recorder at a time (the callers hold their own lock).
 */
#include "pyi_base.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BENCH_MAX_SAMPLES 4000000u

typedef struct recorder {
    float *us; // owned: one latency per call
    size_t count, cap;
    int64_t began_ns, ended_ns;
} recorder;

static inline int64_t bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * PYI_NS_PER_S + t.tv_nsec;
}

static inline void recorder_add(recorder *r, int64_t ns) {
    if (r->count == r->cap && r->cap < BENCH_MAX_SAMPLES) {
        size_t cap = r->cap == 0 ? 65536 : r->cap * 2;
        float *us = realloc(r->us, cap * sizeof *us);
        if (us == NULL) {
            abort();
        }
        r->us = us;
        r->cap = cap;
    }
    if (r->count < r->cap) {
        r->us[r->count++] = (float)ns / 1000.0F;
    }
}

static inline int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/// Prints one cell and empties the recorder.
static inline void recorder_print(recorder *r, const char *cell) {
    qsort(r->us, r->count, sizeof *r->us, compare_floats);
    double seconds = (double)(r->ended_ns - r->began_ns) / (double)PYI_NS_PER_S;
    if (r->count > 0) {
        printf("{\"cell\": \"%s\", \"p50\": %.3f, \"p99\": %.3f, \"per_s\": %.1f, \"n\": %zu}\n",
               cell, (double)r->us[r->count / 2], (double)r->us[r->count * 99 / 100],
               (double)r->count / seconds, r->count);
    }
    fflush(stdout);
    free(r->us);
    *r = (recorder){0};
}

/// "int_64" -> 64; anything else: one in flight.
static inline unsigned cell_in_flight(const char *cell) {
    return strncmp(cell, "int_", 4) == 0 ? (unsigned)strtoul(cell + 4, NULL, 10) : 1;
}
