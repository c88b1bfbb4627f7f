/*
 * The control socket over a manager without extensions: the protocol, its bounds, who may connect,
 * one host per configuration. Calls through it are tested by tests/functional.
 */
#include "control.h"
#include "control_client.h"
#include "control_files.h"
#include "pyi_arena.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

typedef struct fixture {
    char dir[32], config[64], path[108];
    pyi_manager *manager;
    pyi_control *control;
    atomic_int stops;
    _Atomic int64_t grace_ms;
} fixture;

static void on_stop(void *arg, bool now, int64_t grace_ms) {
    fixture *f = arg;
    (void)now;
    atomic_store(&f->grace_ms, grace_ms);
    atomic_fetch_add(&f->stops, 1);
}

static pyi_manager *empty_manager(const char *dir) {
    pyi_arena *arena = pyi_arena_new();
    pyi_manager_config *c = calloc(1, sizeof *c);
    c->arena = arena;
    c->directory = c->venv_root_path = pyi_arena_strdup(arena, dir);
    pyi_manager *m = NULL;
    pyi_error e = {0};
    if (pyi_manager_new(c, &m, &e) != PYI_OK) {
        fail_msg("%s", e.msg);
    }
    return m;
}

static pyi_err start(fixture *f, pyi_control **ret, pyi_error *e) {
    pyi_control_options o = {f->path, f->config, on_stop, f};
    return pyi_control_start(f->manager, &o, ret, e);
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    pyi_error e = {0};
    snprintf(f->dir, sizeof f->dir, "/tmp/pyi-ctl-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    unsetenv("RUNTIME_DIRECTORY");
    setenv("XDG_RUNTIME_DIR", f->dir, 1);
    snprintf(f->config, sizeof f->config, "%s/config.lua", f->dir);
    fclose(fopen(f->config, "w"));
    assert_int_equal(pyi_control_path(f->config, f->path, sizeof f->path, &e), PYI_OK);
    f->manager = empty_manager(f->dir);
    assert_int_equal(start(f, &f->control, &e), PYI_OK);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    char runtime[64], lock[128];
    pyi_control_stop(f->control);
    pyi_manager_free(f->manager);
    snprintf(lock, sizeof lock, "%s.lock", f->path);
    assert_int_not_equal(access(f->path, F_OK), 0); // nothing is left behind
    assert_int_not_equal(access(lock, F_OK), 0);
    snprintf(runtime, sizeof runtime, "%s/pyisolate", f->dir);
    assert_int_equal(unlink(f->config), 0);
    rmdir(runtime);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* ---- raw clients ----------------------------------------------------------------------------- */

static int dial(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void say(int fd, const char *line) {
    size_t len = strlen(line);
    assert_int_equal(send(fd, line, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* One line without its newline; "" at the end of the stream. */
static void hear(int fd, char *ret, size_t size) {
    size_t len = 0;
    for (char c; len + 1 < size && recv(fd, &c, 1, 0) == 1 && c != '\n';) {
        ret[len++] = c;
    }
    ret[len] = '\0';
}

static void exchange(int fd, const char *line, char *ret, size_t size) {
    say(fd, line);
    hear(fd, ret, size);
}

#define assert_has(text, part) assert_non_null(strstr((text), (part)))

/* ---- tests ----------------------------------------------------------------------------------- */

static void a_request_gets_its_answer_with_its_id(void **state) {
    fixture *f = *state;
    char line[1024], pid[32];
    int fd = dial(f->path);
    exchange(fd, "{\"id\": 7, \"op\": \"ping\"}\n", line, sizeof line);
    assert_has(line, "\"id\":7");
    assert_has(line, "\"ok\":true");
    snprintf(pid, sizeof pid, "\"pid\":%d", (int)getpid());
    assert_has(line, pid);
    exchange(fd, "{\"id\":\"b\",\"op\":\"version\"}\n", line, sizeof line);
    assert_has(line, "\"id\":\"b\"");
    close(fd);
}

static void several_requests_in_one_write_are_all_answered(void **state) {
    fixture *f = *state;
    char line[1024];
    int fd = dial(f->path);
    say(fd, "{\"id\":1,\"op\":\"ping\"}\n{\"id\":2,\"op\":\"ping\"}\n{\"id\":3,\"op\":");
    hear(fd, line, sizeof line);
    assert_has(line, "\"id\":1");
    hear(fd, line, sizeof line);
    assert_has(line, "\"id\":2");
    exchange(fd, "\"ping\"}\n", line, sizeof line);
    assert_has(line, "\"id\":3");
    close(fd);
}

static void status_tells_of_the_host(void **state) {
    fixture *f = *state;
    char line[4096];
    int fd = dial(f->path);
    exchange(fd, "{\"op\":\"status\"}\n", line, sizeof line);
    assert_has(line, "\"extensions\":[]");
    assert_has(line, f->config);
    close(fd);
}

static void a_bad_request_is_answered_and_the_connection_goes_on(void **state) {
    fixture *f = *state;
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"nonsense\n", "\"ok\":false"},
        {"\n", "\"ok\":false"},
        {"[1,2]\n", "JSON object"},
        {"{}\n", "absent"},
        {"{\"id\":4,\"op\":\"fly\"}\n", "'fly'"},
        {"{\"op\":3}\n", "\"ok\":false"},
        {"{\"op\":\"call\"}\n", "extension"},
        {"{\"op\":\"call\",\"extension\":\"x\",\"method\":\"f\",\"argz\":[1]}\n",
         "no field 'argz'; did you mean 'args'?"},
        {"{\"op\":\"ping\",\"id\":1,\"nonsense\":2}\n", "no field 'nonsense'\""},
        {"{\"op\":\"call\",\"extension\":\"ghost\",\"method\":\"f\"}\n", "'ghost'"},
        {"{\"op\":\"restart\",\"extension\":\"ghost\"}\n", "'ghost'"},
        {"{\"op\":\"cancel\",\"target\":99}\n", "\"value\":false"},
    };
    int fd = dial(f->path);
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        char line[2048];
        exchange(fd, cases[i].line, line, sizeof line);
        assert_has(line, cases[i].part);
    }
    close(fd);
}

static void many_clients_are_served_at_once(void **state) {
    fixture *f = *state;
    enum { CLIENTS = 40 };
    int fds[CLIENTS];
    char line[1024], request[64], id[32];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = dial(f->path);
        assert_true(fds[i] >= 0);
    }
    for (int i = CLIENTS - 1; i >= 0; i--) {
        snprintf(request, sizeof request, "{\"id\":%d,\"op\":\"ping\"}\n", i);
        snprintf(id, sizeof id, "\"id\":%d,", i);
        exchange(fds[i], request, line, sizeof line);
        assert_has(line, id);
    }
    for (int i = 0; i < CLIENTS; i++) {
        close(fds[i]);
    }
}

static void a_client_that_goes_in_mid_line_harms_nobody(void **state) {
    fixture *f = *state;
    char line[1024];
    for (int i = 0; i < 20; i++) {
        int fd = dial(f->path);
        say(fd, i % 2 == 0 ? "{\"op\":\"pi" : "{\"op\":\"status\"}\n");
        close(fd);
    }
    int fd = dial(f->path);
    exchange(fd, "{\"op\":\"ping\"}\n", line, sizeof line);
    assert_has(line, "\"ok\":true");
    close(fd);
}

static void a_client_that_ends_its_sending_side_still_gets_its_answer(void **state) {
    fixture *f = *state;
    char line[1024];
    int fd = dial(f->path);
    say(fd, "{\"op\":\"ping\"}\n");
    shutdown(fd, SHUT_WR);
    hear(fd, line, sizeof line);
    assert_has(line, "\"ok\":true");
    hear(fd, line, sizeof line);
    assert_string_equal(line, ""); // and then the host closes
    close(fd);
}

static void a_line_beyond_the_limit_is_refused(void **state) {
    fixture *f = *state;
    enum { CHUNK = 1 << 20 };
    static char chunk[CHUNK];
    memset(chunk, ' ', sizeof chunk);
    int fd = dial(f->path);
    size_t sent = 0;
    while (sent < PYI_MAX_CONTROL_LINE + (size_t)CHUNK) {
        ssize_t n = send(fd, chunk, sizeof chunk, MSG_NOSIGNAL);
        if (n <= 0) {
            break; // refused: the host has closed
        }
        sent += (size_t)n;
    }
    char line[1024];
    hear(fd, line, sizeof line);
    assert_true(*line == '\0' || strstr(line, "\"too_big\"") != NULL ||
                strstr(line, "may have") != NULL);
    close(fd);
    fd = dial(f->path);
    exchange(fd, "{\"op\":\"ping\"}\n", line, sizeof line);
    assert_has(line, "\"ok\":true");
    close(fd);
}

static void a_stop_reaches_the_host_with_its_grace(void **state) {
    fixture *f = *state;
    char line[1024];
    int fd = dial(f->path);
    exchange(fd, "{\"op\":\"stop\",\"grace\":1.5}\n", line, sizeof line);
    assert_has(line, "\"ok\":true");
    exchange(fd, "{\"op\":\"ping\"}\n", line, sizeof line); // handled after the hook has run
    assert_int_equal(atomic_load(&f->stops), 1);
    assert_int_equal(atomic_load(&f->grace_ms), 1500);
    close(fd);
}

static void the_socket_is_for_its_user_only(void **state) {
    fixture *f = *state;
    struct stat st;
    char runtime[64];
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(runtime, sizeof runtime, "%s/pyisolate", f->dir);
    assert_int_equal(stat(runtime, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

/* Even where the file system would let it in. */
static void another_user_gets_no_answer(void **state) {
    fixture *f = *state;
    if (geteuid() != 0) {
        skip();
    }
    char runtime[64];
    snprintf(runtime, sizeof runtime, "%s/pyisolate", f->dir);
    assert_int_equal(chmod(f->dir, 0755) + chmod(runtime, 0755) + chmod(f->path, 0666), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        if (setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(2);
        }
        int fd = dial(f->path);
        bool told = fd >= 0 && send(fd, "{\"op\":\"ping\"}\n", 14, MSG_NOSIGNAL) == 14 &&
                    recv(fd, &c, 1, 0) == 1;
        _exit(fd < 0 ? 3 : told ? 1 : 0);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(chmod(runtime, 0700), 0);
    assert_int_equal(status, 0);
}

static void a_second_host_of_the_configuration_is_refused_by_pid(void **state) {
    fixture *f = *state;
    pyi_control *second = NULL;
    pyi_error e = {0};
    char pid[32], line[1024];
    assert_int_equal(start(f, &second, &e), PYI_EUNAVAILABLE);
    snprintf(pid, sizeof pid, "pid %d", (int)getpid());
    assert_has(e.msg, pid);
    assert_has(e.msg, f->config);
    int fd = dial(f->path); // and the first one is as it was
    exchange(fd, "{\"op\":\"ping\"}\n", line, sizeof line);
    assert_has(line, "\"ok\":true");
    close(fd);
}

static void what_a_killed_host_left_is_taken_over(void **state) {
    fixture *f = *state;
    pyi_error e = {0};
    pyi_control_stop(f->control);
    f->control = NULL;
    pid_t pid = fork();
    if (pid == 0) { // a host that dies while it holds lock and socket
        int lock_fd = -1;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", f->path);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        bool ok = pyi_control_lock(f->path, f->config, &lock_fd, &e) == PYI_OK &&
                  bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(access(f->path, F_OK), 0);
    assert_int_equal(dial(f->path), -1);
    assert_int_equal(start(f, &f->control, &e), PYI_OK);
    int fd = dial(f->path);
    assert_true(fd >= 0);
    close(fd);
}

static void a_start_sweeps_what_other_killed_hosts_left(void **state) {
    fixture *f = *state;
    char stale[108], lock[128];
    pyi_error e = {0};
    snprintf(stale, sizeof stale, "%s/pyisolate/control-00000000deadbeef.sock", f->dir);
    snprintf(lock, sizeof lock, "%s.lock", stale);
    fclose(fopen(stale, "w"));
    fclose(fopen(lock, "w"));
    pyi_control_stop(f->control);
    f->control = NULL;
    assert_int_equal(start(f, &f->control, &e), PYI_OK);
    assert_int_not_equal(access(stale, F_OK), 0);
    assert_int_not_equal(access(lock, F_OK), 0);
}

static void running_hosts_are_listed(void **state) {
    fixture *f = *state;
    pyi_control_host *hosts = NULL;
    size_t count = 0;
    pyi_error e = {0};
    assert_int_equal(pyi_control_list(&hosts, &count, &e), PYI_OK);
    assert_int_equal(count, 1);
    assert_int_equal(hosts[0].pid, getpid());
    assert_string_equal(hosts[0].config, f->config);
    assert_string_equal(hosts[0].socket, f->path);
    free(hosts);
}

static void the_client_finds_the_only_host_and_gets_values(void **state) {
    fixture *f = *state;
    char path[256];
    pyi_error e = {0};
    pyi_client *client = NULL;
    assert_int_equal(pyi_client_find(NULL, NULL, path, sizeof path, NULL, NULL, &e), PYI_OK);
    assert_string_equal(path, f->path);
    assert_int_equal(pyi_client_open(path, &client, &e), PYI_OK);
    assert_int_equal(pyi_client_peer(client), getpid());
    pyi_writer w;
    pyi_answer answer;
    pyi_reader value;
    pyi_writer_init(&w, PYI_MAX_CONTROL_LINE);
    pyi_put_map(&w, 1);
    pyi_put_cstr(&w, "op");
    pyi_put_cstr(&w, "ping");
    assert_int_equal(pyi_client_request(client, &w, &answer, &e), PYI_OK);
    assert_true(answer.ok);
    assert_int_equal(pyi_client_read(client, &answer, &value, &e), PYI_OK);
    assert_int_equal(pyi_map_int(value, "pid", 0), getpid());
    assert_int_equal(pyi_client_wait_end(client, 10, &e), PYI_EDEADLINE); // it still runs
    pyi_writer_fini(&w);
    pyi_client_close(client);
}

static void a_client_is_told_when_the_host_ends(void **state) {
    fixture *f = *state;
    pyi_error e = {0};
    pyi_client *client = NULL;
    assert_int_equal(pyi_client_open(f->path, &client, &e), PYI_OK);
    pyi_control_stop(f->control);
    f->control = NULL;
    pyi_writer w;
    pyi_answer answer;
    pyi_writer_init(&w, PYI_MAX_CONTROL_LINE);
    pyi_put_map(&w, 0);
    assert_int_equal(pyi_client_request(client, &w, &answer, &e), PYI_EDIED);
    pyi_writer_fini(&w);
    pyi_client_close(client);
    assert_int_equal(pyi_client_open(f->path, &client, &e), PYI_EUNAVAILABLE);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(a_request_gets_its_answer_with_its_id),
        test(several_requests_in_one_write_are_all_answered),
        test(status_tells_of_the_host),
        test(a_bad_request_is_answered_and_the_connection_goes_on),
        test(many_clients_are_served_at_once),
        test(a_client_that_goes_in_mid_line_harms_nobody),
        test(a_client_that_ends_its_sending_side_still_gets_its_answer),
        test(a_line_beyond_the_limit_is_refused),
        test(a_stop_reaches_the_host_with_its_grace),
        test(the_socket_is_for_its_user_only),
        test(another_user_gets_no_answer),
        test(a_second_host_of_the_configuration_is_refused_by_pid),
        test(what_a_killed_host_left_is_taken_over),
        test(a_start_sweeps_what_other_killed_hosts_left),
        test(running_hosts_are_listed),
        test(the_client_finds_the_only_host_and_gets_values),
        test(a_client_is_told_when_the_host_ends),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
