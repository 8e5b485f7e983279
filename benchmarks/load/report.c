/* What was measured: a histogram of latencies with buckets below one per cent wide, and the report as JSON. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values below 128 have a bucket each; from there, 128 buckets for each power of two. */
static int bucket(uint64_t value)
{
    if (value < 128) return (int)value;
    int shift = 63 - __builtin_clzll(value) - 7;
    return (shift + 1) * 128 + (int)(value >> shift & 127);
}

static double middle(int bucket_number)
{
    if (bucket_number < 128) return bucket_number;
    int shift = bucket_number / 128 - 1;
    return ((double)(128 + bucket_number % 128) + 0.5) * (double)(1ull << shift);
}

void record(struct histogram *into, uint64_t nanoseconds)
{
    into->counts[bucket(nanoseconds)]++;
    into->total++;
    if (nanoseconds > into->largest) into->largest = nanoseconds;
}

double quantile(const struct histogram *of, double q)
{
    uint64_t wanted = (uint64_t)(q * (double)of->total), seen = 0;
    for (int i = 0; i < 64 * 128; i++) {
        seen += of->counts[i];
        if (seen > wanted) return middle(i);
    }
    return (double)of->largest;
}

static int64_t (*traced)[2];
static size_t traces, room;

/* Keep when a delivered message was due, and how many nanoseconds it took. */
void trace(int64_t sent, int64_t latency)
{
    if (!options.trace) return;
    if (traces == room) {
        room = room ? 2 * room : 1 << 16;
        traced = realloc(traced, room * sizeof *traced);
        if (!traced) fail("no memory");
    }
    traced[traces][0] = sent;
    traced[traces++][1] = latency;
}

void write_trace(void)
{
    if (!options.trace) return;
    FILE *file = fopen(options.trace, "wb");
    if (!file || fwrite(traced, sizeof *traced, traces, file) != traces || fclose(file)) fail("cannot write the trace");
}

static char *down;
static size_t down_length, down_room;

/* Keep what a subscriber was sent: when, who, how many bytes, and these. */
void take_down(int index, const char *data, size_t length, int64_t at)
{
    if (!options.record || !counters.started) return;
    int64_t head[3] = {at, index, (int64_t)length};
    while (down_room - down_length < sizeof head + length) {
        down_room = down_room ? 2 * down_room : 1 << 20;
        down = realloc(down, down_room);
        if (!down) fail("no memory");
    }
    memcpy(down + down_length, head, sizeof head);
    memcpy(down + down_length + sizeof head, data, length);
    down_length += sizeof head + length;
}

void write_down(void)
{
    if (!options.record) return;
    FILE *file = fopen(options.record, "wb");
    if (!file || fwrite(down, 1, down_length, file) != down_length || fclose(file)) fail("cannot write the record");
}

static bool one_order(void)
{
    for (int i = 1; i < options.subscribers; i++)
        if (subscribers[i].order != subscribers[0].order) return false;
    return true;
}

static double since_start(int64_t at)
{
    return at > counters.started ? (double)(at - counters.started) / 1e9 : 0;
}

void report(bool complete, int64_t cpu)
{
    const struct histogram *latency = &counters.latency;
    double seconds = since_start(counters.last_delivery), publishing = since_start(counters.last_answer);
    long messages = counters.sent - (counters.sent < options.warmup ? counters.sent : options.warmup);
    printf("{\"phase\": \"published\", \"complete\": %s, \"one_order\": %s, \"messages\": %ld, \"all_messages\": %ld, ",
           complete ? "true" : "false", one_order() ? "true" : "false", messages, counters.sent);
    printf("\"deliveries\": %llu, \"all_deliveries\": %llu, \"seconds\": %.6f, \"publish_seconds\": %.6f, ",
           (unsigned long long)latency->total, (unsigned long long)counters.received, seconds, publishing);
    printf("\"deliveries_per_second\": %.1f, \"publishes_per_second\": %.1f, ",
           seconds > 0 ? (double)latency->total / seconds : 0, publishing > 0 ? (double)messages / publishing : 0);
    printf("\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, ", quantile(latency, 0.5) / 1e6,
           quantile(latency, 0.99) / 1e6, (double)latency->largest / 1e6);
    printf("\"behind_least\": %ld, \"behind_most\": %ld, \"behind_last\": %ld, ", counters.behind_least,
           counters.behind_most, counters.behind_last);
    printf("\"twice\": %llu, \"skipped\": %llu, \"damaged\": %llu, \"closed\": %llu, ",
           (unsigned long long)counters.twice, (unsigned long long)counters.skipped,
           (unsigned long long)counters.damaged, (unsigned long long)counters.closed);
    printf("\"refused\": %ld, \"lost\": %ld, \"reconnects\": %ld, \"stalled_open\": %d, \"client_cpu\": %.6f}\n",
           counters.refused, counters.lost, counters.reconnects, count_open(stalled, options.stalled),
           (double)cpu / 1e9);
    fflush(stdout);
}
