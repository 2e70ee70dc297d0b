/* Closed-loop HTTP/1.1 load generator that checks every answer: N keep-alive connections, one epoll thread, one request in flight each.
 *
 *   generate HOST PORT CONNECTIONS SECONDS PAIRS
 *
 * PAIRS holds one request a line: ITEMS <tab> BODY <tab> EXPECT [<tab> EXPECT ...]. BODY is POSTed to /v1/embeddings; an answer is
 * right when its status is 200, every EXPECT occurs in its body, and "index" occurs exactly ITEMS times (so a merged answer that was
 * not cut apart is wrong even though it holds the right vector). One JSON line comes out:
 *   {"answers":N,"wrong":N,"errors":N,"seconds":S,"per_s":R,"items_per_s":R,"p50_ms":L,"p99_ms":L}
 * At the end no new request is begun, what is in flight is awaited uncounted (5 s at most), so that nothing of one run burdens the next.
 * "wrong" is a 200 with a body that is not ours; "errors" are other statuses, broken framing and lost connections. The first of each is
 * printed to stderr. Any program with these arguments and this output can take its place (HEADRACE_GENERATOR).
 *
 * Why C: on two cores a generator in Python (3-5k/s) would be the bottleneck of what it measures. Leaves to others: open-loop load and
 * latency under a fixed rate, which are the load test's business. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EXPECTS_MAX = 8, CONNECTIONS_MAX = 4096, BUFFER_BYTES = 1 << 20, SAMPLES_MAX = 4 << 20 };

struct pair {
    char *request;
    size_t request_bytes;
    char *expect[EXPECTS_MAX];
    int expect_count, items;
};

struct connection {
    int fd;
    struct pair *pair;
    size_t sent, received;
    int reused; /* an answer has already come over this connection: a silent close is then a keep-alive race, not an error */
    double started;
    char *buffer;
};

static struct pair *pairs;
static size_t pair_count, next_pair;
static struct sockaddr_in address;
static int poller;
static unsigned long answers, items, wrong, errors;
static float *samples;
static int ending;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(2);
}

static void *must(void *memory) {
    if (!memory) die("memory");
    return memory;
}

static void load_pairs(const char *path, const char *host, const char *port) {
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, file)) > 0) {
        if (line[length - 1] == '\n') line[length - 1] = 0;
        char *save = NULL, *items_field = strtok_r(line, "\t", &save), *body = strtok_r(NULL, "\t", &save), *field;
        if (!items_field || !body) continue;
        pairs = must(realloc(pairs, (pair_count + 1) * sizeof *pairs));
        struct pair *pair = &pairs[pair_count++];
        memset(pair, 0, sizeof *pair);
        pair->items = atoi(items_field);
        int bytes = asprintf(&pair->request,
                             "POST /v1/embeddings HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", host, port,
                             strlen(body), body);
        if (bytes < 0) die("memory");
        pair->request_bytes = (size_t)bytes;
        while ((field = strtok_r(NULL, "\t", &save)) && pair->expect_count < EXPECTS_MAX) pair->expect[pair->expect_count++] = must(strdup(field));
    }
    free(line);
    fclose(file);
    if (!pair_count) {
        fprintf(stderr, "%s: no pairs\n", path);
        exit(2);
    }
}

static void watch(struct connection *c, int op, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, op, c->fd, &event)) die("epoll_ctl");
}

static void send_rest(struct connection *c);

static void open_connection(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->reused = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void begin(struct connection *c) {
    if (ending) {
        ending--;
        watch(c, EPOLL_CTL_MOD, 0);
        c->pair = NULL;
        return;
    }
    c->pair = &pairs[next_pair++ % pair_count];
    c->sent = c->received = 0;
    c->started = now();
    send_rest(c);
}

static void complain(struct connection *c, const char *why, unsigned long count) {
    if (count == 0) fprintf(stderr, "generate: %s\n  sent %.300s\n  got  %.600s\n", why, c->pair->request, c->received ? c->buffer : "(nothing)");
}

static void reopen(struct connection *c) {
    close(c->fd);
    open_connection(c);
}

static void fail(struct connection *c, const char *why) {
    complain(c, why, errors);
    errors++;
    reopen(c);
    begin(c);
}

static void send_rest(struct connection *c) {
    while (c->sent < c->pair->request_bytes) {
        ssize_t n = send(c->fd, c->pair->request + c->sent, c->pair->request_bytes - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            c->sent += (size_t)n;
        } else if (errno == EAGAIN) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        } else {
            break; /* the peer closed: the read side finds out and decides */
        }
    }
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static int right(struct connection *c, const char *body) {
    for (int i = 0; i < c->pair->expect_count; i++)
        if (!strstr(body, c->pair->expect[i])) return 0;
    int found = 0;
    for (const char *at = body; (at = strstr(at, "\"index\"")); at += 7) found++;
    return found == c->pair->items;
}

/* One whole answer lies in the buffer: judge it, take its time, ask again. */
static void finish(struct connection *c, const char *body) {
    int status = atoi(c->buffer + 9);
    if (status != 200) {
        complain(c, "not 200", errors);
        errors++;
    } else if (!right(c, body)) {
        complain(c, "wrong body", wrong);
        wrong++;
    } else {
        if (answers < SAMPLES_MAX) samples[answers] = (float)(now() - c->started);
        answers++;
        items += (unsigned long)c->pair->items;
    }
    c->reused = 1;
    if (strcasestr(c->buffer, "\r\nconnection: close")) reopen(c);
    begin(c);
}

static void readable(struct connection *c) {
    if (!c->pair) return;
    ssize_t n = recv(c->fd, c->buffer + c->received, BUFFER_BYTES - 1 - c->received, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (c->received == 0 && c->reused) {
            struct pair *again = c->pair;
            reopen(c);
            c->pair = again;
            c->sent = 0;
            send_rest(c);
        } else {
            fail(c, "connection lost");
        }
        return;
    }
    c->received += (size_t)n;
    c->buffer[c->received] = 0;
    char *head_end = strstr(c->buffer, "\r\n\r\n");
    if (!head_end) {
        if (c->received == BUFFER_BYTES - 1) fail(c, "head too long");
        return;
    }
    *head_end = 0; /* look for the length in the head only */
    char *length_field = strcasestr(c->buffer, "\r\ncontent-length:");
    *head_end = '\r';
    if (!length_field) {
        fail(c, "no content-length");
        return;
    }
    size_t need = (size_t)(head_end + 4 - c->buffer) + strtoul(length_field + 17, NULL, 10);
    if (need > BUFFER_BYTES - 1) fail(c, "answer too long");
    else if (c->received > need) fail(c, "bytes after the answer");
    else if (c->received == need) finish(c, head_end + 4);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void turn(void) {
    struct epoll_event events[256];
    int ready = epoll_wait(poller, events, 256, 50);
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->pair && events[i].events & EPOLLOUT) send_rest(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
}

static void report(double took) {
    size_t kept = answers < SAMPLES_MAX ? answers : SAMPLES_MAX;
    qsort(samples, kept, sizeof *samples, by_value);
    printf("{\"answers\":%lu,\"wrong\":%lu,\"errors\":%lu,\"seconds\":%.3f,\"per_s\":%.1f,\"items_per_s\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", answers, wrong,
           errors, took, (double)answers / took, (double)items / took, kept ? 1e3 * (double)samples[kept / 2] : 0.0,
           kept ? 1e3 * (double)samples[kept * 99 / 100] : 0.0);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: generate HOST PORT CONNECTIONS SECONDS PAIRS\n");
        return 2;
    }
    int count = atoi(argv[3]);
    if (count < 1 || count > CONNECTIONS_MAX) {
        fprintf(stderr, "connections: 1 to %d\n", CONNECTIONS_MAX);
        return 2;
    }
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 || (ntohl(address.sin_addr.s_addr) >> 24) != 127) {
        fprintf(stderr, "only loopback addresses are a target\n");
        return 2;
    }
    load_pairs(argv[5], argv[1], argv[2]);
    poller = epoll_create1(0);
    samples = must(malloc(SAMPLES_MAX * sizeof *samples));
    struct connection *connections = must(calloc((size_t)count, sizeof *connections));
    for (int i = 0; i < count; i++) {
        connections[i].buffer = must(malloc(BUFFER_BYTES));
        open_connection(&connections[i]);
    }
    double begun = now(), until = begun + atof(argv[4]);
    for (int i = 0; i < count; i++) begin(&connections[i]);
    while (now() < until && errors < 10000) turn();
    double took = now() - begun;
    report(took);
    ending = count;
    for (until = now() + 5; ending && now() < until;) turn();
    return 0;
}
