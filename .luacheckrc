-- luacheck: lua/ is run by the host in its own states.
std = "lua54"
max_line_length = 130
files["samples"] = { allow_defined_top = true }
exclude_files = { "build*", ".tools" }
