/* Opens the subscribers: WebSocket handshakes or requests for events, a bounded number under way at once, from as many source addresses as
 * they need ports. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

/* Where a connection goes that usually goes to `usual`. */
const struct sockaddr_in *door(int number, const struct sockaddr_in *usual)
{
    if (!options.spread || number % 2 == 0) return usual;
    return usual == &server ? &publish_server : &server;
}

/* Connect from the source address that the `source`th connection uses; the first of them from the usual one. */
int open_socket(const struct sockaddr_in *to, int source, int receive_buffer)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (source >= PER_ADDRESS) {
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000001u + ((uint32_t)(source / PER_ADDRESS) << 8));
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (const void *)&from, sizeof from)) fail("bind");
    }
    if (connect(fd, (const void *)to, sizeof *to) && errno != EINPROGRESS) fail("connect");
    return fd;
}

static uint64_t tag(enum kind kind, int index)
{
    return (uint64_t)kind << 32 | (uint32_t)index;
}

void watch(int fd, enum kind kind, int index, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = tag(kind, index)};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

void change(int fd, enum kind kind, int index, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = tag(kind, index)};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event)) fail("epoll_ctl");
}

/* Small control data on a socket with room: a handshake or a pong. */
void send_all(int fd, const char *data, size_t length)
{
    if (send(fd, data, length, MSG_NOSIGNAL) != (ssize_t)length && errno != EPIPE && errno != ECONNRESET) fail("send");
}

static void ask(int fd)
{
    static const char websocket[] = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    char request[MAX_HEADERS + 1024];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s%s\r\n", options.path,
                          options.host, options.port, options.sse ? "Accept: text/event-stream\r\n" : websocket,
                          options.headers);
    if (length < 0 || (size_t)length >= sizeof request) fail("the handshake is too long");
    send_all(fd, request, (size_t)length);
}

/* Look for the end of the answer without taking what may stand behind it. True once it has been taken. */
static bool take_answer(int fd)
{
    static char answer[ANSWER];
    ssize_t length = recv(fd, answer, sizeof answer - 1, MSG_PEEK);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (length <= 0) fail("the server closed the connection during the handshake");
    answer[length] = 0;
    char *end = strstr(answer, "\r\n\r\n");
    if (!end && length == sizeof answer - 1) fail("the answer to the handshake is too long");
    if (!end) return false;
    bool chunked = strcasestr(answer, "\r\ntransfer-encoding: chunked");
    if (strncmp(answer, options.sse ? "HTTP/1.1 200" : "HTTP/1.1 101", 12) || (options.sse && !chunked)) {
        fprintf(stderr, "load: the handshake was refused: %.300s\n", answer);
        exit(1);
    }
    if (recv(fd, answer, (size_t)(end + 4 - answer), 0) < 0) fail("recv");
    return true;
}

/* One step of a handshake. True when the subscriber is open. */
static bool step(struct subscriber *one, enum kind kind, int index, uint32_t events)
{
    if (one->state == CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int wrong = 0;
        socklen_t size = sizeof wrong;
        getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &wrong, &size);
        if (wrong) {
            errno = wrong;
            fail("connect");
        }
        ask(one->fd);
        one->state = ANSWERED;
        change(one->fd, kind, index, EPOLLIN);
        return false;
    }
    if (one->state != ANSWERED || !take_answer(one->fd)) return false;
    one->state = OPEN;
    if (kind == STALLED) epoll_ctl(poller, EPOLL_CTL_DEL, one->fd, 0);
    return true;
}

static void start(int number)
{
    enum kind kind = number < options.subscribers ? SUBSCRIBER : STALLED;
    int index = kind == SUBSCRIBER ? number : number - options.subscribers;
    struct subscriber *one = kind == SUBSCRIBER ? &subscribers[index] : &stalled[index];
    one->fd = open_socket(door(number, &server), number, kind == STALLED ? options.receive_buffer : 0);
    one->state = CONNECTING;
    watch(one->fd, kind, index, EPOLLOUT);
}

/* Connect every subscriber; returns how many seconds it took. */
double connect_all(void)
{
    int total = options.subscribers + options.stalled, begun = 0, open = 0;
    int64_t from = now(), last = from;
    struct epoll_event events[256];
    while (open < total) {
        while (begun < total && begun - open < options.at_once) start(begun++);
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            enum kind kind = events[i].data.u64 >> 32;
            int index = (int)(uint32_t)events[i].data.u64;
            struct subscriber *one = kind == SUBSCRIBER ? &subscribers[index] : &stalled[index];
            if (one->state == OPEN) read_subscriber(index);
            else if (step(one, kind, index, events[i].events)) open++, last = now();
        }
        if (now() - last > options.patience * 1e9) fail("connecting: nothing has moved");
    }
    return (double)(now() - from) / 1e9;
}

/* How many of these connections the server has left open. */
int count_open(struct subscriber *some, int count)
{
    int open = 0;
    for (int i = 0; i < count; i++) {
        struct tcp_info info;
        socklen_t size = sizeof info;
        bool asked = some[i].state == OPEN && !getsockopt(some[i].fd, IPPROTO_TCP, TCP_INFO, &info, &size);
        if (asked && info.tcpi_state == TCP_ESTABLISHED) open++;
    }
    return open;
}
