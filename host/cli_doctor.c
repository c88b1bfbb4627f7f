/*
 * doctor: what this machine has and lacks, each lack with its remedy.
 */
#include "cli.h"
#include "doctor.h"
#include "json.h"
#include <stdio.h>
#include <string.h>

static const pyi_option rows[] = {
    PYI_OPTION(0, "json", NULL, "for programs; names are stable", json),
};

static pyi_style style_of(pyi_verdict v) {
    return v == PYI_FINE ? PYI_STYLE_GREEN : v == PYI_WARN ? PYI_STYLE_YELLOW : PYI_STYLE_RED;
}

static void print_text(const pyi_findings *f) {
    int fd = STDOUT_FILENO;
    const char *before = "";
    for (size_t i = 0; i < f->count; i++) {
        const pyi_finding *item = &f->items[i];
        bool same = strcmp(before, item->name) == 0;
        printf("%s%-4s%s  %s%-9s%s %s\n", pyi_term_style(fd, style_of(item->verdict)),
               pyi_verdict_name(item->verdict), pyi_term_style(fd, PYI_STYLE_NONE),
               pyi_term_style(fd, PYI_STYLE_BOLD), same ? "" : item->name,
               pyi_term_style(fd, PYI_STYLE_NONE), item->what);
        if (item->remedy[0] != '\0') {
            printf("%16s%s%s%s\n", "", pyi_term_style(fd, PYI_STYLE_CYAN), item->remedy,
                   pyi_term_style(fd, PYI_STYLE_NONE));
        }
        before = item->name;
    }
}

static void print_summary(const pyi_findings *f) {
    size_t lacks = 0, warns = 0;
    for (size_t i = 0; i < f->count; i++) {
        lacks += f->items[i].verdict == PYI_LACK;
        warns += f->items[i].verdict == PYI_WARN;
    }
    if (lacks > 0) {
        printf("\n%zu thing%s missing: extensions cannot run here\n", lacks,
               lacks == 1 ? " is" : "s are");
    } else {
        printf("\nextensions can run here%s\n",
               warns > 0 ? "; the warnings are about what is missed later" : "");
    }
}

static int print_findings_json(const pyi_findings *f) {
    pyi_writer w;
    pyi_writer_init(&w, PYI_MAX_CONTROL_LINE);
    pyi_put_map(&w, 2);
    pyi_put_cstr(&w, "ok");
    pyi_put_bool(&w, pyi_findings_healthy(f));
    pyi_put_cstr(&w, "checks");
    pyi_put_array(&w, (uint32_t)f->count);
    for (size_t i = 0; i < f->count; i++) {
        const pyi_finding *item = &f->items[i];
        const char *const pairs[] = {
            "name", item->name, "verdict", pyi_verdict_name(item->verdict),
            "what", item->what, "remedy",  item->remedy[0] != '\0' ? item->remedy : NULL};
        pyi_put_map(&w, PYI_COUNT(pairs) / 2);
        for (size_t k = 0; k < PYI_COUNT(pairs); k++) {
            pyi_put_cstr(&w, pairs[k]);
        }
    }
    PYI_AUTO_FREE char *text = NULL;
    size_t len = 0;
    pyi_error e = {0};
    pyi_reader r = pyi_reader_on(w.data, w.len);
    pyi_err err = pyi_writer_error(&w, &e);
    if (err == PYI_OK) {
        err = pyi_wire_to_json(&r, &text, &len, &e);
    }
    pyi_writer_fini(&w);
    if (err != PYI_OK) {
        return pyi_fail(&e);
    }
    pyi_print_json(text);
    return PYI_EXIT_OK;
}

static int doctor(pyi_cli *cli, int argc, char **argv) {
    (void)argc, (void)argv;
    pyi_findings findings;
    pyi_doctor_examine(&findings);
    int status = PYI_EXIT_OK;
    if (cli->json) {
        status = print_findings_json(&findings);
    } else {
        print_text(&findings);
        print_summary(&findings);
    }
    if (status == PYI_EXIT_OK && !pyi_findings_healthy(&findings)) {
        status = PYI_EXIT_UNAVAILABLE;
    }
    pyi_findings_fini(&findings);
    return status;
}

const pyi_command pyi_command_doctor = {
    .name = "doctor",
    .args = "",
    .summary = "show what this machine has and lacks, with remedies",
    .text = "Finds out by trying: Pythons, uv, package indexes, kernel features, limits, GPU. "
            "Exits 69 when\n"
            "something is missing that every extension needs. Passwords in indexes' addresses are "
            "not shown.",
    .examples = "pyisolate-host doctor\n"
                "  first thing on a new machine\n"
                "pyisolate-host doctor --json | jq '.checks[] | select(.verdict != \"ok\")'\n"
                "  for scripts\n",
    .options = PYI_OPTIONS(rows),
    .handler = doctor,
};
