/* A load client for servers that fan out: connects subscribers, publishes, checks and measures what they get.
 *
 * Prints one JSON object a line for each phase: ready and recovered (with --expect), connected, warm (with --warmup),
 * published. Ends with 0 only if every
 * subscriber that reads got every message once, in its publisher's order, and every publish was accepted. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct counters counters;
struct subscriber *subscribers, *stalled;
struct publisher *publishers;
struct sockaddr_in server, publish_server;
int poller;
volatile sig_atomic_t enough;

int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int64_t cpu_used(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

void fail(const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

void *fresh(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("no memory");
    return memory;
}

static void wait_for_line(void)
{
    if (!options.step) return;
    for (int c = getchar(); c != '\n' && c != EOF; c = getchar()) continue;
}

static bool everything_delivered(void)
{
    if (counters.answered < counters.sent) return false;
    return counters.received >= (uint64_t)(options.expect + counters.sent) * (uint64_t)options.subscribers;
}

static void serve_ready(int patience_ms)
{
    struct epoll_event events[512];
    int ready = epoll_wait(poller, events, 512, patience_ms);
    for (int i = 0; i < ready; i++) {
        enum kind kind = events[i].data.u64 >> 32;
        int index = (int)(uint32_t)events[i].data.u64;
        if (kind == PUBLISHER) ready_publisher(index, events[i].events);
        else if (kind == PACE) tick();
        else if (events[i].events & ~(uint32_t)EPOLLOUT) read_subscriber(index);
    }
}

static int64_t last_progress(int64_t since)
{
    int64_t last = counters.last_delivery > counters.last_answer ? counters.last_delivery : counters.last_answer;
    return last > since ? last : since;
}

/* Publish all there is to publish and wait for all of it. False if nothing moves any more. */
static bool publish_all(bool measured)
{
    int64_t begun = now(), until = begun + (int64_t)(options.seconds * 1e9);
    if (options.rate > 0) start_pace();
    while (!everything_sent(measured, until) || !everything_delivered()) {
        publish_what_may(measured, until);
        serve_ready(100);
        if (now() - last_progress(begun) > options.patience * 1e9) return false;
    }
    return true;
}

/* Wait for what the subscribers were to be given first. False if nothing moves any more. */
static bool recover_all(int64_t begun)
{
    uint64_t wanted = (uint64_t)options.expect * (uint64_t)options.subscribers;
    while (counters.received < wanted) {
        serve_ready(100);
        if (now() - last_progress(begun) > options.patience * 1e9) return false;
    }
    return true;
}

static void stop_publishing(int number)
{
    (void)number;
    enough = 1;
}

static void allow_many_files(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **words)
{
    parse_options(count, words);
    allow_many_files();
    counters.behind_least = counters.behind_most = counters.behind_last = -1;
    subscribers = fresh((size_t)options.subscribers, sizeof *subscribers);
    stalled = fresh((size_t)options.stalled, sizeof *stalled);
    publishers = fresh((size_t)options.publishers, sizeof *publishers);
    poller = epoll_create1(EPOLL_CLOEXEC);

    signal(SIGUSR1, stop_publishing);
    if (options.expect) {
        printf("{\"phase\": \"ready\"}\n");
        fflush(stdout);
        wait_for_line();
    }
    int64_t begun = now();
    double took = connect_all();
    printf("{\"phase\": \"connected\", \"seconds\": %.6f, \"connects_per_second\": %.1f}\n", took,
           (options.subscribers + options.stalled) / took);
    fflush(stdout);
    wait_for_line();

    bool complete = true;
    if (options.expect) {
        complete = recover_all(begun);
        printf("{\"phase\": \"recovered\", \"complete\": %s, \"begun\": %lld, \"ended\": %lld}\n",
               complete ? "true" : "false", (long long)begun, (long long)counters.last_delivery);
        fflush(stdout);
        wait_for_line();
    }
    open_publishers();
    if (options.warmup) {
        complete = complete && publish_all(false);
        printf("{\"phase\": \"warm\", \"complete\": %s}\n", complete ? "true" : "false");
        fflush(stdout);
        wait_for_line();
    }
    counters.behind_least = counters.behind_most = counters.behind_last = -1;
    counters.started = now();
    int64_t cpu = cpu_used();
    complete = complete && publish_all(true);
    complete = complete && !counters.twice && !counters.skipped && !counters.damaged && !counters.refused &&
               !counters.lost && !counters.closed;
    cpu = cpu_used() - cpu;
    write_trace();
    write_down();
    report(complete, cpu);
    wait_for_line();
    return complete ? 0 : 1;
}
