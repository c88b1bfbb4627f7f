# Writes a C file that contains the Lua sources as byte arrays, so that the program needs no files beside it.
#   cmake -DOUT=file.c -DROOT=lua-folder "-DFILES=a.lua|b.lua" -P embed_lua.cmake
# A source's name is its path below ROOT without ".lua", with "." for "/": what `require` is given.

string(REPLACE "|" ";" files "${FILES}")
set(arrays "")
set(table "")
set(index 0)
foreach(file IN LISTS files)
    file(RELATIVE_PATH name "${ROOT}" "${file}")
    string(REGEX REPLACE "\\.lua$" "" name "${name}")
    string(REPLACE "/" "." name "${name}")
    file(READ "${file}" hex HEX)
    string(LENGTH "${hex}" digits)
    math(EXPR length "${digits} / 2")
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    # One NUL more than the length: the source is also a C string.
    string(APPEND arrays "static const char source_${index}[] = {\n${bytes}0};\n")
    string(APPEND table "    {\"${name}\", source_${index}, ${length}},\n")
    math(EXPR index "${index} + 1")
endforeach()

set(text "/* Made from lua/ by .cmake/embed_lua.cmake. */\n#include <stddef.h>\n\n${arrays}
const struct {
    const char *name;
    const char *source;
    size_t len;
} pyi_lua_sources[] = {
${table}    {NULL, NULL, 0},
};
")
file(WRITE "${OUT}" "${text}")
