/* The floor: the same fan-out as a bare loop in C. One thread, one frame encoded per message, one write() per subscriber.
 *
 *   cc -O2 -o floor floor.c && ./floor PORT
 *
 * Any GET is taken as a WebSocket handshake (with the one key that the load client sends), any POST publishes its body
 * to all as a text frame. A subscriber that does not take a frame is waited for. It checks and bounds no more than it
 * must to run: it shows what the machine can do, not how to write a server. */
#define _GNU_SOURCE /* accept4, strcasestr */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FILES = 1 << 17, REQUEST = 2 << 20, FRAME_HEAD = 10 };

struct connection {
    char *request; /* from the first POST on */
    size_t length;
    int place; /* among the subscribers, counted from 1 */
};

static struct connection connections[MAX_FILES];
static int subscribers[MAX_FILES], subscribed;

static void end(int fd)
{
    struct connection *one = &connections[fd];
    if (one->place) {
        int last = subscribers[--subscribed];
        subscribers[one->place - 1] = last;
        connections[last].place = one->place;
    }
    free(one->request);
    *one = (struct connection){0};
    close(fd);
}

static void write_all(int fd, const char *data, size_t length)
{
    while (length) {
        ssize_t wrote = write(fd, data, length);
        if (wrote < 0 && errno != EAGAIN) return; /* gone: its end is read */
        if (wrote < 0) poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else data += wrote, length -= (size_t)wrote;
    }
}

static void publish(const char *body, size_t length)
{
    static char frame[FRAME_HEAD + REQUEST];
    size_t head = 0;
    frame[head++] = (char)0x81;
    if (length < 126) frame[head++] = (char)length;
    else if (length < 65536) frame[head++] = 126, frame[head++] = (char)(length >> 8), frame[head++] = (char)length;
    else {
        frame[head++] = 127;
        for (int shift = 56; shift >= 0; shift -= 8) frame[head++] = (char)(length >> shift);
    }
    memcpy(frame + head, body, length);
    for (int i = 0; i < subscribed; i++) write_all(subscribers[i], frame, head + length);
}

static void subscribe(int fd)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    write_all(fd, answer, sizeof answer - 1);
    subscribers[subscribed++] = fd;
    connections[fd].place = subscribed;
}

static void read_request(int fd)
{
    static char first[1 << 16];
    struct connection *one = &connections[fd];
    char *into = one->request ? one->request : first;
    size_t room = one->request ? REQUEST : sizeof first;
    ssize_t got = recv(fd, into + one->length, room - 1 - one->length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        end(fd);
        return;
    }
    if (one->place) return; /* a subscriber says nothing that matters here */
    if (!one->request && !strncmp(first, "GET", 3)) {
        subscribe(fd);
        return;
    }
    if (!one->request) {
        one->request = malloc(REQUEST);
        memcpy(one->request, first, (size_t)got);
    }
    one->length += (size_t)got;
    one->request[one->length] = 0;
    char *body = strstr(one->request, "\r\n\r\n"), *size = strcasestr(one->request, "\r\ncontent-length:");
    if (!body || !size) return;
    body += 4;
    size_t wanted = (size_t)atol(size + 17);
    if (one->length < (size_t)(body - one->request) + wanted) return;
    publish(body, wanted);
    one->length = 0;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    write_all(fd, answer, sizeof answer - 1);
}

static void watch(int poller, int fd)
{
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
}

static int listen_on(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, 4096)) {
        perror("floor");
        exit(1);
    }
    return fd;
}

int main(int count, char **words)
{
    if (count != 2) return fputs("usage: floor PORT\n", stderr), 2;
    signal(SIGPIPE, SIG_IGN);
    int poller = epoll_create1(0), listener = listen_on(atoi(words[1])), one = 1;
    watch(poller, listener);
    while (true) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                read_request(fd);
                continue;
            }
            fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
            if (fd < 0 || fd >= MAX_FILES) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            watch(poller, fd);
        }
    }
}
