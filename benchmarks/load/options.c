/* The command line of the load client. */
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options = {
    .host = "127.0.0.1",
    .publish_path = "/publish/bench",
    .content_type = "text/plain",
    .subscribers = 1,
    .at_once = 64,
    .receive_buffer = 4096,
    .publishers = 1,
    .window = 256,
    .payload = 64,
    .messages = 100,
    .seconds = 3600,
    .patience = 20,
};

static const char usage[] =
    "usage: load --port N [options]\n"
    "  --host ADDRESS --path PATH             where subscribers connect\n"
    "  --sse                                  for server-sent events over HTTP/1.1, instead of by WebSocket\n"
    "  --json                                 messages come in JSON, among other things that are not counted\n"
    "  --publish-port N --publish-path PATH   where publishers POST (the port is --port if not given)\n"
    "  --spread                               every other subscriber and publisher takes the other port\n"
    "  --header 'Name: value'                 on every handshake and publish; repeatable\n"
    "  --subscribers N --stalled N            that read, and that never do\n"
    "  --receive-buffer BYTES                 of those that never read\n"
    "  --at-once N                            handshakes under way at once\n"
    "  --publishers N --payload BYTES         each with one request in flight\n"
    "  --rate N                               publish N a second, each when it is due, by whoever is free\n"
    "  --by-websocket --window N              publish by frames instead, N of each publisher's not yet come back\n"
    "  --messages N --seconds S               publish until one of them is reached\n"
    "  --warmup N                             messages before that, not measured\n"
    "  --expect N --first N                   messages that subscribers are given first, and the number of the first\n"
    "  --trace FILE                           write when each delivered message was due, and how long it took\n"
    "  --record FILE                          write all that subscribers are sent after the warm-up, and when\n"
    "  --patience S                           give up when nothing has moved for so long\n"
    "  --step                                 wait for a line on standard input after each phase\n"
    "SIGUSR1 ends publishing as if the time were up.\n";

static void add_header(const char *line)
{
    size_t length = strlen(options.headers);
    int added = snprintf(options.headers + length, MAX_HEADERS - length, "%s\r\n", line);
    if (added < 0 || (size_t)added >= MAX_HEADERS - length) fail("the headers are too long");
}

static void read_words(int count, char **words)
{
    static const struct option known[] = {
        {"host", 1, 0, 'h'},         {"port", 1, 0, 'p'},           {"path", 1, 0, 'u'},
        {"publish-port", 1, 0, 'P'}, {"publish-path", 1, 0, 'U'},   {"content-type", 1, 0, 'C'},
        {"header", 1, 0, 'H'},       {"subscribers", 1, 0, 'n'},    {"stalled", 1, 0, 's'},
        {"at-once", 1, 0, 'a'},      {"receive-buffer", 1, 0, 'r'}, {"publishers", 1, 0, 'w'},
        {"payload", 1, 0, 'b'},      {"by-websocket", 0, 0, 'f'},   {"window", 1, 0, 'i'},
        {"messages", 1, 0, 'm'},     {"seconds", 1, 0, 't'},        {"warmup", 1, 0, 'g'},
        {"patience", 1, 0, 'z'},     {"step", 0, 0, 'e'},           {"sse", 0, 0, 'E'},
        {"rate", 1, 0, 'R'},         {"expect", 1, 0, 'x'},         {"first", 1, 0, 'y'},
        {"trace", 1, 0, 'T'},        {"spread", 0, 0, 'S'},         {"json", 0, 0, 'j'},
        {"record", 1, 0, 'D'},       {0, 0, 0, 0},
    };
    int letter;
    while ((letter = getopt_long(count, words, "", known, 0)) != -1) {
        switch (letter) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'P': options.publish_port = atoi(optarg); break;
        case 'U': options.publish_path = optarg; break;
        case 'C': options.content_type = optarg; break;
        case 'H': add_header(optarg); break;
        case 'n': options.subscribers = atoi(optarg); break;
        case 's': options.stalled = atoi(optarg); break;
        case 'a': options.at_once = atoi(optarg); break;
        case 'r': options.receive_buffer = atoi(optarg); break;
        case 'w': options.publishers = atoi(optarg); break;
        case 'b': options.payload = atoi(optarg); break;
        case 'f': options.by_websocket = true; break;
        case 'i': options.window = atoi(optarg); break;
        case 'm': options.messages = atol(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'g': options.warmup = atol(optarg); break;
        case 'z': options.patience = atof(optarg); break;
        case 'e': options.step = true; break;
        case 'E': options.sse = true; break;
        case 'R': options.rate = atof(optarg); break;
        case 'x': options.expect = atol(optarg); break;
        case 'y': options.first = atol(optarg); break;
        case 'S': options.spread = true; break;
        case 'j': options.json = true; break;
        case 'D': options.record = optarg; break;
        case 'T': options.trace = optarg; break;
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < count) {
        fputs(usage, stderr);
        exit(2);
    }
}

static void check(bool holds, const char *rule)
{
    if (holds) return;
    fprintf(stderr, "load: %s\n", rule);
    exit(2);
}

void parse_options(int count, char **words)
{
    read_words(count, words);
    if (!options.publish_port) options.publish_port = options.port;
    if (!options.path) options.path = options.sse ? "/sse/bench" : "/ws/bench";
    check(options.port > 0, "--port is needed");
    check(options.subscribers >= 0 && options.stalled >= 0, "there are no negative subscribers");
    check(options.at_once > 0 && options.window > 0, "--at-once and --window are at least 1");
    check(options.publishers >= 0 && options.publishers <= MAX_PUBLISHERS, "too many --publishers");
    check(options.payload >= STAMP, "--payload is at least 40: it holds when, who and which");
    check(!options.by_websocket || options.publishers <= options.subscribers, "each publisher subscribes too");
    check(!options.by_websocket || !(options.sse || options.rate > 0), "--by-websocket has no --sse and no --rate");
    check(!options.json || !(options.sse || options.by_websocket), "--json is for a WebSocket that only listens");
    check(options.expect >= 0 && options.first >= 0, "there are no negative messages");
    server.sin_family = publish_server.sin_family = AF_INET;
    check(inet_pton(AF_INET, options.host, &server.sin_addr) == 1, "--host is an IPv4 address");
    publish_server.sin_addr = server.sin_addr;
    server.sin_port = htons(options.port);
    publish_server.sin_port = htons(options.publish_port);
}
