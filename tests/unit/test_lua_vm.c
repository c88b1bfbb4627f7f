/* The state: what scripts may use, and budgets that a script fights. */
#include "lua_vm.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static const pyi_lua_budget SMALL = {.instructions = 2000000, .cpu_ms = 2000, .memory = 8u << 20};

/* Runs a text under a budget (or none). */
static pyi_err run(pyi_lua *vm, const char *text, const pyi_lua_budget *budget, pyi_error *e) {
    pyi_error_init(e);
    pyi_lua_limit(vm, budget);
    pyi_err err = pyi_lua_compile(vm, text, strlen(text), "=test", e);
    if (err == PYI_OK) {
        err = pyi_lua_call(vm, 0, 0, e);
    }
    assert_int_equal(lua_gettop(pyi_lua_state(vm)), 0);
    return err;
}

static pyi_lua *new_vm(void) {
    pyi_lua *vm = NULL;
    pyi_error e;
    pyi_error_init(&e);
    assert_int_equal(pyi_lua_new(&vm, &e), PYI_OK);
    return vm;
}

static void must_run(const char *text, const pyi_lua_budget *budget) {
    pyi_lua *vm = new_vm();
    pyi_error e;
    if (run(vm, text, budget, &e) != PYI_OK) {
        fail_msg("%s\n%s", e.msg, text);
    }
    pyi_lua_free(vm);
}

/* The script must be ended by its budget, within a time, and the state must be good for the next.
 */
static void must_be_ended(const char *text, const char *expected) {
    pyi_lua *vm = new_vm();
    pyi_error e;
    pyi_err err = run(vm, text, &SMALL, &e); /* and not for ever: ctest's time is the bound */
    if (err != PYI_ETOOBIG || strstr(e.msg, expected) == NULL) {
        fail_msg("%d %s\n%s", err, e.msg, text);
    }
    assert_true(pyi_lua_was_spent(vm));
    assert_int_equal(
        run(vm, "assert(1 + 1 == 2); local t = {} for i = 1, 100 do t[i] = {} end", &SMALL, &e),
        PYI_OK);
    pyi_lua_free(vm);
}

static void test_only_the_allow_list_is_there(void **state) {
    (void)state;
    must_run(
        "for _, name in ipairs { 'io', 'debug', 'package', 'dofile', 'loadfile', 'warn' } do\n"
        "  assert(_G[name] == nil, name)\n"
        "end\n"
        "for _, name in ipairs { 'execute', 'exit', 'remove', 'rename', 'tmpname', 'setlocale' } "
        "do\n"
        "  assert(os[name] == nil, name)\n"
        "end\n"
        "assert(string.dump == nil and ('').dump == nil)\n"
        "assert(os.time() > 0 and os.clock() >= 0 and os.date('%Y') and os.difftime(2, 1) == 1)\n"
        "assert(math.max(1, 2) == 2 and utf8.char(228) == 'ä' and table.concat { 1, 2 } == '12')\n",
        NULL);
}

static void test_what_is_withheld_is_told_as_that(void **state) {
    (void)state;
    static const struct {
        const char *script, *told;
    } cases[] = {{"io.open('x')", "io is withheld from configurations"},
                 {"os.execute('ls')", "os.execute is withheld from configurations"},
                 {"os.exit(1)", "return the exit status from main"},
                 {"dofile('x')", "use require"}};
    pyi_lua *vm = new_vm();
    for (size_t i = 0; i < PYI_COUNT(cases); i++) {
        pyi_error e;
        assert_int_equal(run(vm, cases[i].script, NULL, &e), PYI_ECONFIG);
        assert_non_null(strstr(e.msg, "test:1: attempt to"));
        assert_non_null(strstr(e.msg, cases[i].told));
    }
    pyi_error e;
    assert_int_equal(run(vm, "local t = {} t.f()", NULL, &e), PYI_ECONFIG);
    assert_null(strstr(e.msg, "withheld"));
    pyi_lua_free(vm);
}

static void test_bytecode_is_refused(void **state) {
    (void)state;
    pyi_lua *vm = new_vm();
    pyi_error e;
    must_run(
        "local f, why = load('\\27Lua')\nassert(f == nil and why:find('binary', 1, true), why)",
        NULL);
    must_run("local ok, why = pcall(load, function() end)\nassert(not ok and why:find('takes a "
             "string', 1, true))",
             NULL);
    must_run("assert(load('return ...', 'x', 't', {})(5) == 5)\nlocal g = { y = 3 }\n"
             "assert(load('return y', 'x', 'bt', g)() == 3)\nassert(select(2, load('x "
             "=')):find('near', 1, true))",
             NULL);
    pyi_error_init(&e);
    assert_int_equal(pyi_lua_compile(vm, "\33Lua", 4, "=x", &e), PYI_ECONFIG);
    pyi_lua_free(vm);
}

static void test_finalizers_are_refused(void **state) {
    (void)state;
    must_run(
        "local ok, why = pcall(setmetatable, {}, { __gc = function() end })\n"
        "assert(not ok and why:find('__gc', 1, true))\n"
        "local mt = {}\nlocal t = setmetatable({}, mt)\nmt.__gc = function() error('ran') end\n"
        "t = nil\ncollectgarbage()\n"
        "assert(not pcall(setmetatable, setmetatable({}, { __metatable = 1 }), {}))\n"
        "assert(not pcall(setmetatable, {}) and not pcall(setmetatable, {}, 5))\n"
        "assert(setmetatable({}, { __index = { a = 1 } }).a == 1)\n",
        NULL);
}

static void test_an_error_has_message_place_and_traceback(void **state) {
    (void)state;
    pyi_lua *vm = new_vm();
    pyi_error e;
    assert_int_equal(run(vm, "local function f() error('no good') end\nf()", NULL, &e),
                     PYI_ECONFIG);
    assert_string_equal(e.msg, "test:1: no good");
    assert_non_null(strstr(pyi_lua_detail(vm), "stack traceback:"));
    assert_int_equal(run(vm,
                         "error(setmetatable({}, { __tostring = function() return 'shown' end }))",
                         NULL, &e),
                     PYI_ECONFIG);
    assert_string_equal(e.msg, "shown");
    assert_int_equal(run(vm, "x =", NULL, &e), PYI_ECONFIG);
    assert_non_null(strstr(e.msg, "test:1:"));
    pyi_lua_free(vm);
}

static void test_endless_loops_are_ended(void **state) {
    (void)state;
    static const char *const loops[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) "
        "end",
        "local function f() return f() end f()",
        "local function f() pcall(f) f() end f()",
        "while true do local co = coroutine.create(function() while true do end end) "
        "coroutine.resume(co) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "local function nest() local co = coroutine.create(nest) pcall(coroutine.resume, co) while "
        "true do end end nest()",
        "local mt = { __close = function() while true do end end }\n"
        "local co = coroutine.create(function() local x <close> = setmetatable({}, mt) while true "
        "do end end)\n"
        "pcall(coroutine.resume, co) pcall(coroutine.close, co) while true do end",
        "local mt = { __close = function() while true do end end }\n"
        "pcall(coroutine.wrap(function() local x <close> = setmetatable({}, mt) while true do end "
        "end))\n"
        "while true do end",
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) while "
        "true do end",
        "local t = setmetatable({}, { __tostring = function() while true do end end }) error(t)",
        "local t = setmetatable({}, { __index = function(t, k) return t[k] end }) while true do "
        "pcall(function() return t.x end) end",
        "goto a ::a:: goto a",
        "table.sort({ 1, 2, 3, 4 }, function() while true do end end)",
        "('x'):rep(10):gsub('.', function() while true do end end)",
        "while true do load('local x = 1')() end",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true "
        "do co() end",
    };
    for (size_t i = 0; i < PYI_COUNT(loops); i++) {
        must_be_ended(loops[i], "longer than its budget");
    }
}

static void test_a_dead_coroutine_cannot_run_on_with_hooks_off(void **state) {
    (void)state;
    pyi_lua *vm = new_vm();
    pyi_error e;
    const char *make = "local mt = { __close = function() while true do end end }\n"
                       "kept = coroutine.create(function() local x <close> = setmetatable({}, mt) "
                       "while true do end end)\n"
                       "coroutine.resume(kept)";
    assert_int_equal(run(vm, make, &SMALL, &e), PYI_ETOOBIG);
    assert_int_equal(run(vm,
                         "local ok, why = pcall(coroutine.close, kept)\nassert(not ok and "
                         "why:find('budget', 1, true))",
                         &SMALL, &e),
                     PYI_OK);
    pyi_lua_free(vm);
}

static void test_memory_bombs_are_refused(void **state) {
    (void)state;
    static const char *const bombs[] = {
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(100000) .. #t end) end",
        "return ('x'):rep(1 << 30)",
        "local s = 'x' while true do s = s .. s end",
        "local ok = pcall(string.rep, 'x', 1 << 29) local t = {} for i = 1, 10 do t[i] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "string.format('%s', ('y'):rep(1 << 28))",
        "table.concat({ ('x'):rep(4000000), ('y'):rep(4000000) })",
    };
    for (size_t i = 0; i < PYI_COUNT(bombs); i++) {
        must_be_ended(bombs[i], "of memory");
    }
}

static void test_garbage_is_collected_before_memory_is_refused(void **state) {
    (void)state;
    pyi_lua_budget b = {.memory = 4u << 20};
    must_run("for i = 1, 400 do local s = ('x'):rep(1 << 20) .. i end", &b);
}

static void test_memory_once_refused_stays_refused_until_the_next_limit(void **state) {
    (void)state;
    pyi_lua *vm = new_vm();
    pyi_error e;
    assert_int_equal(
        run(vm,
            "pcall(string.rep, 'x', 1 << 28)\n"
            "big = false\nfor i = 1, 3 do if pcall(string.rep, 'x', 1000) then big = true end end",
            &SMALL, &e),
        PYI_ETOOBIG);
    assert_int_equal(run(vm, "assert(not big)", NULL, &e), PYI_OK);
    pyi_lua_free(vm);
}

static void test_work_in_c_is_charged(void **state) {
    (void)state;
    must_be_ended("while true do local s = ('x'):rep(1 << 20) end", "longer than its budget");
    must_be_ended("local s = ('x'):rep(2000) while true do s:find('.-y') end",
                  "longer than its budget");
}

static void test_patterns_that_would_take_too_long_are_refused_under_a_budget(void **state) {
    (void)state;
    static const char text[] =
        "local s = ('a'):rep(%d)\n"
        "for _, f in ipairs { string.find, string.match, string.gmatch, string.gsub } do\n"
        "  local ok, why = pcall(f, s, '.-.-.-.-b', '')\n"
        "  assert(not ok and why:find('repetitions', 1, true), why)\n"
        "end\n"
        "assert(s:find('a-a+', 1, true) == nil)\n"
        "assert(('key = value'):match('^(%%w+)%%s*=%%s*(%%w+)$') == 'key')\n"
        "assert(select(2, ('a,b,c'):gsub('[^,]+', '')) == 3)\n";
    char body[1024];
    snprintf(body, sizeof(body), text, 2000);
    must_run(body, &SMALL);
    must_run("assert(('a'):rep(300):find('.-.-.-b') == nil)", NULL); /* no budget: Lua's own */
}

static void test_table_functions_do_not_loop_in_c_over_a_false_length(void **state) {
    (void)state;
    must_run("local t = setmetatable({}, { __len = function() return 1 << 40 end })\n"
             "assert(not pcall(table.insert, t, 1, 1) and not pcall(table.remove, t, 1))\n"
             "assert(not pcall(table.sort, t) and not pcall(table.concat, t))\n"
             "assert(not pcall(table.move, {}, 1, 1 << 40, 2) and not pcall(table.move, {}, "
             "math.mininteger, math.maxinteger, 1))\n"
             "local u = { 3, 1, 2 }\ntable.insert(u, 4)\ntable.sort(u)\n"
             "assert(table.concat(u, ',') == '1,2,3,4' and table.remove(u) == 4)\n"
             "assert(table.concat(table.move({ 1, 2 }, 1, 2, 2), ',') == '1,1,2')\n",
             &SMALL);
}

static void test_wrapped_functions_behave_as_luas_own(void **state) {
    (void)state;
    must_run(
        "local ok, a, b = xpcall(function(...) return ... end, print, 1, 2)\nassert(ok and a == 1 "
        "and b == 2)\n"
        "ok, a = xpcall(error, function(m) return m .. '!' end, 'x')\nassert(not ok and a == "
        "'x!')\n"
        "local co = coroutine.create(function() return xpcall(function() coroutine.yield(1) "
        "error('e', 0) end,\n"
        "  function(m) return m .. m end) end)\n"
        "assert(select(2, coroutine.resume(co)) == 1)\n"
        "local _, r, m = coroutine.resume(co)\nassert(r == false and m == 'ee')\n"
        "local w = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end)\n"
        "assert(w(1) == 2 and w(5) == 10)\n"
        "ok, m = pcall(w)\nassert(not ok and m:find('dead coroutine', 1, true))\n"
        "local closed\nw = coroutine.wrap(function()\n"
        "  local x <close> = setmetatable({}, { __close = function() closed = true end }) "
        "error('oops') end)\n"
        "ok, m = pcall(w)\nassert(not ok and m:find('oops', 1, true) and closed)\n"
        "local self self = coroutine.wrap(function() return pcall(self) end)\n"
        "ok, m = self()\nassert(not ok and m:find('non-suspended', 1, true))\n"
        "co = coroutine.create(function() local x <close> = setmetatable({}, { __close = "
        "function() closed = 5 end })\n"
        "  coroutine.yield() end)\n"
        "coroutine.resume(co)\nassert(coroutine.close(co) == true and closed == 5)\n"
        "assert(collectgarbage('count') > 1 and collectgarbage() == 0)\n",
        NULL);
}

/* ---- require --------------------------------------------------------------------------------- */

static void write_file(const char *directory, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_require_finds_files_beside_and_nothing_else(void **state) {
    (void)state;
    char directory[] = "/tmp/pyi-lua-XXXXXX", path[128];
    pyi_lua *vm = new_vm();
    pyi_error e;
    pyi_error_init(&e);
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/sub", directory);
    mkdir(path, 0700);
    write_file(
        directory, "one.lua",
        "count = (count or 0) + 1\nlocal name, file = ...\nreturn { name = name, file = file }");
    write_file(path, "two.lua", "return require 'one'");
    write_file(directory, "schema.lua", "return 'mine'");
    write_file(directory, "bad.lua", "x = = 1");
    write_file(directory, "none.lua", "");
    assert_int_equal(pyi_lua_set_directory(vm, directory, &e), PYI_OK);
    pyi_err err = run(
        vm,
        "assert(require 'sub.two' == require 'one' and count == 1)\n"
        "assert(require('one').name == 'one' and require('one').file:find('/one.lua', 1, true))\n"
        "assert(require 'schema' == 'mine' and require('pyisolate.schema').extension)\n"
        "assert(require 'none' == true)\n"
        "for _, name in ipairs { '../one', 'sub/two', '..one', '.one', 'one.', 'a..b', '', "
        "'/etc/passwd', 'o ne',\n"
        "    'pyisolate.nothing', 'nothing', 'sub', 'o\\0ne' } do\n"
        "  local ok, why = pcall(require, name)\n"
        "  assert(not ok and why:find('cannot load module', 1, true), name)\n"
        "end\n"
        "local ok, why = pcall(require, 'bad')\nassert(not ok and why:find('bad.lua:1:', 1, true), "
        "why)\n"
        "local co = coroutine.wrap(function() return require 'sub.two' end)\nassert(co().name == "
        "'one')",
        &SMALL, &e);
    if (err != PYI_OK) {
        fail_msg("%s", e.msg);
    }
    pyi_lua_free(vm);
    static const char *const files[] = {
        "one.lua", "sub/two.lua", "schema.lua", "bad.lua", "none.lua", "sub", ""};
    for (size_t i = 0; i < PYI_COUNT(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
        assert_int_equal(remove(path), 0);
    }
}

static void test_sources_are_bounded_files(void **state) {
    (void)state;
    pyi_error e;
    char *text = NULL;
    size_t len = 0;
    pyi_error_init(&e);
    assert_int_equal(pyi_read_source("/nowhere/x.lua", &text, &len, &e), PYI_ENOTFOUND);
    assert_int_equal(pyi_read_source("/tmp", &text, &len, &e), PYI_ESYS);
    assert_int_equal(pyi_read_source("/dev/zero", &text, &len, &e), PYI_ESYS);
    char path[] = "/tmp/pyi-lua-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)PYI_LUA_MAX_SOURCE + 1), 0);
    assert_int_equal(pyi_read_source(path, &text, &len, &e), PYI_ETOOBIG);
    assert_null(text);
    close(fd);
    unlink(path);
}

static void test_print_goes_to_stdout_line_by_line(void **state) {
    (void)state;
    int fds[2], saved = dup(1);
    char got[64] = "";
    assert_int_equal(pipe(fds), 0);
    fflush(stdout);
    dup2(fds[1], 1);
    pyi_lua *vm = new_vm();
    pyi_error e;
    pyi_err err = run(vm, "print('a', 1, nil, 2.5)", NULL, &e);
    ssize_t len = read(fds[0], got, sizeof(got) - 1); /* before any other flush */
    dup2(saved, 1);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(err, PYI_OK);
    assert_true(len > 0);
    assert_string_equal(got, "a\t1\tnil\t2.5\n");
    pyi_lua_free(vm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_allow_list_is_there),
        cmocka_unit_test(test_what_is_withheld_is_told_as_that),
        cmocka_unit_test(test_bytecode_is_refused),
        cmocka_unit_test(test_finalizers_are_refused),
        cmocka_unit_test(test_an_error_has_message_place_and_traceback),
        cmocka_unit_test(test_endless_loops_are_ended),
        cmocka_unit_test(test_a_dead_coroutine_cannot_run_on_with_hooks_off),
        cmocka_unit_test(test_memory_bombs_are_refused),
        cmocka_unit_test(test_garbage_is_collected_before_memory_is_refused),
        cmocka_unit_test(test_memory_once_refused_stays_refused_until_the_next_limit),
        cmocka_unit_test(test_work_in_c_is_charged),
        cmocka_unit_test(test_patterns_that_would_take_too_long_are_refused_under_a_budget),
        cmocka_unit_test(test_table_functions_do_not_loop_in_c_over_a_false_length),
        cmocka_unit_test(test_wrapped_functions_behave_as_luas_own),
        cmocka_unit_test(test_require_finds_files_beside_and_nothing_else),
        cmocka_unit_test(test_sources_are_bounded_files),
        cmocka_unit_test(test_print_goes_to_stdout_line_by_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
