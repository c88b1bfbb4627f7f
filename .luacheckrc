-- luacheck: lua/ is run by the host in its own states.
std = "lua54"
max_line_length = 130
files["samples"] = { allow_defined_top = true, unused_args = false } -- main(args) shows what it is given
exclude_files = { "build*", ".tools" }
