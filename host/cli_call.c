/*
 * call: one call into a running host. Arguments and result are JSON.
 */
#include "cli.h"
#include "control_client.h"
#include "json.h"
#include <stdio.h>
#include <string.h>

static const pyi_option rows[] = {
    PYI_OPTION(0, "kwargs", "JSON", "keyword arguments, an object", kwargs),
    PYI_OPTION(0, "timeout", "SECONDS", "give up, and cancel the call, after this time", timeout),
};

static int not_json(const char *text, const pyi_error *e) {
    pyi_say_error("argument %s: %s", text, e->msg);
    if (*text != '{' && *text != '[' && *text != '"') {
        pyi_say_hint("is it text? then write it so: '\"%s\"'", text);
    }
    return PYI_EXIT_USAGE;
}

static int put_argument(pyi_writer *w, const char *text) {
    pyi_error e = {0};
    if (pyi_json_to_wire(text, strlen(text), w, &e) != PYI_OK) {
        return not_json(text, &e);
    }
    return PYI_EXIT_OK;
}

static int put_kwargs(pyi_writer *w, const char *text) {
    size_t before = w->len;
    pyi_error e = {0};
    pyi_token t = {0};
    if (pyi_json_to_wire(text, strlen(text), w, &e) == PYI_OK) {
        pyi_reader r = pyi_reader_on(w->data + before, w->len - before);
        if (pyi_read(&r, &t) == PYI_OK && t.kind == PYI_MAP) {
            return PYI_EXIT_OK;
        }
    }
    pyi_say_error("--kwargs must be a JSON object%s%s", e.code != PYI_OK ? ": " : "",
                  e.code != PYI_OK ? e.msg : "");
    pyi_say_hint("for example: --kwargs '{\"delay\": 0.1}'");
    return PYI_EXIT_USAGE;
}

static int put_request(const pyi_cli *cli, pyi_writer *w, int argc, char **argv) {
    double timeout = 0;
    if (cli->timeout != NULL && !pyi_parse_seconds("timeout", cli->timeout, &timeout)) {
        return PYI_EXIT_USAGE;
    }
    pyi_put_cstr(w, "extension");
    pyi_put_cstr(w, argv[0]);
    pyi_put_cstr(w, "method");
    pyi_put_cstr(w, argv[1]);
    if (cli->timeout != NULL) {
        pyi_put_cstr(w, "timeout");
        pyi_put_float(w, timeout);
    }
    pyi_put_cstr(w, "args");
    pyi_put_array(w, (uint32_t)argc - 2);
    int status = PYI_EXIT_OK;
    for (int i = 2; i < argc && status == PYI_EXIT_OK; i++) {
        status = put_argument(w, argv[i]);
    }
    if (cli->kwargs != NULL && status == PYI_EXIT_OK) {
        pyi_put_cstr(w, "kwargs");
        status = put_kwargs(w, cli->kwargs);
    }
    return status;
}

static int call(pyi_cli *cli, int argc, char **argv) {
    pyi_writer w;
    pyi_remote_begin(&w, "call", 3 + (cli->timeout != NULL) + (cli->kwargs != NULL));
    int status = put_request(cli, &w, argc, argv);
    if (status != PYI_EXIT_OK) {
        pyi_writer_fini(&w);
        return status;
    }
    pyi_client *client = pyi_remote_open(cli, &status);
    if (client == NULL) {
        pyi_writer_fini(&w);
        return status;
    }
    const char *result = NULL;
    status = pyi_remote_ask(client, &w, &result);
    if (status == PYI_EXIT_OK) {
        pyi_print_json(result);
    }
    pyi_client_close(client);
    return status;
}

const pyi_command pyi_command_call = {
    .name = "call",
    .args = "EXT METHOD [JSON...]",
    .summary = "call a method of an extension of the running host",
    .text = "Each argument is JSON, and so is the result, on stdout. An exception in the extension "
            "is shown with\n"
            "its traceback on stderr, and the exit status is 1. Ctrl-C cancels the call. Integers "
            "may have any\n"
            "size. What a result holds that JSON cannot say (NaN, bytes, dates) is shown as "
            "docs/protocol.md has\n"
            "it, under \"Values as JSON\".",
    .examples = "pyisolate-host call averages mean '[1, 2, 3]'\n"
                "  one argument, a list\n"
                "pyisolate-host call greeter greet '\"Ada\"' --kwargs '{\"loud\": true}'\n"
                "  text has quotes of its own\n"
                "pyisolate-host call averages slow_mean '[1, 2]' --timeout 2\n"
                "  cancelled after two seconds\n",
    .options = PYI_OPTIONS(rows),
    .least = 2,
    .most = -1,
    .handler = call,
};
