/* test_heartbeat.c: a queen who is down, slow, rude or comes back, and what she gets to read. */
#include "worker/heartbeat.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BEATS_MAX 64
#define SECOND_S  0.02 /* of the schedule, here */

/* A queen answers the i-th post with the i-th letter of her mood; the last one goes on for ever. */
struct queen {
    const char
        *mood; /* o: ok, h: HTML with 200, 5: a 500, g: garbage, b: a huge answer, c: closes,
                  s: says nothing, w: another JSON, l: ok, but late, d: a byte now and then */
    int fd, port;
    pthread_t thread;
    atomic_bool over;
    atomic_int count;
    double at_s[BEATS_MAX];
    char path[BEATS_MAX][64];
    json_t *body[BEATS_MAX];
};

static void say(int fd, const char *http, const char *type, const char *body)
{
    char text[512];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                          "Connection: close\r\n\r\n%s",
                          http, type, strlen(body), body);
    send(fd, text, (size_t)length, MSG_NOSIGNAL);
}

static void say_much(int fd)
{
    static char page[1 << 20];
    memset(page, ' ', sizeof page);
    static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
    send(fd, page, sizeof page, MSG_NOSIGNAL);
}

/* Each byte in time, all of them beyond the second that these tests wait for an answer. */
static void drip(int fd)
{
    static const char text[] = "HTTP/1.1 200 OK";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        send(fd, text + i, 1, MSG_NOSIGNAL);
        usleep(100000);
    }
}

/* Reads one request and keeps its path and body. */
static void hear(struct queen *queen, int fd, int index)
{
    char text[8192];
    size_t length = 0, wanted = sizeof text - 1;
    while (length < wanted) {
        ssize_t n = recv(fd, text + length, sizeof text - 1 - length, 0);
        if (n <= 0)
            return;
        length += (size_t)n;
        text[length] = 0;
        const char *end = strstr(text, "\r\n\r\n"), *size = strcasestr(text, "content-length:");
        if (end && size)
            wanted = (size_t)(end - text) + 4 + strtoul(size + 15, NULL, 10);
    }
    sscanf(text, "POST %63s", queen->path[index]);
    queen->body[index] = json_loads(strstr(text, "\r\n\r\n") + 4, 0, NULL);
}

static void *reign(void *context)
{
    struct queen *queen = context;
    int silent[BEATS_MAX], silent_count = 0;
    while (!atomic_load(&queen->over)) {
        struct pollfd wait = {.fd = queen->fd, .events = POLLIN};
        if (poll(&wait, 1, 10) <= 0)
            continue;
        int fd = accept(queen->fd, NULL, NULL), i = atomic_load(&queen->count);
        if (fd < 0 || i == BEATS_MAX)
            break;
        queen->at_s[i] = sdw_clock_seconds();
        hear(queen, fd, i);
        size_t last = strlen(queen->mood) - 1;
        char mood = queen->mood[(size_t)i < last ? (size_t)i : last];
        switch (mood) {
        case 'o': say(fd, "200 OK", "application/json", "{\"status\":\"ok\",\"x\":1}"); break;
        case 'l':
            usleep(400000);
            say(fd, "200 OK", "application/json", "{\"status\":\"ok\"}");
            break;
        case 'd': drip(fd); break;
        case 'w': say(fd, "200 OK", "application/json", "{\"status\":\"no\"}"); break;
        case 'h': say(fd, "200 OK", "text/html", "<html>welcome</html>"); break;
        case '5': say(fd, "500 Oh", "application/json", "{\"status\":\"ok\"}"); break;
        case 'g': send(fd, "\x01\x02garbage\r\n\r\n", 13, MSG_NOSIGNAL); break;
        case 'b': say_much(fd); break;
        default: break;
        }
        if (mood == 's')
            silent[silent_count++] = fd;
        else
            close(fd);
        atomic_store(&queen->count, i + 1);
    }
    while (silent_count > 0)
        close(silent[--silent_count]);
    return NULL;
}

static void crown(struct queen *queen, const char *mood)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)queen->port)};
    socklen_t length = sizeof address;
    int on = 1, port = queen->port;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *queen = (struct queen){.mood = mood, .port = port};
    queen->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(queen->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(queen->fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(queen->fd, 16), 0);
    assert_int_equal(getsockname(queen->fd, (struct sockaddr *)&address, &length), 0);
    queen->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&queen->thread, NULL, reign, queen), 0);
}

static void depose(struct queen *queen)
{
    atomic_store(&queen->over, true);
    pthread_join(queen->thread, NULL);
    close(queen->fd);
    for (int i = 0; i < BEATS_MAX; i++)
        json_decref(queen->body[i]);
}

static char url[64];

static const char *busy_with = ""; /* set before a heartbeat begins */

static void tell_detail(void *context, char *text, size_t size)
{
    snprintf(text, size, "%s", *(const char **)context);
}

static struct sdw_heartbeat *begin(const struct queen *queen, bool callback, double second_s)
{
    struct sdw_heartbeat *heartbeat;
    struct sdw_error err = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", queen->port);
    struct sdw_heartbeat_options options = {.queen_url = callback ? NULL : url,
                                            .callback_url = callback ? url : NULL,
                                            .worker_id = "worker-abc123",
                                            .model_id = "sd-v1-5",
                                            .device = "cuda:0",
                                            .version = "0.1.0",
                                            .port = 8600,
                                            .detail = tell_detail,
                                            .detail_context = &busy_with,
                                            .timeout_s = 1,
                                            .second_s = second_s};
    if (sdw_heartbeat_open(&heartbeat, &options, &err))
        fail_msg("%s", err.message);
    return heartbeat;
}

static void wait_for(struct queen *queen, int count)
{
    double end_s = sdw_clock_seconds() + 20;
    while (atomic_load(&queen->count) < count && sdw_clock_seconds() < end_s)
        usleep(1000);
    assert_true(atomic_load(&queen->count) >= count);
}

static void assert_beat(const struct queen *queen, int i, const char *status)
{
    const json_t *body = queen->body[i], *worker = json_object_get(body, "worker");
    static const char *const members[][2] = {{"id", "worker-abc123"},
                                             {"model_id", "sd-v1-5"},
                                             {"device", "cuda:0"},
                                             {"implementation", "sd-worker"},
                                             {"version", "0.1.0"}};
    assert_string_equal(queen->path[i], "/v1/worker-heartbeat");
    for (size_t k = 0; k < sizeof members / sizeof members[0]; k++)
        assert_string_equal(json_string_value(json_object_get(worker, members[k][0])),
                            members[k][1]);
    assert_int_equal(json_integer_value(json_object_get(worker, "port")), 8600);
    assert_string_equal(json_string_value(json_object_get(worker, "status")), status);
    const char *detail = json_string_value(json_object_get(worker, "detail"));
    assert_string_equal(detail ? detail : "", busy_with);
    const char *timestamp = json_string_value(json_object_get(body, "timestamp"));
    assert_int_equal(strlen(timestamp), 30); /* 2026-11-03T21:00:00.123456789Z */
    assert_int_equal(timestamp[29], 'Z');
}

static void every_status_is_told(void **state)
{
    (void)state;
    struct queen queen = {0};
    static const char *const statuses[] = {"starting", "ready", "busy", "ready", "stopping"};
    crown(&queen, "o");
    struct sdw_heartbeat *heartbeat = begin(&queen, false, 1);
    for (int i = 0; i < 5; i++) {
        sdw_heartbeat_status(heartbeat, statuses[i]);
        wait_for(&queen, i + 1);
    }
    sdw_heartbeat_status(heartbeat, "ready"); /* too late */
    sdw_heartbeat_status(heartbeat, "stopped");
    sdw_heartbeat_close(heartbeat, 5);
    wait_for(&queen, 6); /* she counts a beat after she has answered it */
    assert_int_equal(atomic_load(&queen.count), 6);
    for (int i = 0; i < 5; i++)
        assert_beat(&queen, i, statuses[i]);
    assert_beat(&queen, 5, "stopped");
    depose(&queen);
}

static void a_download_is_told(void **state)
{
    (void)state;
    struct queen queen = {0};
    busy_with = "downloading \"a/b\": 1.00 of 4.00 GB (25%), 12.0 MB/s, 250 s left";
    crown(&queen, "o");
    struct sdw_heartbeat *heartbeat = begin(&queen, false, 1);
    wait_for(&queen, 1);
    sdw_heartbeat_close(heartbeat, 1);
    assert_beat(&queen, 0, "starting");
    depose(&queen);
    busy_with = "";
}

static void comes_back_every_interval(void **state)
{
    (void)state;
    struct queen queen = {0};
    crown(&queen, "o");
    struct sdw_heartbeat *heartbeat = begin(&queen, false, SECOND_S);
    wait_for(&queen, 3);
    sdw_heartbeat_close(heartbeat, 1);
    for (int i = 1; i < 3; i++)
        assert_true(queen.at_s[i] - queen.at_s[i - 1] >= 0.98 * 30 * SECOND_S);
    depose(&queen);
}

/* Whatever she says that is not an acknowledgement is tried again on the schedule. */
static void rudeness_is_retried(void **state)
{
    (void)state;
    static const double waits[] = {0, 2, 4, 8, 16, 30, 30};
    static const char *const moods[] = {"hhhhhhho", "5ghcwbgo"};
    for (size_t k = 0; k < sizeof moods / sizeof moods[0]; k++) {
        struct queen queen = {0};
        crown(&queen, moods[k]);
        struct sdw_heartbeat *heartbeat = begin(&queen, false, SECOND_S);
        wait_for(&queen, 8);
        sdw_heartbeat_close(heartbeat, 1);
        for (int i = 0; i < 7; i++) {
            double waited = (queen.at_s[i + 1] - queen.at_s[i]) / SECOND_S;
            if (waited < 0.95 * waits[i])
                fail_msg("retry %d after %.1f of its seconds", i, waited);
            assert_beat(&queen, i, "starting");
        }
        depose(&queen);
    }
}

static void silence_costs_nothing(void **state)
{
    (void)state;
    struct queen queen = {0};
    crown(&queen, "sso");
    struct sdw_heartbeat *heartbeat = begin(&queen, false, SECOND_S);
    wait_for(&queen, 1);
    double start_s = sdw_clock_seconds();
    sdw_heartbeat_status(heartbeat, "ready"); /* returns at once, while she says nothing */
    assert_true(sdw_clock_seconds() - start_s < 0.05);
    wait_for(&queen, 3);
    assert_beat(&queen, 2, "ready");
    sdw_heartbeat_close(heartbeat, 1);
    depose(&queen);

    queen.port = 0;
    crown(&queen, "s");
    heartbeat = begin(&queen, false, SECOND_S);
    wait_for(&queen, 1);
    start_s = sdw_clock_seconds();
    sdw_heartbeat_close(heartbeat, 0.02);
    assert_true(sdw_clock_seconds() - start_s < 0.5); /* not until the post times out */
    depose(&queen);
}

static void assert_counts(struct sdw_heartbeat *heartbeat, int heard_expected, int failed_expected)
{
    uint64_t heard = 0, failed = 0;
    double end_s = sdw_clock_seconds() + 10;
    while ((int)(heard + failed) < heard_expected + failed_expected &&
           sdw_clock_seconds() < end_s) {
        sdw_heartbeat_count(heartbeat, &heard, &failed);
        usleep(1000);
    }
    assert_int_equal(heard, heard_expected);
    assert_int_equal(failed, failed_expected);
}

static void slowness_has_an_end(void **state)
{
    (void)state;
    struct queen queen = {0};
    crown(&queen, "l");
    struct sdw_heartbeat *heartbeat = begin(&queen, false, 1);
    assert_counts(heartbeat, 1, 0); /* late is in time */
    sdw_heartbeat_close(heartbeat, 1);
    depose(&queen);
    queen.port = 0;
    crown(&queen, "do");
    heartbeat = begin(&queen, false, 1);
    assert_counts(heartbeat, 1, 1); /* given up after the second, and tried again */
    sdw_heartbeat_close(heartbeat, 1);
    depose(&queen);
}

static void hears_her_again(void **state)
{
    (void)state;
    struct queen queen = {0};
    crown(&queen, "o");
    struct sdw_heartbeat *heartbeat = begin(&queen, false, SECOND_S);
    wait_for(&queen, 1);
    depose(&queen);
    sdw_heartbeat_status(heartbeat, "ready");
    usleep(100000);
    crown(&queen, "o");
    wait_for(&queen, 1);
    assert_beat(&queen, 0, "ready");
    sdw_heartbeat_close(heartbeat, 1);
    depose(&queen);
}

static void callback_comes_once(void **state)
{
    (void)state;
    struct queen queen = {0};
    crown(&queen, "o");
    struct sdw_heartbeat *heartbeat = begin(&queen, true, SECOND_S);
    static const char *const statuses[] = {"busy", "ready", "busy", "ready"};
    for (int i = 0; i < 4; i++) {
        sdw_heartbeat_status(heartbeat, statuses[i]);
        usleep(20000);
    }
    sdw_heartbeat_close(heartbeat, 1);
    wait_for(&queen, 1);
    assert_int_equal(atomic_load(&queen.count), 1);
    assert_string_equal(queen.path[0], "/");
    assert_non_null(json_object_get(queen.body[0], "worker"));
    depose(&queen);
}

static void bad_urls(void **state)
{
    (void)state;
    struct sdw_heartbeat *heartbeat;
    struct sdw_error err;
    static const char *const urls[] = {"file:///etc/passwd", "localhost:7833", "gopher://x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct sdw_heartbeat_options options = {.queen_url = urls[i]};
        assert_int_equal(sdw_heartbeat_open(&heartbeat, &options, &err), SDW_USAGE);
        assert_non_null(strstr(err.message, urls[i]));
    }
    struct sdw_heartbeat_options none = {0};
    assert_int_equal(sdw_heartbeat_open(&heartbeat, &none, &err), SDW_OK);
    assert_null(heartbeat);
    sdw_heartbeat_status(heartbeat, "ready");
    sdw_heartbeat_close(heartbeat, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_download_is_told),
        cmocka_unit_test(every_status_is_told),
        cmocka_unit_test(comes_back_every_interval),
        cmocka_unit_test(rudeness_is_retried),
        cmocka_unit_test(silence_costs_nothing),
        cmocka_unit_test(slowness_has_an_end),
        cmocka_unit_test(hears_her_again),
        cmocka_unit_test(callback_comes_once),
        cmocka_unit_test(bad_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
