/*
 * Talking to the host that runs: which one is meant, one request, errors in words. An exception
 * that an extension raised is shown as Python would: type, message, the remote traceback, and what
 * caused it.
 */
#include "cli.h"
#include "control_client.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void list_hosts(const pyi_control_host *hosts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        pyi_say_hint("-c %s   (pid %d)", hosts[i].config, hosts[i].pid);
    }
}

static int nobody_runs(const char *config) {
    PYI_AUTO_FREE pyi_control_host *hosts = NULL;
    size_t count = 0;
    pyi_error e = {0};
    pyi_say_error("no host is running '%s'", config);
    if (pyi_control_list(&hosts, &count, &e) == PYI_OK && count > 0) {
        pyi_say_hint("what runs:");
        list_hosts(hosts, count);
    } else {
        pyi_say_hint("start it: pyisolate-host %s", config);
    }
    return PYI_EXIT_UNAVAILABLE;
}

pyi_client *pyi_remote_open(const pyi_cli *cli, int *ret_status) {
    PYI_AUTO_FREE pyi_control_host *hosts = NULL;
    size_t count = 0;
    char path[256];
    pyi_error e = {0};
    const char *config = cli->socket == NULL ? pyi_cli_config(cli, NULL) : NULL;
    if (pyi_client_find(cli->socket, config, path, sizeof path, &hosts, &count, &e) != PYI_OK) {
        *ret_status = e.code == PYI_ENOTFOUND ? pyi_fail_config(&e) : pyi_fail(&e);
        list_hosts(hosts, count);
        return NULL;
    }
    pyi_client *client = NULL;
    if (pyi_client_open(path, &client, &e) == PYI_OK) {
        return client;
    }
    *ret_status = e.code == PYI_EUNAVAILABLE && config != NULL ? nobody_runs(config) : pyi_fail(&e);
    return NULL;
}

void pyi_remote_begin(pyi_writer *w, const char *op, uint32_t more) {
    pyi_writer_init(w, PYI_MAX_CONTROL_LINE);
    pyi_put_map(w, 1 + more);
    pyi_put_cstr(w, "op");
    pyi_put_cstr(w, op);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static pyi_err code_of(const char *name) {
    for (int code = 1; name != NULL && code < PYI_ERR_COUNT; code++) {
        if (strcmp(pyi_err_name((pyi_err)code), name) == 0) {
            return (pyi_err)code;
        }
    }
    return PYI_EINTERNAL;
}

/* One that was raised in C code has no frames: its traceback says no more than the line above it.
 */
static void say_traceback(const char *type, const char *message, const char *traceback) {
    size_t type_len = type != NULL ? strlen(type) : 0;
    size_t len = message != NULL ? strlen(message) : 0;
    if (traceback != NULL && type_len > 0 && strncmp(traceback, type, type_len) == 0 &&
        strncmp(traceback + type_len, ": ", 2) == 0 && message != NULL &&
        strncmp(traceback + type_len + 2, message, len) == 0 &&
        strspn(traceback + type_len + 2 + len, "\n") == strlen(traceback + type_len + 2 + len)) {
        return;
    }
    pyi_say_detail(traceback);
}

static void say_cause(pyi_reader error) {
    PYI_AUTO_FREE char *type = pyi_map_string(error, "type");
    PYI_AUTO_FREE char *message = pyi_map_string(error, "message");
    PYI_AUTO_FREE char *traceback = pyi_map_string(error, "traceback");
    pyi_say_cause("%s: %s", type != NULL ? type : "an error", message != NULL ? message : "");
    say_traceback(type, message, traceback);
}

static int say_answer_error(pyi_reader error) {
    PYI_AUTO_FREE char *code = pyi_map_string(error, "code");
    PYI_AUTO_FREE char *type = pyi_map_string(error, "type");
    PYI_AUTO_FREE char *message = pyi_map_string(error, "message");
    PYI_AUTO_FREE char *traceback = pyi_map_string(error, "traceback");
    PYI_AUTO_FREE char *detail = pyi_map_string(error, "detail");
    bool remote = pyi_map_kind(error, "module") == PYI_STR;
    if (remote && type != NULL) {
        pyi_say_error("%s%s%s", type, message != NULL && *message != '\0' ? ": " : "",
                      message != NULL ? message : "");
    } else {
        pyi_say_error("%s", message != NULL ? message : "the host answered with an error");
    }
    say_traceback(type, message, traceback);
    pyi_say_detail(detail);
    pyi_reader cause;
    while (pyi_map_get(error, "cause", &cause) && pyi_map_kind(error, "cause") == PYI_MAP) {
        say_cause(cause);
        error = cause;
    }
    return remote ? PYI_EXIT_FAILURE : pyi_exit_of(code_of(code));
}

int pyi_remote_ask(pyi_client *client, pyi_writer *w, const char **ret_text) {
    pyi_error e = {0};
    pyi_answer answer;
    pyi_reader error;
    pyi_err err = pyi_client_request(client, w, &answer, &e);
    pyi_writer_fini(w);
    if (err == PYI_OK && answer.ok) {
        *ret_text = answer.text;
        return PYI_EXIT_OK;
    }
    if (err != PYI_OK || pyi_client_read(client, &answer, &error, &e) != PYI_OK) {
        return pyi_fail(&e);
    }
    return say_answer_error(error);
}

int pyi_remote_request(pyi_client *client, pyi_writer *w, pyi_reader *ret_value) {
    pyi_error e = {0};
    pyi_answer answer = {.ok = true};
    int status = pyi_remote_ask(client, w, &answer.text);
    if (status == PYI_EXIT_OK && pyi_client_read(client, &answer, ret_value, &e) != PYI_OK) {
        status = pyi_fail(&e);
    }
    return status;
}

bool pyi_parse_seconds(const char *option, const char *text, double *ret) {
    char *end = NULL;
    errno = 0;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(seconds >= 0)) {
        pyi_say_error("--%s is '%s'; it must be a number of seconds", option, text);
        return false;
    }
    *ret = seconds;
    return true;
}
