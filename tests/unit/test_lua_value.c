/* Values between Lua and the wire: what goes out, what comes in, and what goes both ways. */
#include "lua_value.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* encode(v): bytes of v, or nil and the error's text. decode(bytes): the value, or nil and the
 * text. args(...) */
static int encode(lua_State *L) {
    pyi_writer w;
    pyi_error e;
    pyi_error_init(&e);
    pyi_writer_init(&w, 1 << 24);
    int top = lua_gettop(L);
    pyi_err err = lua_toboolean(L, lua_upvalueindex(1)) ? pyi_lua_encode_args(L, 1, top, &w, &e)
                                                        : pyi_lua_encode(L, 1, &w, &e);
    assert_int_equal(lua_gettop(L), top);
    if (err != PYI_OK) {
        lua_pushnil(L);
        lua_pushstring(L, e.msg);
        lua_pushstring(L, pyi_err_name(err));
    } else {
        lua_pushlstring(L, (const char *)w.data, w.len);
    }
    pyi_writer_fini(&w);
    return err != PYI_OK ? 3 : 1;
}

static int decode(lua_State *L) {
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    pyi_reader r = pyi_reader_on(data, len);
    pyi_error e;
    pyi_error_init(&e);
    int top = lua_gettop(L);
    if (pyi_lua_decode(L, &r, &e) != PYI_OK) {
        assert_int_equal(lua_gettop(L), top);
        lua_pushnil(L);
        lua_pushstring(L, e.msg);
        return 2;
    }
    assert_int_equal(lua_gettop(L), top + 1);
    return 1;
}

static int validate(lua_State *L) {
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    pyi_error e;
    pyi_error_init(&e);
    lua_pushboolean(L, pyi_validate(data, len, &e) == PYI_OK);
    lua_pushstring(L, e.msg);
    return 2;
}

static int open_all(lua_State *L) {
    pyi_lua_open_kinds(L);
    lua_setglobal(L, "kinds");
    lua_pushboolean(L, 0);
    lua_pushcclosure(L, encode, 1);
    lua_setglobal(L, "encode");
    lua_pushboolean(L, 1);
    lua_pushcclosure(L, encode, 1);
    lua_setglobal(L, "args");
    lua_register(L, "decode", decode);
    lua_register(L, "validate", validate);
    return 0;
}

static const char HEAD[] =
    "local v = require('pyisolate.values')(kinds)\n"
    "local function kind(x) local k = getmetatable(x) return k ~= 'pyisolate.dict' and k or nil "
    "end\n"
    "local function same(a, b)\n" /* a plain table comes back as a dict */
    "  if type(a) ~= type(b) or kind(a) ~= kind(b) then return false end\n"
    "  if type(a) ~= 'table' then return a == b and math.type(a) == math.type(b) or a ~= a and b "
    "~= b end\n"
    "  for k, x in pairs(a) do if not same(x, b[k]) then return false end end\n"
    "  for k in pairs(b) do if a[k] == nil then return false end end\n"
    "  return true\n"
    "end\n"
    "local function trip(x)\n"
    "  local bytes = assert(encode(x))\n"
    "  assert(validate(bytes))\n"
    "  local back, why = decode(bytes)\n"
    "  assert(why == nil, why)\n"
    "  return back\n"
    "end\n"
    "local function hex(s) return (s:gsub('.', function(c) return ('%02x'):format(c:byte()) end)) "
    "end\n"
    "local function bin(s) return (s:gsub('%x%x', function(h) return string.char(tonumber(h, 16)) "
    "end)) end\n"
    "local function is(text, x) local got = hex(assert(encode(x))) assert(got == text, got) end\n"
    "local function refuses(text, x)\n"
    "  local ok, why, code = encode(x)\n"
    "  assert(ok == nil and why:find(text, 1, true), tostring(why))\n"
    "end\n";

static void check(const char *body) {
    char text[16384];
    pyi_lua *vm = NULL;
    pyi_error e;
    pyi_error_init(&e);
    snprintf(text, sizeof(text), "%s%s", HEAD, body);
    assert_int_equal(pyi_lua_new(&vm, &e), PYI_OK);
    lua_pushcfunction(pyi_lua_state(vm), open_all);
    assert_int_equal(pyi_lua_call(vm, 0, 0, &e), PYI_OK);
    pyi_err err = pyi_lua_compile(vm, text, strlen(text), "=test", &e);
    if (err == PYI_OK) {
        err = pyi_lua_call(vm, 0, 0, &e);
    }
    if (err != PYI_OK) {
        fail_msg("%s", pyi_lua_detail(vm));
    }
    pyi_lua_free(vm);
}

static void test_scalars_keep_their_type(void **state) {
    (void)state;
    check("for _, x in ipairs { 0, -1, 127, 128, -129, math.maxinteger, math.mininteger, 1.0, 1.5, "
          "-0.0, math.huge, 0/0,\n"
          "  true, false, '', 'text', 'ä€𝄞', ('x'):rep(70000) } do\n"
          "  assert(same(trip(x), x), tostring(x))\n"
          "end\n"
          "assert(trip(nil) == nil and trip(v.null) == nil)\n"
          "is('01', 1) is('cb3ff0000000000000', 1.0) is('c0', nil) is('c0', v.null) is('c3', true) "
          "is('a178', 'x')\n"
          "assert(tostring(v.null) == 'pyisolate.null' and v.null)\n");
}

static void test_a_sequence_is_a_list_and_any_other_table_a_dict(void **state) {
    (void)state;
    check("is('90', {}) is('93010203', { 1, 2, 3 }) is('81a16101', { a = 1 }) is('80', v.dict {}) "
          "is('90', v.list {})\n"
          "is('8102a178', v.dict { [2] = 'x' }) is('8100a178', { [0] = 'x' }) "
          "is('81cb3ff8000000000000c3', { [1.5] = true })\n"
          "is('9201c0', { 1, v.null })\n"
          "local mixed = trip { 1, 2, x = 3 }\nassert(mixed[1] == 1 and mixed[2] == 2 and mixed.x "
          "== 3)\n"
          "local t = {} for i = 10, 1, -1 do t[i] = i end\nassert(same(trip(t), t))\n"
          "local nested = { a = { 1, { b = { 2, 3 } } }, c = 'x' }\nassert(same(trip(nested), "
          "nested))\n"
          "local got = decode(encode { 1, v.null, 3 })\nassert(#got == 3 and got[2] == v.null)\n"
          "got = decode(encode(v.dict { a = v.null }))\nassert(got.a == v.null)\n"
          "local big = {} for i = 1, 100000 do big[i] = i end\nassert(#trip(big) == 100000)\n");
}

static void test_holes_and_wrong_keys_are_errors(void **state) {
    (void)state;
    check("refuses('value: the list has holes', { 1, nil, 3 })\n"
          "refuses('value: the list has holes', { [2] = 1 })\n"
          "refuses('value.a[2]: the list has holes', { a = { 1, { [7] = 1 } } })\n"
          "refuses('value[2]: is nil: a list has no holes', v.list { 1, nil, 3 })\n"
          "refuses('keys that are no positions', v.tuple { a = 1 })\n"
          "refuses('keys that are no positions', v.list { [0] = 1 })\n");
}

static void test_what_cannot_be_sent_is_named_by_its_path(void **state) {
    (void)state;
    check(
        "local _, why, code = args('x', { a = { 1, 2, print } })\n"
        "assert(why == 'args[2].a[3]: a function cannot be sent' and code == 'type', code)\n"
        "_, why = args(1, v.kwargs { f = coroutine.create(print) })\n"
        "assert(why == 'kwargs.f: a thread cannot be sent', why)\n"
        "_, why = args(v.kwargs { 5 })\nassert(why:find('keyword arguments have names', 1, true))\n"
        "_, why = args(v.kwargs {}, 1)\nassert(why:find('args[1]: pyisolate.kwargs must be the "
        "last', 1, true))\n"
        "refuses('value: the string is not UTF-8: send it as pyisolate.bytes', '\\xff')\n"
        "refuses('value.k: the string is not UTF-8', { k = '\\xc3' })\n"
        "refuses('is not UTF-8', { ['\\xff'] = 1 })\n"
        "refuses('value[1]: a function cannot be sent', { string.gmatch('', '') })\n");
}

static void test_arguments_and_keyword_arguments(void **state) {
    (void)state;
    check("assert(hex(args()) == '9080')\n"
          "assert(hex(args(1, nil, 'x')) == '9301c0a17880')\n"
          "assert(hex(args(1, v.kwargs { d = 2 })) == '910181a16402')\n"
          "assert(hex(args(v.kwargs {})) == '9080')\n"
          "assert(hex(args(nil)) == '91c080')\n");
}

static void test_a_table_in_itself_is_refused(void **state) {
    (void)state;
    check("local t = {} t[1] = t\nrefuses('nested too deep', t)\n"
          "local d = {} for _ = 1, 127 do d = { d } end\nassert(encode(d))\n"
          "local deep = d for _ = 1, 5 do deep = { deep } end\nrefuses('nested too deep', deep)\n");
}

static void test_kinds_go_both_ways(void **state) {
    (void)state;
    check("for _, x in ipairs {\n"
          "  v.tuple { 1, 'a', v.tuple {} }, v.set { 1, 2 }, v.frozenset { 'x' }, v.complex { re = "
          "1.5, im = -2.0 },\n"
          "  v.datetime { year = 2026, month = 11, day = 23, hour = 1, minute = 2, second = 3, "
          "microsecond = 4, fold = 0 },\n"
          "  v.datetime { year = 1, month = 1, day = 1, hour = 0, minute = 0, second = 0, "
          "microsecond = 0, fold = 1,\n"
          "    offset = -3600, zone = 'CET' },\n"
          "  v.date { year = 2026, month = 1, day = 2 },\n"
          "  v.time { hour = 23, minute = 59, second = 58, microsecond = 999999, fold = 0, offset "
          "= 7200 },\n"
          "  v.timedelta { days = -1, seconds = 5, microseconds = 6 },\n"
          "  v.int '123456789012345678901234567890', v.int "
          "'-170141183460469231731687303715884105728',\n"
          "  v.ndarray { dtype = '<f4', shape = { 2, 1 }, data = '12345678' },\n"
          "} do\n"
          "  local back = trip(x)\n"
          "  assert(same(back, x), tostring(x) .. ' became ' .. tostring(back))\n"
          "end\n"
          "assert(trip(v.bytes '\\0\\xff') == v.bytes '\\0\\xff' and hex(encode(v.bytes 'ab')) == "
          "'c4026162')\n"
          "assert(tostring(v.bytes 'ab') == 'ab' and #v.bytes 'abc' == 3)\n"
          "local t = decode(encode(v.tuple { 1, v.null }))\nassert(#t == 2 and t[2] == v.null)\n"
          "assert(same(v.tuple(decode(encode(v.list { 1 }))), v.tuple { 1 }))\n"
          "assert(getmetatable(v.tuple {}) == 'pyisolate.tuple' and not pcall(setmetatable, "
          "v.tuple {}, {}))\n");
}

static void test_kinds_read_well(void **state) {
    (void)state;
    check(
        "local function shows(text, x) assert(tostring(x) == text, tostring(x)) end\n"
        "shows('tuple{1, \"a\"}', v.tuple { 1, 'a' }) shows('set{1}', v.set { 1 }) shows('dict{a = "
        "1}', v.dict { a = 1 })\n"
        "shows('(1.5-2j)', v.complex { re = 1.5, im = -2.0 }) shows('2026-01-02', v.date { year = "
        "2026, month = 1, day = 2 })\n"
        "shows('2026-01-02T03:04:05.000006-01:30', v.datetime { year = 2026, month = 1, day = 2, "
        "hour = 3, minute = 4,\n"
        "  second = 5, microsecond = 6, offset = -5400 })\n"
        "shows('-1 days, 5.000006 s', v.timedelta { days = -1, seconds = 5, microseconds = 6 })\n"
        "shows('12345678901234567890', v.int '12345678901234567890')\n"
        "shows('ndarray <f4 (2, 1)', v.ndarray { dtype = '<f4', shape = { 2, 1 }, data = '' })\n");
}

static void test_damaged_kinds_are_refused(void **state) {
    (void)state;
    check(
        "local b = v.bytes 'x' b[1] = 5 refuses('pyisolate.bytes', b)\n"
        "local i = v.int '12345678901234567890' i[1] = '12x' refuses('is not an integer', i)\n"
        "i[1] = {} refuses('pyisolate.int', i)\n"
        "refuses('value.month: must be a whole number', v.date { year = 1, month = 'x', day = 1 "
        "})\n"
        "refuses('value.zone: must be a string', v.time { zone = {} })\n"
        "refuses('value.dtype: must be a string', v.ndarray { shape = {}, data = '' })\n"
        "refuses('value.shape: must be a list', v.ndarray { dtype = 'x', shape = 1, data = '' })\n"
        "assert(not pcall(v.bytes, 5) and not pcall(v.int, 'x') and not pcall(v.int, 1.5) and not "
        "pcall(v.tuple, 5))\n");
}

static void test_big_integers_fit_or_become_text(void **state) {
    (void)state;
    check("assert(v.int(5) == 5 and trip(v.int '5') == 5 and trip(v.int '-129') == -129)\n"
          "assert(trip(v.int '9223372036854775807') == math.maxinteger)\n"
          "assert(trip(v.int '-9223372036854775808') == math.mininteger)\n"
          "for _, digits in ipairs { '9223372036854775808', '-9223372036854775809', "
          "'18446744073709551615',\n"
          "  '18446744073709551616', '1' .. ('0'):rep(400), '-' .. ('9'):rep(1000), "
          "'340282366920938463463374607431768211456' } do\n"
          "  local got = trip(v.int(digits))\n"
          "  assert(tostring(got) == digits, tostring(got))\n"
          "end\n"
          "assert(tostring(decode(bin 'cfffffffffffffffff')) == '18446744073709551615')\n"
          "assert(trip(v.int '0xff') == 255 and tostring(trip(v.int '-0x10000000000000000')) == "
          "'-18446744073709551616')\n"
          "local long = trip(v.int('0x1' .. "
          "('0'):rep(6000)))\nassert(tostring(long):find('^0x0?10+$') and #tostring(long) > 6000)\n"
          "assert(same(trip(long), long))\n"
          "refuses('decimal digits', v.int(('1'):rep(6000)))\n"
          "assert(v.int '12345678901234567890' == v.int '12345678901234567890')\n");
}

static void test_numpy_scalars_become_lua_numbers(void **state) {
    (void)state;
    check("local function scalar(dtype, data) local n = setmetatable({ dtype = dtype, data = data "
          "}, nil) return n end\n"
          "local function npscalar(dtype, data)\n"
          "  local body = '\\x92' .. string.char(0xa0 + #dtype) .. dtype .. '\\xc4' .. "
          "string.char(#data) .. data\n"
          "  return decode('\\xc7' .. string.char(#body) .. '\\x0d' .. body)\n"
          "end\n"
          "assert(npscalar('<f8', string.pack('<d', 2.5)) == 2.5 and npscalar('>f8', "
          "string.pack('>d', 2.5)) == 2.5)\n"
          "assert(npscalar('<f4', string.pack('<f', 0.5)) == 0.5 and npscalar('<f2', bin '003c') "
          "== 1.0)\n"
          "assert(npscalar('<f2', bin '00fc') == -math.huge and npscalar('<f2', bin '0100') == 2.0 "
          "^ -24)\n"
          "assert(npscalar('|i1', '\\xff') == -1 and npscalar('|u1', '\\xff') == 255 and "
          "npscalar('<i8', string.pack('<i8', -5)) == -5)\n"
          "assert(npscalar('>i2', bin 'fffe') == -2 and math.type(npscalar('<i4', bin '01000000')) "
          "== 'integer')\n"
          "assert(npscalar('|b1', '\\1') == true and npscalar('|b1', '\\0') == false)\n"
          "assert(tostring(npscalar('<u8', ('\\xff'):rep(8))) == '18446744073709551615')\n"
          "local odd = npscalar('<M8[s]', ('\\1'):rep(8))\n"
          "assert(odd.dtype == '<M8[s]' and #odd.data == 8 and tostring(odd) == 'numpy <M8[s] "
          "0x0101010101010101')\n"
          "assert(same(trip(odd), odd))\n"
          "assert(npscalar('<f8', 'abc').data == 'abc' and scalar)\n");
}

static void test_bytes_uuids_and_paths_keep_their_kind_and_read_as_strings(void **state) {
    (void)state;
    check("local u = decode('\\xd8\\x0a' .. bin '00112233445566778899aabbccddeeff')\n"
          "assert(tostring(u) == '00112233-4455-6677-8899-aabbccddeeff' and same(trip(u), u))\n"
          "assert(same(trip(v.uuid '00112233445566778899AABBCCDDEEFF'), u))\n"
          "local p = decode('\\xc7\\x05\\x0b\\xa4/tmp')\n"
          "assert(tostring(p) == '/tmp' and p .. '/x' == '/tmp/x' and p:sub(2) == 'tmp' and "
          "same(trip(p), p))\n"
          "local b = trip(v.bytes 'abc')\n"
          "assert(#b == 3 and b:byte(1) == 97 and b:upper() == 'ABC' and b[1] == 'abc' and b.none "
          "== nil)\n"
          "assert(b == v.bytes 'abc' and b ~= 'abc' and b < v.bytes 'b' and b ~= v.path 'abc')\n"
          "assert(getmetatable(b) == 'pyisolate.bytes')\n"
          "assert(not pcall(v.uuid, 'xyz') and not pcall(v.uuid, 5) and not pcall(v.path, {}))\n"
          "u[1] = 'zz' refuses('32 hexadecimal digits', u)\n"
          "p[1] = 5 refuses('pyisolate.path', p)\n");
}

static void test_lone_surrogates_go_both_ways(void **state) {
    (void)state;
    check("local s = 'a\\xed\\xa0\\x80'\n"
          "assert(decode('\\xc7\\x04\\x0ea\\xed\\xa0\\x80') == s and trip(s) == s)\n"
          "local p = v.path(s)\n"
          "assert(same(trip(p), p))\n"
          "assert(trip { [s] = 1 }[s] == 1)\n");
}

static void test_a_dict_stays_a_dict(void **state) {
    (void)state;
    check("assert(hex(encode(decode(bin '80'))) == '80' and hex(encode(decode(bin '810102'))) == "
          "'810102')\n"
          "local d = decode(bin '81a16101')\nd.a = nil\nassert(hex(encode(d)) == '80')\n"
          "assert(hex(encode(decode(bin '90'))) == '90')\n");
}

static void test_hostile_bytes_give_errors(void **state) {
    (void)state;
    check("for _, bytes in ipairs { '', '\\xc1', '\\x92\\x01', '\\xdd\\xff\\xff\\xff\\xff', "
          "'\\xdf\\x00\\x00\\x10\\x00', '\\xd9\\x05ab',\n"
          "  '\\xc7\\x01\\x01\\x05', '\\xd4\\x0a\\x00', '\\xd4\\x63\\x00', '\\xc7\\x00\\x06', "
          "'\\xd4\\x0c\\x05', '\\xd4\\x0d\\x90' } do\n"
          "  local x, why = decode(bytes)\n"
          "  assert(x == nil and why, hex(bytes))\n"
          "end\n"
          "for ext = 20, 23 do\n"
          "  local x, why = decode('\\xd4' .. string.char(ext) .. '\\0')\n"
          "  assert(x == nil and why:find('not available yet', 1, true))\n"
          "end\n"
          "assert(select(2, decode(('\\x91'):rep(200) .. '\\xc0')))\n"
          "assert(select(2, decode('\\x81\\xcb' .. string.pack('>d', 0/0) .. '\\x01')):find('nan', "
          "1, true))\n"
          "assert(decode(bin '81c001')[v.null] == 1)\n"
          "local seed = encode { 1, 'two', v.tuple { 3.5, v.int '99999999999999999999' }, { a = "
          "v.date { year = 1 } } }\n"
          "for i = 1, #seed do\n"
          "  decode(seed:sub(1, i - 1))\n"
          "  for _, b in ipairs { 0, 0x7f, 0x91, 0xc7, 0xdd, 0xff } do decode(seed:sub(1, i - 1) "
          ".. string.char(b) .. seed:sub(i + 1)) end\n"
          "end\n");
}

static void test_a_value_over_the_limit_is_an_error(void **state) {
    (void)state;
    check("local ok, why, code = encode(('x'):rep(1 << 25))\nassert(ok == nil and code == 'toobig' "
          "or code, why)\n"
          "local t = {} for i = 1, 40 do t[i] = ('x'):rep(1 << 20) end\n"
          "ok, why = encode(t)\nassert(ok == nil and why, 'list')\n"
          "ok, why = encode { a = t }\nassert(ok == nil and why, 'dict')\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_keep_their_type),
        cmocka_unit_test(test_a_sequence_is_a_list_and_any_other_table_a_dict),
        cmocka_unit_test(test_holes_and_wrong_keys_are_errors),
        cmocka_unit_test(test_what_cannot_be_sent_is_named_by_its_path),
        cmocka_unit_test(test_arguments_and_keyword_arguments),
        cmocka_unit_test(test_a_table_in_itself_is_refused),
        cmocka_unit_test(test_kinds_go_both_ways),
        cmocka_unit_test(test_kinds_read_well),
        cmocka_unit_test(test_damaged_kinds_are_refused),
        cmocka_unit_test(test_big_integers_fit_or_become_text),
        cmocka_unit_test(test_numpy_scalars_become_lua_numbers),
        cmocka_unit_test(test_bytes_uuids_and_paths_keep_their_kind_and_read_as_strings),
        cmocka_unit_test(test_lone_surrogates_go_both_ways),
        cmocka_unit_test(test_a_dict_stays_a_dict),
        cmocka_unit_test(test_hostile_bytes_give_errors),
        cmocka_unit_test(test_a_value_over_the_limit_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
