/*
 * The identity of an environment: a hash over all that decides what is in it, so that equal ones
 * are built once and a changed one gets a folder of its own.
 *
 *   format, backend | interpreter | requirements (normal form, sorted) | constraints, overrides
 *   | requirement files with all that they include | local projects | sources of the machine |
 * flags
 *
 * A local project counts by names, sizes and times of its files; an editable one only by the files
 * that its installation is made from, because its code is used where it lies.
 */
#include "env_backend.h"
#include "requirement.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT    "pyisolate-env 1"
#define MAX_DEPTH 32 /* of folders in a local project */

static void hash_stat(pyi_hash *h, const char *name, const struct stat *st) {
    char text[96];
    snprintf(text, sizeof(text), "%lld %lld.%09ld", (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    pyi_hash_field(h, name, text);
}

void pyi_env_requirement_files(const pyi_env_plan *plan, pyi_requirement_set *ret) {
    const pyi_strings *files = &plan->extension->requirements;
    PYI_AUTO_FREE char *here = plan->cwd != NULL ? strdup(plan->cwd) : getcwd(NULL, 0);
    ret->local.failed = here == NULL;
    for (size_t i = 0; here != NULL && i < files->count; i++) {
        pyi_requirement_set_add(ret, files->items[i], here);
    }
}

/* What a build or a tool leaves in a project, and what is no part of it. */
static int is_content(const struct dirent *entry) {
    static const char *const skipped[] = {"build", "dist", "node_modules", "venv", "__pycache__"};
    const char *name = entry->d_name;
    size_t len = strlen(name);
    for (size_t i = 0; i < PYI_COUNT(skipped); i++) {
        if (strcmp(name, skipped[i]) == 0) {
            return 0;
        }
    }
    return name[0] != '.' && !(len > 9 && strcmp(name + len - 9, ".egg-info") == 0) &&
           !(len > 4 && strcmp(name + len - 4, ".pyc") == 0);
}

static void hash_tree(pyi_hash *h, const char *dir, int depth) {
    struct dirent **entries = NULL;
    int n = depth > MAX_DEPTH ? 0 : scandir(dir, &entries, is_content, alphasort);
    for (int i = 0; i < n; i++) {
        PYI_AUTO_FREE char *path = NULL;
        struct stat st;
        if (asprintf(&path, "%s/%s", dir, entries[i]->d_name) > 0 && lstat(path, &st) == 0) {
            if (S_ISDIR(st.st_mode)) {
                hash_tree(h, path, depth + 1);
            } else {
                hash_stat(h, path, &st);
            }
        }
        free(entries[i]);
    }
    free(entries);
}

static void hash_local(pyi_hash *h, const char *requirement) {
    static const char *const makers[] = {"pyproject.toml", "setup.py", "setup.cfg"};
    PYI_AUTO_FREE char *path = pyi_requirement_path(requirement);
    struct stat st;
    if (path == NULL) {
        return;
    }
    if (stat(path, &st) != 0) {
        pyi_hash_field(h, path, NULL);
    } else if (!S_ISDIR(st.st_mode)) {
        hash_stat(h, path, &st);
    } else if (pyi_requirement_editable(requirement) == NULL) {
        hash_tree(h, path, 0);
    } else {
        for (size_t i = 0; i < PYI_COUNT(makers); i++) {
            PYI_AUTO_FREE char *file = NULL;
            if (asprintf(&file, "%s/%s", path, makers[i]) > 0) {
                pyi_hash_file(h, makers[i], file);
            }
        }
    }
}

/* In their normal form and sorted: the order in which they are written changes nothing. */
static pyi_err hash_specifiers(pyi_hash *h, const char *name, const char *const *items,
                               size_t count, pyi_error *e) {
    PYI_AUTO_LIST pyi_list normal = {0};
    for (size_t i = 0; i < count; i++) {
        PYI_AUTO_FREE char *text = pyi_requirement_normal(items[i]);
        normal.failed = normal.failed || text == NULL;
        if (text != NULL) {
            pyi_redact(text);
        }
        pyi_list_push(&normal, text);
    }
    if (normal.failed) {
        return pyi_error_set(e, PYI_ENOMEM, "env.key", "out of memory");
    }
    pyi_list_sort(&normal);
    for (size_t i = 0; i < normal.count; i++) {
        pyi_hash_field(h, name, normal.items[i]);
    }
    return PYI_OK;
}

static pyi_err hash_requirement_files(pyi_hash *h, const pyi_env_plan *plan, pyi_error *e) {
    __attribute__((cleanup(pyi_requirement_set_fini))) pyi_requirement_set set = {0};
    pyi_env_requirement_files(plan, &set);
    for (size_t i = 0; i < set.files.count; i++) {
        pyi_hash_field(h, "file", set.files.items[i]);
        pyi_hash_file(h, "contents", set.files.items[i]);
    }
    for (size_t i = 0; i < set.local.count; i++) {
        hash_local(h, set.local.items[i]);
    }
    return set.files.failed || set.local.failed
               ? pyi_error_set(e, PYI_ENOMEM, "env.key", "out of memory")
               : PYI_OK;
}

static void hash_interpreter(pyi_hash *h, const pyi_interpreter *i) {
    pyi_hash_field(h, "executable", i->executable);
    pyi_hash_field(h, "version", i->version);
    pyi_hash_field(h, "sys.version", i->sys_version);
    pyi_hash_field(h, "platform", i->platform);
}

static pyi_err hash_plan(pyi_hash *h, const pyi_env_plan *plan, pyi_error *e) {
    const pyi_extension_config *x = plan->extension;
    const pyi_list *reqs = plan->requirements;
    if (hash_specifiers(h, "requirement", (const char *const *)reqs->items, reqs->count, e) !=
            PYI_OK ||
        hash_specifiers(h, "constrain", x->constraints.items, x->constraints.count, e) != PYI_OK ||
        hash_specifiers(h, "overriding", x->overrides.items, x->overrides.count, e) != PYI_OK) {
        return e->code;
    }
    for (size_t i = 0; i < reqs->count; i++) {
        hash_local(h, reqs->items[i]);
    }
    if (hash_requirement_files(h, plan, e) != PYI_OK) {
        return e->code;
    }
    hash_interpreter(h, plan->interpreter);
    if (reqs->count > 0 || x->requirements.count > 0) { /* else nothing is fetched from anywhere */
        pyi_env_sources_hash(plan->sources, h);
    }
    pyi_hash_field(h, "share_torch", x->share_torch ? "1" : "0");
    pyi_hash_field(h, "share_torch_no_deps", x->share_torch_no_deps ? "1" : "0");
    return PYI_OK;
}

pyi_err pyi_env_key(const pyi_env_plan *plan, const char *backend, char ret_id[33], pyi_error *e) {
    pyi_hash *h = pyi_hash_new();
    if (h == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "env.key", "out of memory");
    }
    pyi_hash_field(h, "format", FORMAT);
    pyi_hash_field(h, "backend", backend);
    pyi_err err = hash_plan(h, plan, e);
    pyi_hash_hex(h, ret_id, 33);
    pyi_hash_free(h);
    return err;
}
