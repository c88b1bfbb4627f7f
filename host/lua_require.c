/*
 * `require`: modules compiled into the host ("pyisolate.NAME"), then NAME.lua beside the
 * configuration. Files are text, bounded in size, and stay below the configuration's folder by name
 * (no "..", no "/"). The text of each chunk is kept, because the lines of table fields are looked
 * up in it (lua/locate.lua).
 */
#include "lua_vm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

extern const struct {
    const char *name;
    const char *source;
    size_t len;
} pyi_lua_sources[];

#define REQUIRED 3 /* stack position in `require` of the chunk it runs */

static const char SOURCES_KEY = 0; /* registry: chunk name -> text */

/* ---- files ----------------------------------------------------------------------------------- */

static pyi_err read_all(int fd, const char *path, char *text, size_t size, size_t *ret_len,
                        pyi_error *e) {
    size_t len = 0;
    while (len < size) {
        ssize_t got = read(fd, text + len, size - len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return pyi_error_sys(e, errno, "lua.read", "cannot read '%s'", path);
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
    }
    *ret_len = len;
    return PYI_OK;
}

static pyi_err open_source(const char *path, int *ret_fd, size_t *ret_size, pyi_error *e) {
    PYI_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT) {
        return pyi_error_set(e, PYI_ENOTFOUND, "lua.read", "'%s' does not exist", path);
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        return pyi_error_sys(e, errno, "lua.read", "cannot open '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return pyi_error_sys(e, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "lua.read",
                             "'%s' is not a file", path);
    }
    if (st.st_size > (off_t)PYI_LUA_MAX_SOURCE) {
        return pyi_error_set(e, PYI_ETOOBIG, "lua.read", "'%s' has %lld bytes; at most %u are read",
                             path, (long long)st.st_size, PYI_LUA_MAX_SOURCE);
    }
    *ret_size = (size_t)st.st_size;
    *ret_fd = pyi_steal_fd(&fd);
    return PYI_OK;
}

pyi_err pyi_read_source(const char *path, char **ret_text, size_t *ret_len, pyi_error *e) {
    PYI_AUTO_FD int fd = -1;
    size_t size = 0, len = 0;
    pyi_err err = open_source(path, &fd, &size, e);
    if (err != PYI_OK) {
        return err;
    }
    PYI_AUTO_FREE char *text = malloc(size + 1);
    if (text == NULL) {
        return pyi_error_set(e, PYI_ENOMEM, "lua.read", "no memory to read '%s'", path);
    }
    err = read_all(fd, path, text, size, &len, e);
    if (err != PYI_OK) {
        return err;
    }
    text[len] = '\0';
    *ret_len = len;
    *ret_text = pyi_steal(&text);
    return PYI_OK;
}

/* ---- kept sources ---------------------------------------------------------------------------- */

static int keep_source(lua_State *L) { // stack: chunk, text
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &SOURCES_KEY) == LUA_TNIL) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &SOURCES_KEY);
        lua_replace(L, 3);
    }
    lua_insert(L, 1); // stack: sources, chunk, text
    lua_rawset(L, 1);
    return 0;
}

pyi_err pyi_lua_keep_source(lua_State *L, const char *chunk, const char *text, size_t len,
                            pyi_error *e) {
    lua_pushcfunction(L, keep_source);
    pyi_err err = pyi_lua_push_bytes(L, chunk, strlen(chunk), e);
    if (err != PYI_OK) {
        lua_pop(L, 1);
        return err;
    }
    err = pyi_lua_push_bytes(L, text, len, e);
    if (err != PYI_OK) {
        lua_pop(L, 2);
        return err;
    }
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        lua_pop(L, 1);
        return pyi_error_set(e, PYI_ENOMEM, "lua.read", "out of memory");
    }
    return PYI_OK;
}

void pyi_lua_push_source(lua_State *L, const char *chunk) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &SOURCES_KEY) != LUA_TTABLE) {
        return; // stack: nil
    }
    lua_pushstring(L, chunk);
    lua_rawget(L, -2);
    lua_remove(L, -2); // stack: text or nil
}

/* ---- require --------------------------------------------------------------------------------- */

static bool name_is_good(const char *name) {
    if (name[0] == '\0' || name[0] == '.' || strlen(name) > 200) {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        bool word =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        if (!word && *p != '_' && *p != '-' && !(*p == '.' && p[1] != '.' && p[1] != '\0')) {
            return false;
        }
    }
    return true;
}

static pyi_err compile_embedded(lua_State *L, const char *name, pyi_error *e) {
    char chunk[80];
    snprintf(chunk, sizeof(chunk), "=pyisolate.%s", name);
    for (size_t i = 0; pyi_lua_sources[i].name != NULL; i++) {
        if (strcmp(pyi_lua_sources[i].name, name) != 0) {
            continue;
        }
        if (luaL_loadbufferx(L, pyi_lua_sources[i].source, pyi_lua_sources[i].len, chunk, "t") ==
            LUA_OK) {
            return PYI_OK;
        }
        pyi_error_set(e, PYI_EINTERNAL, "lua.require", "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        return e->code;
    }
    return pyi_error_set(e, PYI_ENOTFOUND, "lua.require", "there is no module 'pyisolate.%s'",
                         name);
}

static pyi_err compile_file(lua_State *L, const char *path, pyi_error *e) {
    PYI_AUTO_FREE char *text = NULL;
    size_t len = 0;
    char chunk[4200];
    pyi_err err = pyi_read_source(path, &text, &len, e);
    if (err != PYI_OK) {
        return err;
    }
    snprintf(chunk, sizeof(chunk), "@%s", path);
    err = pyi_lua_keep_source(L, chunk, text, len, e);
    if (err != PYI_OK) {
        return err;
    }
    if (luaL_loadbufferx(L, text, len, chunk, "t") != LUA_OK) {
        const char *what = lua_tostring(L, -1);
        pyi_error_set(e, PYI_ECONFIG, "lua.require", "%s", what != NULL ? what : "out of memory");
        lua_pop(L, 1);
        return e->code;
    }
    return PYI_OK;
}

/* Leaves the module's function on the stack. Never raises. */
static pyi_err compile_module(pyi_lua *vm, lua_State *L, const char *name, char *path, size_t size,
                              pyi_error *e) {
    static const char ours[] = "pyisolate.";
    if (strncmp(name, ours, sizeof(ours) - 1) == 0) {
        snprintf(path, size, "%s", name);
        return compile_embedded(L, name + sizeof(ours) - 1, e);
    }
    if (!name_is_good(name)) {
        return pyi_error_set(
            e, PYI_EINVAL, "lua.require",
            "'%s' is not a module's name (letters, digits, _, -, and . for a folder)", name);
    }
    const char *directory = pyi_lua_directory(vm);
    int len = snprintf(path, size, "%s/", directory != NULL ? directory : ".");
    if (len < 0 || (size_t)len + strlen(name) + sizeof(".lua") > size) {
        return pyi_error_set(e, PYI_ETOOBIG, "lua.require", "the path of module '%s' is too long",
                             name);
    }
    for (const char *p = name; *p != '\0'; p++) {
        path[len++] = *p == '.' ? '/' : *p;
    }
    memcpy(path + len, ".lua", sizeof(".lua"));
    return compile_file(L, path, e);
}

static int require(lua_State *L) {
    static const char ours[] = "pyisolate.";
    const char *name = luaL_checkstring(L, 1);
    char path[4096];
    pyi_error e;
    lua_settop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE); // stack: name, loaded
    if (lua_getfield(L, 2, name) != LUA_TNIL) {
        return 1;
    }
    lua_pop(L, 1);
    luaL_checkstack(L, 8, NULL);
    pyi_error_init(&e);
    if (compile_module(pyi_lua_of(L), L, name, path, sizeof(path), &e) != PYI_OK) {
        return luaL_error(L, "cannot load module '%s': %s", name, e.msg);
    }                                // stack: name, loaded, f
    lua_pushfstring(L, "@%s", path); /* at REQUIRED, for pyi_lua_push_required */
    lua_insert(L, REQUIRED);         // stack: name, loaded, chunk, f
    lua_pushvalue(L, 1);
    if (strncmp(name, ours, sizeof(ours) - 1) == 0) {
        pyi_lua_push_raw(L);
    } else {
        lua_pushstring(L, path);
    }
    lua_call(L, 2, 1); // stack: name, loaded, chunk, result
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

bool pyi_lua_push_required(lua_State *L, lua_Debug *ar) {
    lua_getinfo(L, "f", ar);
    bool is_require = lua_tocfunction(L, -1) == require;
    lua_pop(L, 1);
    return is_require && lua_getlocal(L, ar, REQUIRED) != NULL;
}

void pyi_lua_open_require(lua_State *L) {
    lua_pushcfunction(L, require);
    lua_setglobal(L, "require");
}
