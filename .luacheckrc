-- Lua that the host runs: configurations get `pyisolate` by require and `arg`-less main functions.
std = "lua54"
max_line_length = 132
files["samples/**/config.lua"] = { ignore = { "122/pyisolate" } }
files["tests/**/*.lua"] = { ignore = { "122/pyisolate" } }
exclude_files = { "build*/**", ".tools/**", "samples/*/venvs/**" }
