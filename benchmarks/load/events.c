/* Reads server-sent events: takes the chunks of HTTP/1.1 apart, and in them the lines of events, as they come in.
 *
 * What is counted and checked is what subscribe.c does for WebSockets. Our payloads are one line each. */
#include "load.h"

#include <string.h>

static const char DATA[] = "data: ", NAME[] = "event: ";

static bool begins_with(const struct subscriber *one, const char *text)
{
    size_t length = strlen(text);
    return one->line >= length && !memcmp(one->kept, text, length);
}

/* An empty line ends an event. A name is that of a join or a gap: what a gap leaves out is missed by its number. */
static void line_ended(int index, struct subscriber *one, int64_t at)
{
    if (!one->line) {
        if (one->has_data && !one->named) message(index, one, one->kept + strlen(DATA), at);
        one->has_data = one->named = false;
        return;
    }
    if (one->has_data) counters.damaged++;
    if (begins_with(one, NAME)) one->named = true;
    if (begins_with(one, DATA)) {
        one->has_data = true;
        one->size = one->line - strlen(DATA);
    }
    one->line = 0;
}

static size_t line(int index, struct subscriber *one, const char *data, size_t length, int64_t at)
{
    const char *end = memchr(data, '\n', length);
    size_t part = end ? (size_t)(end - data) : length;
    if (!one->line && part) one->kept_length = 0; /* an empty line leaves the data as they are */
    keep(one, data, part);
    one->line += part;
    if (end) line_ended(index, one, at);
    return part + (end ? 1 : 0);
}

/* Take the size of a chunk in, byte by byte. The chunk of size 0 ends the answer. */
static void size_byte(struct subscriber *one, char byte)
{
    if (byte >= '0' && byte <= '9') one->remaining = one->remaining << 4 | (uint64_t)(byte - '0');
    else if (byte >= 'a' && byte <= 'f') one->remaining = one->remaining << 4 | (uint64_t)(byte - 'a' + 10);
    else if (byte == '\n' && !one->remaining) gone(one);
    else if (byte == '\n') one->part = CHUNK_DATA;
    else if (byte != '\r') counters.damaged++;
}

static size_t chunk_data(int index, struct subscriber *one, const char *data, size_t length, int64_t at)
{
    size_t whole = length < one->remaining ? length : (size_t)one->remaining, taken = 0;
    while (taken < whole) taken += line(index, one, data + taken, whole - taken, at);
    one->remaining -= whole;
    if (!one->remaining) one->part = CHUNK_END;
    return whole;
}

void read_events(int index, struct subscriber *one, const char *data, size_t length, int64_t at)
{
    for (size_t i = 0; i < length && one->state == OPEN;) {
        if (one->part == CHUNK_DATA) i += chunk_data(index, one, data + i, length - i, at);
        else if (one->part == CHUNK_SIZE) size_byte(one, data[i++]);
        else if (data[i++] == '\n') one->part = CHUNK_SIZE;
    }
}
