/* A load on a broker that costs far less than the broker, and the least that any broker could do for it.
 *
 *   load produce PORT FRAMES CONNECTIONS IN_FLIGHT REQUESTS ERROR_AT
 *   load fetch   PORT FRAMES CONNECTIONS REQUESTS OFFSET_AT ERROR_AT RECORDS_AT END_OFFSET
 *   load through PORT PRODUCE_FRAMES FETCH_FRAMES PER_SECOND SECONDS ERROR_AT OFFSET_AT FETCH_ERROR_AT RECORDS_AT OFFSET
 *   load floor   PORT FILE RESPONSE RECORDS_AT CHUNK_BYTES
 *
 * FRAMES: a file of whole requests, each behind its length; connection n sends the n-th again and again. Responses are
 * told apart by their lengths, and looked at in two places only: the error code at ERROR_AT, and, of a Fetch, the
 * record batches behind RECORDS_AT, whose headers say what offset is next. All _AT count from the frame's length.
 *
 * produce: IN_FLIGHT requests open on each connection, REQUESTS in all. fetch: one open on each connection, from offset
 * 0 on and again from 0 at END_OFFSET. through: one record a request at a steady rate on one connection, and a consumer
 * on another; the time of each record from its sending to its receipt.
 * floor: a server that writes what it receives to FILE and answers each frame with RESPONSE; with CHUNK_BYTES it sends
 * as many bytes of FILE behind RESPONSE instead.
 *
 * One thread; prints one JSON object. Bounds: CONNECTIONS_MAX, and a response of at most RECEIVE_BYTES. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, RECEIVE_BYTES = 8 << 20, EVENTS = 256, FLIGHT_MAX = 64 };

typedef struct {
    char *data;
    size_t size;
} Bytes;

typedef struct {
    int fd;
    Bytes frame;
    size_t unsent;             /* bytes of requests that are open and not yet sent */
    int open, first;           /* open requests; the oldest's place in `began` */
    uint64_t began[FLIGHT_MAX]; /* when each open request was given to the socket, ns */
    char *received;
    size_t filled, room;
    uint32_t watched;
    int64_t offset;
} Connection;

static Connection connections[CONNECTIONS_MAX];
static uint32_t *latencies_us;
static size_t latency_count, latency_room;
static int poll_fd;

static void fail(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int32_t int32_at(const char *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return (int32_t)be32toh(v);
}

static int64_t int64_at(const char *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return (int64_t)be64toh(v);
}

static void put_int64(char *p, int64_t value) {
    uint64_t v = htobe64((uint64_t)value);
    memcpy(p, &v, 8);
}

static void put_int32(char *p, int32_t value) {
    uint32_t v = htobe32((uint32_t)value);
    memcpy(p, &v, 4);
}

static Bytes read_file(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s)) fail(path);
    Bytes b = {malloc((size_t)s.st_size), (size_t)s.st_size};
    if (read(fd, b.data, b.size) != (ssize_t)b.size) fail(path);
    close(fd);
    return b;
}

/* The n-th frame of a file of frames, from the first again behind the last; a copy. */
static Bytes frame_of(Bytes all, int n) {
    for (size_t at = 0;;) {
        if (at == all.size) at = 0;
        size_t size = 4 + (size_t)int32_at(all.data + at);
        if (n-- == 0) {
            Bytes b = {malloc(size), size};
            memcpy(b.data, all.data + at, size);
            return b;
        }
        at += size;
    }
}

static void watch(Connection *c, uint32_t events, int how) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    c->watched = events;
    if (epoll_ctl(poll_fd, how, c->fd, &e)) fail("epoll_ctl");
}

static void open_connection(Connection *c, int port, Bytes frame) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->frame = frame;
    c->room = 1 << 16;
    c->received = malloc(c->room);
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
}

/* Opens a request; `send_open` sends it. */
static void begin_request(Connection *c, uint64_t now) {
    c->began[(c->first + c->open++) % FLIGHT_MAX] = now;
    c->unsent += c->frame.size;
}

static void send_open(Connection *c) {
    static char *joined;
    static size_t joined_room;
    while (c->unsent) {
        size_t into = (c->frame.size - c->unsent % c->frame.size) % c->frame.size;
        const char *data = c->frame.data + into;
        size_t size = c->unsent;
        if (size > c->frame.size - into) {
            /* Several requests leave in one call, as a client with a queue sends them. */
            if (size > joined_room) joined = realloc(joined, joined_room = size);
            for (size_t at = 0, from = into; at < size; from = 0) {
                size_t piece = c->frame.size - from;
                memcpy(joined + at, c->frame.data + from, piece);
                at += piece;
            }
            data = joined;
        }
        ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) fail("send");
            if (!(c->watched & EPOLLOUT)) watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        c->unsent -= (size_t)sent;
    }
    if (c->watched & EPOLLOUT) watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void note_latency(uint64_t ns) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 1 << 16;
        latencies_us = realloc(latencies_us, latency_room * sizeof *latencies_us);
    }
    latencies_us[latency_count++] = (uint32_t)(ns / 1000);
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void check_error(const char *frame, long error_at) {
    int16_t code = (int16_t)((unsigned char)frame[error_at] << 8 | (unsigned char)frame[error_at + 1]);
    if (code) {
        fprintf(stderr, "load: a response with error code %d\n", code);
        exit(1);
    }
}

/* Reads what is there; calls `each` for every whole response. */
static void receive(Connection *c, void (*each)(Connection *, char *, size_t)) {
    if (c->room - c->filled < 1 << 15 && c->room < RECEIVE_BYTES) c->received = realloc(c->received, c->room *= 2);
    errno = 0;
    ssize_t count = recv(c->fd, c->received + c->filled, c->room - c->filled, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) fail("the broker closed the connection");
    c->filled += (size_t)count;
    size_t at = 0;
    while (c->filled - at >= 4) {
        size_t size = 4 + (size_t)int32_at(c->received + at);
        if (size > RECEIVE_BYTES) fail("a response longer than this program takes");
        if (c->filled - at < size) break;
        each(c, c->received + at, size);
        at += size;
    }
    if (at) memmove(c->received, c->received + at, c->filled -= at);
}

static void finish_request(Connection *c, uint64_t now) {
    note_latency(now - c->began[c->first]);
    c->first = (c->first + 1) % FLIGHT_MAX;
    c->open--;
}

static void print_result(uint64_t began, double cpu, size_t requests, uint64_t bytes) {
    double seconds = (double)(now_ns() - began) / 1e9;
    qsort(latencies_us, latency_count, sizeof *latencies_us, compare);
    double p50 = latency_count ? latencies_us[latency_count / 2] / 1e3 : 0;
    double p99 = latency_count ? latencies_us[latency_count * 99 / 100] / 1e3 : 0;
    printf("{\"requests\": %zu, \"seconds\": %.4f, \"bytes\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"load_cpu_s\": %.3f}\n",
           requests, seconds, (unsigned long long)bytes, p50, p99, cpu_s() - cpu);
}

/* --- produce ----------------------------------------------------------------------------------------------------- */

static long error_at;
static size_t done;

static void produced(Connection *c, char *frame, size_t size) {
    (void)size;
    check_error(frame, error_at);
    finish_request(c, now_ns());
    done++;
}

static void produce(int port, Bytes frames, int count, int in_flight, size_t requests) {
    size_t begun = 0;
    if (in_flight > FLIGHT_MAX) fail("too many in flight");
    for (int i = 0; i < count; i++) open_connection(&connections[i], port, frame_of(frames, i));
    uint64_t began = now_ns();
    double cpu = cpu_s();
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < in_flight && begun < requests; k++, begun++) begin_request(&connections[i], now_ns());
        send_open(&connections[i]);
    }
    struct epoll_event events[EVENTS];
    while (done < requests) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(c, produced);
            uint64_t now = now_ns();
            while (c->open < in_flight && begun < requests) begin_request(c, now), begun++;
            send_open(c);
        }
    }
    print_result(began, cpu, requests, (uint64_t)requests * connections[0].frame.size);
}

/* --- fetch ------------------------------------------------------------------------------------------------------- */

static long offset_at, fetch_error_at, records_at;
static uint64_t record_bytes;
static void (*arrived)(int64_t next_offset);

static void fetched(Connection *c, char *frame, size_t size) {
    check_error(frame, fetch_error_at);
    int32_t bytes = int32_at(frame + records_at);
    char *at = frame + records_at + 4, *end = at + (bytes > 0 ? bytes : 0);
    if (end > frame + size) fail("records behind the response's end");
    while (end - at >= 61) {
        int64_t next = int64_at(at) + int32_at(at + 23) + 1;
        at += 12 + int32_at(at + 8);
        if (at <= end) c->offset = next;
    }
    record_bytes += (uint64_t)(bytes > 0 ? bytes : 0);
    if (arrived) arrived(c->offset);
    finish_request(c, now_ns());
    done++;
}

static void begin_fetch(Connection *c, int64_t end_offset) {
    if (end_offset >= 0 && c->offset >= end_offset) c->offset = 0;
    put_int64(c->frame.data + offset_at, c->offset);
    begin_request(c, now_ns());
    send_open(c);
}

static void fetch(int port, Bytes frames, int count, size_t requests, int64_t end_offset) {
    size_t begun = 0;
    for (int i = 0; i < count; i++) open_connection(&connections[i], port, frame_of(frames, i));
    uint64_t began = now_ns();
    double cpu = cpu_s();
    for (int i = 0; i < count && begun < requests; i++, begun++) begin_fetch(&connections[i], end_offset);
    struct epoll_event events[EVENTS];
    while (done < requests) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            receive(c, fetched);
            if (c->unsent)
                send_open(c);
            else if (!c->open && begun < requests)
                begin_fetch(c, end_offset), begun++;
        }
    }
    print_result(began, cpu, requests, record_bytes);
}

/* --- from sending to receipt ------------------------------------------------------------------------------------- */

static int64_t first_offset, read_to;
static uint64_t *sent_at;
static size_t sent_count;

static void received_to(int64_t next) {
    uint64_t now = now_ns();
    for (; read_to < next; read_to++)
        if (read_to >= first_offset && (size_t)(read_to - first_offset) < sent_count)
            note_latency(now - sent_at[read_to - first_offset]);
}

static void produced_quietly(Connection *c, char *frame, size_t size) {
    (void)size;
    check_error(frame, error_at);
    c->first = (c->first + 1) % FLIGHT_MAX;
    c->open--;
}

static void fetched_quietly(Connection *c, char *frame, size_t size) {
    fetched(c, frame, size);
    latency_count--; /* the time of the Fetch itself, which waited for records */
}

static void through(int port, Bytes produces, Bytes fetches, int rate, int seconds, int64_t offset) {
    Connection *producer = &connections[0], *consumer = &connections[1];
    size_t records = (size_t)rate * (size_t)seconds;
    sent_at = calloc(records, sizeof *sent_at);
    first_offset = read_to = offset;
    arrived = received_to;
    open_connection(producer, port, frame_of(produces, 0));
    open_connection(consumer, port, frame_of(fetches, 0));
    consumer->offset = offset;
    begin_fetch(consumer, -1);
    uint64_t began = now_ns(), period = 1000000000u / (uint64_t)rate;
    double cpu = cpu_s();
    struct epoll_event events[EVENTS];
    while (read_to < first_offset + (int64_t)records) {
        uint64_t now = now_ns();
        int64_t wait = 1000000000;
        if (sent_count < records) {
            uint64_t due = began + sent_count * period;
            if (now >= due && producer->open < FLIGHT_MAX) {
                sent_at[sent_count++] = now;
                begin_request(producer, now);
                send_open(producer);
                continue;
            }
            wait = producer->open < FLIGHT_MAX ? (int64_t)(due - now) : 1000000000;
        }
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        int ready = epoll_pwait2(poll_fd, events, EVENTS, &timeout, NULL);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            if (c == producer) {
                receive(c, produced_quietly);
                send_open(c);
            } else {
                receive(c, fetched_quietly);
                if (c->unsent)
                    send_open(c);
                else if (!c->open)
                    begin_fetch(c, -1);
            }
        }
    }
    print_result(began, cpu, records, record_bytes);
}

/* --- the floor --------------------------------------------------------------------------------------------------- */

static int file;
static Bytes response;
static long chunk;
static off_t file_size, file_at;

static void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) fail("send");
        if (sent > 0) data += sent, size -= (size_t)sent;
    }
}

static void serve(Connection *c) {
    if (c->room < 1 << 20) c->received = realloc(c->received, c->room = 1 << 20);
    ssize_t count = recv(c->fd, c->received + c->filled, c->room - c->filled, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        close(c->fd);
        return;
    }
    c->filled += (size_t)count;
    size_t at = 0, frames = 0;
    while (c->filled - at >= 4 && c->filled - at >= 4 + (size_t)int32_at(c->received + at)) {
        at += 4 + (size_t)int32_at(c->received + at);
        frames++;
    }
    if (!frames) return;
    if (chunk) {
        while (frames--) {
            if (file_at + chunk > file_size) file_at = 0;
            send_all(c->fd, response.data, response.size);
            for (long left = chunk; left;) {
                ssize_t sent = sendfile(c->fd, file, &file_at, (size_t)left);
                if (sent < 0 && errno != EAGAIN) fail("sendfile");
                if (sent > 0) left -= sent;
            }
        }
    } else {
        static char answers[1 << 20];
        if (write(file, c->received, at) != (ssize_t)at) fail("write");
        size_t size = 0;
        for (; frames--; size += response.size) memcpy(answers + size, response.data, response.size);
        send_all(c->fd, answers, size);
    }
    memmove(c->received, c->received + at, c->filled -= at);
}

static void run_floor(int port, const char *path) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, listening = socket(AF_INET, SOCK_STREAM, 0), made = 0;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    file = chunk ? open(path, O_RDONLY) : open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) fail(path);
    file_size = lseek(file, 0, SEEK_END);
    if (bind(listening, (struct sockaddr *)&a, sizeof a) || listen(listening, 128)) fail("listen");
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listening, &e);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) {
                serve(events[i].data.ptr);
                continue;
            }
            Connection *c = &connections[made++ % CONNECTIONS_MAX];
            memset(c, 0, sizeof *c);
            c->fd = accept(listening, NULL, NULL);
            setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            fcntl(c->fd, F_SETFL, O_NONBLOCK);
            watch(c, EPOLLIN, EPOLL_CTL_ADD);
        }
    }
}

int main(int count, char **words) {
    poll_fd = epoll_create1(0);
    const char *mode = count > 2 ? words[1] : "";
    int port = count > 2 ? atoi(words[2]) : 0;
    if (!strcmp(mode, "produce") && count == 8) {
        error_at = atol(words[7]);
        int made = atoi(words[4]);
        if (made < 1 || made > CONNECTIONS_MAX) fail("the number of connections");
        produce(port, read_file(words[3]), made, atoi(words[5]), (size_t)atol(words[6]));
    } else if (!strcmp(mode, "fetch") && count == 10) {
        offset_at = atol(words[6]), fetch_error_at = atol(words[7]), records_at = atol(words[8]);
        fetch(port, read_file(words[3]), atoi(words[4]), (size_t)atol(words[5]), atoll(words[9]));
    } else if (!strcmp(mode, "through") && count == 12) {
        error_at = atol(words[7]), offset_at = atol(words[8]);
        fetch_error_at = atol(words[9]), records_at = atol(words[10]);
        through(port, read_file(words[3]), read_file(words[4]), atoi(words[5]), atoi(words[6]), atoll(words[11]));
    } else if (!strcmp(mode, "floor") && count == 7) {
        response = read_file(words[4]);
        chunk = atol(words[6]);
        if (chunk) {
            put_int32(response.data, (int32_t)(response.size - 4 + (size_t)chunk));
            put_int32(response.data + atol(words[5]), (int32_t)chunk);
        }
        run_floor(port, words[3]);
    } else {
        errno = 0;
        fail("see the head of load.c for how it is called");
    }
    return 0;
}
