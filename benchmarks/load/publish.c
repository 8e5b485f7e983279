/* Publishes: over HTTP, each publisher with a keep-alive connection and one request in flight; or over WebSocket, where
 * the first subscribers send frames and a frame is in flight until it has come back to its sender. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void write_stamp(char *at, bool measured, int64_t when, int publisher, uint32_t count)
{
    char stamp[STAMP + 16];
    snprintf(stamp, sizeof stamp, "%c%019lldP%03dS%010u     ", measured ? 'T' : 'W', (long long)when, publisher, count);
    memcpy(at, stamp, STAMP);
}

static size_t frame_head(char *into)
{
    size_t length = 0;
    into[length++] = (char)0x81;
    if (options.payload < 126) into[length++] = (char)(0x80 | options.payload);
    else if (options.payload < 65536) {
        into[length++] = (char)(0x80 | 126);
        into[length++] = (char)(options.payload >> 8);
        into[length++] = (char)options.payload;
    } else {
        into[length++] = (char)(0x80 | 127);
        for (int shift = 56; shift >= 0; shift -= 8) into[length++] = (char)((uint64_t)options.payload >> shift);
    }
    memset(into + length, 0, 4); /* the mask: zero, so that the payload stays as it is */
    return length + 4;
}

static size_t request_head(char *into, size_t size)
{
    int length = snprintf(into, size,
                          "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n",
                          options.publish_path, options.host, options.publish_port, options.content_type,
                          options.payload, options.headers);
    if (length < 0 || (size_t)length >= size) fail("the publish is too long");
    return (size_t)length;
}

static void connect_publisher(int index)
{
    struct publisher *one = &publishers[index];
    one->fd = open_socket(door(index, &publish_server), 0, 0);
    one->answer_length = 0;
    one->writing = one->out_sent < one->out_length;
    watch(one->fd, PUBLISHER, index, EPOLLIN | (one->writing ? EPOLLOUT : 0));
}

/* A publisher's request or frame is made once; for each publish only its stamp is written anew. */
void open_publishers(void)
{
    for (int i = 0; i < options.publishers; i++) {
        struct publisher *one = &publishers[i];
        one->next = (uint32_t)(options.first + options.expect);
        size_t whole = MAX_HEADERS + 1024 + (size_t)options.payload;
        one->out_size = options.by_websocket ? MAX_OF(whole, PIPELINE) : whole;
        one->out = fresh(1, one->out_size);
        one->stamp_at = options.by_websocket ? frame_head(one->out) : request_head(one->out, whole);
        memset(one->out + one->stamp_at, 'x', (size_t)options.payload);
        if (options.by_websocket) one->fd = subscribers[i].fd;
        else {
            one->answer = fresh(1, ANSWER);
            connect_publisher(i);
        }
    }
}

static void pump(int index)
{
    struct publisher *one = &publishers[index];
    while (one->out_sent < one->out_length) {
        ssize_t sent = send(one->fd, one->out + one->out_sent, one->out_length - one->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN) return; /* its end is read and counted */
        if (sent < 0) break;
        one->out_sent += (size_t)sent;
    }
    bool writing = one->out_sent < one->out_length;
    if (writing != one->writing)
        change(one->fd, options.by_websocket ? SUBSCRIBER : PUBLISHER, index, EPOLLIN | (writing ? EPOLLOUT : 0));
    one->writing = writing;
}

bool everything_sent(bool measured, int64_t until)
{
    if (!measured) return counters.sent >= options.warmup;
    return enough || counters.sent >= options.warmup + options.messages || now() >= until;
}

static void request(int index, bool measured, int64_t when)
{
    struct publisher *one = &publishers[index];
    write_stamp(one->out + one->stamp_at, measured, when, index, one->next++);
    one->out_length = one->stamp_at + (size_t)options.payload;
    one->out_sent = 0;
    one->busy = true;
    counters.sent++;
    pump(index);
}

static void frames(int index, bool measured, int64_t until)
{
    struct publisher *one = &publishers[index];
    size_t whole = one->stamp_at + (size_t)options.payload;
    if (subscribers[index].state != OPEN) return;
    if (one->out_sent < one->out_length) pump(index);
    if (one->out_sent < one->out_length) return;
    one->out_length = one->out_sent = 0;
    while (one->next - one->answered < (uint32_t)options.window && one->out_length + whole <= one->out_size) {
        if (everything_sent(measured, until)) break;
        if (one->out_length) memcpy(one->out + one->out_length, one->out, whole);
        write_stamp(one->out + one->out_length + one->stamp_at, measured, now(), index, one->next++);
        one->out_length += whole;
        counters.sent++;
    }
    pump(index);
}

void publish_what_may(bool measured, int64_t until)
{
    for (int i = 0; i < options.publishers; i++) {
        if (options.by_websocket) frames(i, measured, until);
        else if (!publishers[i].busy && !everything_sent(measured, until)) {
            int64_t when = now();
            if (options.rate > 0 && !take_turn(&when)) return;
            request(i, measured, when);
        }
    }
}

/* A publish has been answered, or has come back to its sender. */
void published(int index)
{
    publishers[index].answered++;
    publishers[index].busy = false;
    counters.answered++;
    counters.last_answer = now();
}

static void note_behind(const char *answer)
{
    const char *found = strstr(answer, "\"behind\":");
    if (!found) return;
    long behind = atol(found + 9);
    counters.behind_last = behind;
    if (counters.behind_least < 0 || behind < counters.behind_least) counters.behind_least = behind;
    if (behind > counters.behind_most) counters.behind_most = behind;
}

/* Bytes of the answer if it is whole, else 0. */
static size_t whole_answer(const char *answer, size_t length)
{
    const char *end = strstr(answer, "\r\n\r\n"), *size = strcasestr(answer, "\r\ncontent-length:");
    if (!end) return 0;
    size_t head = (size_t)(end + 4 - answer), whole = head;
    if (size && size < end) whole = head + (size_t)atol(size + 17);
    else if (strcasestr(answer, "\r\ntransfer-encoding: chunked")) {
        const char *last = strstr(end + 2, "\r\n0\r\n\r\n");
        if (!last) return 0;
        whole = (size_t)(last + 7 - answer);
    }
    return length >= whole ? whole : 0;
}

static void reconnect(int index)
{
    close(publishers[index].fd); /* which takes it out of epoll too */
    counters.reconnects++;
    connect_publisher(index);
}

static void answered(int index)
{
    struct publisher *one = &publishers[index];
    if (!whole_answer(one->answer, one->answer_length)) {
        if (one->answer_length >= ANSWER - 1) fail("the answer to a publish is too long");
        return;
    }
    if (strncmp(one->answer, "HTTP/1.1 2", 10)) {
        if (!counters.refused++) fprintf(stderr, "load: a publish was refused: %.300s\n", one->answer);
    }
    note_behind(one->answer);
    bool ends = strcasestr(one->answer, "\r\nconnection: close");
    one->answer_length = 0;
    published(index);
    if (ends) reconnect(index);
}

void ready_publisher(int index, uint32_t events)
{
    struct publisher *one = &publishers[index];
    if (events & EPOLLOUT) pump(index);
    if (!(events & ~(uint32_t)EPOLLOUT)) return;
    ssize_t length = recv(one->fd, one->answer + one->answer_length, ANSWER - 1 - one->answer_length, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (length <= 0) {
        if (one->busy) {
            counters.lost++;
            published(index);
        }
        reconnect(index);
        return;
    }
    one->answer_length += (size_t)length;
    one->answer[one->answer_length] = 0;
    answered(index);
}
