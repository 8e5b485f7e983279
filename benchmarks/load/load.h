/* What the parts of the load client share: the options, the connections, and what was counted.
 *
 * One thread, one epoll. Every buffer has a fixed size, so that the client costs the same whatever the server does. */
#ifndef LOAD_H
#define LOAD_H

#define _GNU_SOURCE /* strcasestr */

#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MAX_PUBLISHERS = 999,   /* three digits in the stamp */
    MAX_HEADERS = 2048,     /* bytes of header lines given with --header */
    STAMP = 40,             /* bytes at the start of each payload: when, who, which */
    KEPT = 128,             /* the start of a frame: our stamp, or a ping's whole payload (at most 125) */
    ANSWER = 16 * 1024,     /* the answer to a publish or to a handshake */
    READ = 256 * 1024,      /* one read, shared by all subscribers */
    PIPELINE = 64 * 1024,   /* frames that a WebSocket publisher sends in one go */
    PER_ADDRESS = 20000,    /* connections from one source address; there are about 28,000 ports */
};

struct options {
    const char *host, *path, *publish_path, *content_type;
    char headers[MAX_HEADERS];
    int port, publish_port;
    int subscribers, stalled, at_once, receive_buffer;
    int publishers, window, payload;
    bool by_websocket, sse, json, spread, step;
    long messages, warmup, expect, first;
    double rate, seconds, patience;
    const char *trace, *record;
};

#define MAX_OF(a, b) ((size_t)(a) > (size_t)(b) ? (size_t)(a) : (size_t)(b))

enum state { FREE, CONNECTING, ANSWERED, OPEN, GONE };

enum part { CHUNK_SIZE, CHUNK_DATA, CHUNK_END };

/* A subscriber: its connection, and how far the frame, or the chunk and the line of an event, is that it is reading. */
struct subscriber {
    int fd;
    enum state state;
    bool in_payload;
    uint8_t head[14], head_length, opcode;
    uint64_t remaining;
    int kept_length;
    char kept[KEPT];
    enum part part;
    bool has_data, named; /* of an event: its data have come; it is no message but a join or a gap */
    uint64_t line;     /* bytes of the line so far */
    uint64_t size;     /* bytes of the message so far, over all its fragments */
    uint64_t received; /* messages in their place */
    uint64_t order;    /* a hash of all that came, in order: the same for every subscriber of a server with one order */
};

/* A publisher: over HTTP with a connection of its own, over WebSocket on the subscriber with the same number. */
struct publisher {
    int fd;
    bool busy, writing;
    uint32_t next, answered;
    char *out;
    size_t out_size, out_length, out_sent, stamp_at;
    char *answer;
    size_t answer_length;
};

struct histogram {
    uint64_t counts[64 * 128], total, largest;
};

struct counters {
    long sent, answered, refused, lost, reconnects;
    uint64_t received, twice, skipped, damaged, closed;
    long behind_least, behind_most, behind_last;
    int64_t started, last_delivery, last_answer;
    struct histogram latency;
};

extern struct options options;
extern struct counters counters;
extern struct subscriber *subscribers, *stalled;
extern struct publisher *publishers;
extern struct sockaddr_in server, publish_server;
extern int poller;
extern volatile sig_atomic_t enough; /* has been published: a signal said so */

enum kind { SUBSCRIBER, STALLED, PUBLISHER, PACE };

int64_t now(void);
void fail(const char *what) __attribute__((noreturn));
void *fresh(size_t count, size_t size);

void parse_options(int count, char **words);

const struct sockaddr_in *door(int number, const struct sockaddr_in *usual);
int open_socket(const struct sockaddr_in *to, int source, int receive_buffer);
void watch(int fd, enum kind kind, int index, uint32_t events);
void change(int fd, enum kind kind, int index, uint32_t events);
double connect_all(void);
int count_open(struct subscriber *some, int count);
void send_all(int fd, const char *data, size_t length);

void read_subscriber(int index);
void keep(struct subscriber *one, const char *data, size_t length);
void gone(struct subscriber *one);
void message(int index, struct subscriber *one, const char *payload, int64_t at);
void read_events(int index, struct subscriber *one, const char *data, size_t length, int64_t at);

void start_pace(void);
void tick(void);
bool take_turn(int64_t *due);

void open_publishers(void);
void publish_what_may(bool measured, int64_t until);
void ready_publisher(int index, uint32_t events);
void published(int index);
bool everything_sent(bool measured, int64_t until);

void record(struct histogram *into, uint64_t nanoseconds);
double quantile(const struct histogram *of, double q);
void trace(int64_t sent, int64_t latency);
void write_trace(void);
void take_down(int index, const char *data, size_t length, int64_t at);
void write_down(void);
void report(bool complete, int64_t cpu);

#endif
