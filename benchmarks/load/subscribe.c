/* Reads what subscribers get: takes frames apart as they come in, answers pings, and checks that every message comes
 * once and in its place.
 *
 * A payload begins with STAMP bytes: T (or W while warming up), 19 digits of the monotonic clock in nanoseconds, P and
 * three digits of the publisher, S and ten digits of the publisher's own count, and a space. */
#include "load.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9 };

static uint64_t digits(const char *from, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value * 10 + (uint64_t)(from[i] - '0');
    return value;
}

static uint32_t *expected(int subscriber, int publisher)
{
    static uint32_t *table;
    size_t size = (size_t)options.subscribers * MAX_OF(options.publishers, 1);
    if (!table) {
        table = fresh(size, sizeof *table);
        for (size_t i = 0; i < size; i++) table[i] = (uint32_t)options.first;
    }
    return &table[(size_t)subscriber * (size_t)options.publishers + (size_t)publisher];
}

/* A message is whole: `payload` is its start, `one->size` its length. */
void message(int index, struct subscriber *one, const char *payload, int64_t at)
{
    if (one->size != (uint64_t)options.payload || payload[20] != 'P' || payload[24] != 'S') {
        counters.damaged++;
        return;
    }
    int publisher = (int)digits(payload + 21, 3);
    uint32_t count = (uint32_t)digits(payload + 25, 10);
    if (publisher >= options.publishers) {
        counters.damaged++;
        return;
    }
    uint32_t *next = expected(index, publisher);
    one->order = one->order * 1099511628211u ^ ((uint64_t)publisher << 32 | count);
    if (count < *next) {
        counters.twice++;
        return;
    }
    counters.skipped += count - *next;
    *next = count + 1;
    one->received++;
    counters.received++;
    counters.last_delivery = at;
    if (payload[0] == 'T') {
        int64_t sent = (int64_t)digits(payload + 1, 19);
        record(&counters.latency, (uint64_t)(at - sent));
        trace(sent, at - sent);
    }
    if (options.by_websocket && publisher == index) published(index);
}

/* The same of a JSON object, of which a message is one member; others say something else. */
static void json_message(int index, struct subscriber *one, const char *object, int64_t at)
{
    static const char before[] = "\"data\":\"", after[] = "\"}";
    const char *found = memmem(object, (size_t)one->kept_length, before, sizeof before - 1);
    if (!found) return;
    found += sizeof before - 1;
    one->size -= (uint64_t)(found - object) + sizeof after - 1;
    message(index, one, found, at);
}

void gone(struct subscriber *one)
{
    epoll_ctl(poller, EPOLL_CTL_DEL, one->fd, 0);
    close(one->fd);
    one->state = GONE;
    counters.closed++;
}

static void pong(struct subscriber *one)
{
    char frame[6 + KEPT] = {(char)0x8a, (char)(0x80 | one->kept_length)};
    memcpy(frame + 6, one->kept, (size_t)one->kept_length); /* the mask is zero */
    send_all(one->fd, frame, 6 + (size_t)one->kept_length);
}

/* Take a frame's head in, byte by byte. True once it is whole. */
static bool head(struct subscriber *one, uint8_t byte)
{
    one->head[one->head_length++] = byte;
    if (one->head_length < 2) return false;
    int code = one->head[1] & 0x7f, extra = code == 126 ? 2 : code == 127 ? 8 : 0;
    if (one->head_length < 2 + extra) return false;
    one->remaining = (uint64_t)(extra ? 0 : code);
    for (int i = 0; i < extra; i++) one->remaining = one->remaining << 8 | one->head[2 + i];
    one->opcode = one->head[0] & 0x0f;
    one->in_payload = true;
    one->head_length = 0;
    if (one->opcode == TEXT || one->opcode == BINARY) one->size = 0, one->kept_length = 0;
    if (one->opcode >= CLOSE) one->kept_length = 0;
    if (one->head[0] & 0x70 || one->head[1] & 0x80) counters.damaged++;
    return true;
}

static void frame_ended(int index, struct subscriber *one, int64_t at)
{
    one->in_payload = false;
    if (one->opcode == PING) pong(one);
    else if (one->opcode == CLOSE) gone(one);
    else if (one->opcode <= BINARY && one->head[0] & 0x80)
        (options.json ? json_message : message)(index, one, one->kept, at);
}

/* Keep the start of a payload or of a line. */
void keep(struct subscriber *one, const char *data, size_t length)
{
    size_t kept = KEPT - (size_t)one->kept_length < length ? KEPT - (size_t)one->kept_length : length;
    memcpy(one->kept + one->kept_length, data, kept);
    one->kept_length += (int)kept;
}

static size_t payload(struct subscriber *one, const char *data, size_t length)
{
    size_t take = length < one->remaining ? length : (size_t)one->remaining;
    keep(one, data, take);
    one->remaining -= take;
    if (one->opcode < CLOSE) one->size += take;
    return take;
}

static void read_frames(int index, struct subscriber *one, const char *data, size_t length, int64_t at)
{
    for (size_t i = 0; i < length && one->state == OPEN;) {
        if (!one->in_payload && !head(one, (uint8_t)data[i++])) continue;
        i += payload(one, data + i, length - i);
        if (!one->remaining) frame_ended(index, one, at);
    }
}

void read_subscriber(int index)
{
    static char data[READ];
    struct subscriber *one = &subscribers[index];
    if (one->state != OPEN) return;
    ssize_t length = recv(one->fd, data, sizeof data, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (length <= 0) {
        gone(one);
        return;
    }
    int64_t at = now();
    take_down(index, data, (size_t)length, at);
    (options.sse ? read_events : read_frames)(index, one, data, (size_t)length, at);
}
