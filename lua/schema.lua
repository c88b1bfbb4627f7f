--- Every option of a configuration, in one table: what validates it, documents it and types it for editors.
--
-- An option: key, type, help; and where it has them: default (what holds when it is left out; `shown` where the
-- value itself says little), required, from ("reference": pyisolate has it too; "ours"), check (a function of
-- checks.lua for the value, or each item), exists ("file", "directory" or "any": paths only), min, max, values
-- (an enum's), fields (a table's), hidden (not documented), later (what to do instead: it is accepted, and
-- refused at start, until it is built; later_values: only these values are).
--
-- Types: string, boolean, integer, seconds (a number; milliseconds from here on), path, enum, strings, paths,
-- pairs (a table from string to string), table.

local RAISE_LATER = "leave it out for now"

local manager = {
  { key = "venv_root_path", type = "path", default = "./venvs", from = "reference",
    help = "Folder for the environments, one link per extension. Made when it is missing." },
  { key = "python", type = "string", check = "python", from = "ours", shown = "`$PYISOLATE_PYTHON`, else what `python3` runs",
    help = "Interpreter of extensions that name none: a path, a version (`3.12`) or a range (`>=3.10,<3.13`)." },
  { key = "log", type = "enum", values = { "debug", "info", "warning", "error" }, from = "ours", shown = "`info`",
    help = "Least level that is logged. `--log-level` on the command line wins." },
  { key = "base", type = "path", from = "ours", later = RAISE_LATER,
    help = "An environment whose packages extensions may share (for `share_torch`)." },
  { key = "policy", type = "path", from = "ours", later = RAISE_LATER .. "; nothing is denied until then",
    help = "A Lua file that decides what extensions may do." },
}

local sandbox = {
  { key = "writable_paths", type = "paths", from = "reference",
    help = "Folders that the extension may write. `/dev/shm` means a private one." },
  { key = "readonly_paths", type = "paths", from = "reference", help = "Folders that the extension may read." },
  { key = "network", type = "boolean", default = false, from = "reference",
    help = "Share the host's network, loopback included." },
  { key = "gpu", type = "boolean", default = false, from = "ours", help = "Let the GPU's devices in." },
  { key = "floor", type = "enum", values = { "namespaces", "shared-pid", "landlock" }, default = "namespaces",
    from = "ours", help = "The weakest rung that is accepted." },
  { key = "subprocess", type = "boolean", default = true, from = "ours",
    help = "Whether the extension may start programs." },
  { key = "seccomp", type = "boolean", default = true, from = "ours", help = "Filter system calls." },
  { key = "limits", type = "table", from = "ours", help = "Limits on what the extension may use.", fields = {
    { key = "memory", type = "integer", min = 1, from = "ours", help = "Bytes." },
    { key = "processes", type = "integer", min = 1, from = "ours", help = "Processes and threads." },
    { key = "files", type = "integer", min = 1, from = "ours", help = "Open files." },
    { key = "cpus", type = "integer", min = 1, from = "ours", help = "Processors." },
  } },
}

local WITHOUT_SANDBOX = "leave it out to start without a sandbox (one warning says so)"

local extension = {
  { key = "name", type = "string", check = "name", required = true, from = "reference",
    help = "Unique name (also when case is ignored): letters, digits, `.`, `_`, `-`; at most 64." },
  { key = "module_path", type = "path", exists = "module", required = true, from = "reference",
    help = "The extension: a folder with `__init__.py`, or one `.py` file." },
  { key = "module", type = "string", check = "module", from = "reference", shown = "the name of the folder or file",
    help = "Name under which it is imported." },
  { key = "isolated", type = "boolean", default = true, from = "reference",
    help = "`false`: runs in the host's own process and Python; dependencies are checked, not installed." },
  { key = "dependencies", type = "strings", check = "requirement", default = {}, from = "reference",
    help = "Requirements to install: `numpy>=2.0`, extras, markers, `name @ URL`, paths, `-e PATH`." },
  { key = "requirements", type = "paths", exists = "file", default = {}, from = "ours",
    help = "Requirement files to install as well." },
  { key = "constraints", type = "strings", check = "specifier", default = {}, from = "ours",
    help = "Versions that hold for whatever is installed, directly or not." },
  { key = "overrides", type = "strings", check = "specifier", default = {}, from = "ours",
    help = "Versions that replace what packages ask for." },
  { key = "index_url", type = "string", check = "url", from = "ours", shown = "the installer's",
    help = "Package index to use." },
  { key = "extra_index_urls", type = "strings", check = "url", default = {}, from = "reference",
    help = "Package indexes to use as well." },
  { key = "find_links", type = "strings", check = "location", default = {}, from = "reference",
    help = "Folders or pages with packages." },
  { key = "python", type = "string", check = "python", from = "ours", shown = "the manager's",
    help = "Interpreter: a path, a version (`3.12`) or a range (`>=3.10,<3.13`)." },
  { key = "environment", type = "path", exists = "directory", from = "ours",
    help = "An existing environment, used as it is: nothing is installed into it." },
  { key = "entrypoint", type = "string", check = "identifier", from = "ours", shown = "found in the module",
    help = "Function or class of the module that makes what is served." },
  { key = "extension_type", type = "string", check = "class_path", from = "ours", shown = "`ExtensionBase`",
    help = "Class that the child makes and hands the module to: `package.module:Class`." },
  { key = "env", type = "pairs", check = "env", default = {}, from = "reference",
    help = "Environment variables of the child." },
  { key = "env_inherit", type = "strings", check = "pattern", default = {}, from = "ours",
    help = "Variables let in from the host's environment: names, `*` stands for anything." },
  { key = "package_manager", type = "enum", values = { "uv", "conda" }, default = "uv", from = "reference",
    later = 'use "uv"', later_values = { conda = true }, help = "What builds the environment." },
  { key = "execution_model", type = "enum", values = { "host-coupled", "sealed_worker" }, from = "reference",
    shown = "`host-coupled`; `sealed_worker` with conda",
    help = "`sealed_worker`: shares nothing with the host, tensors and imports included." },
  { key = "restart", type = "enum", values = { "on-crash", "always", "never" }, default = "on-crash", from = "ours",
    help = "When a child that ended is started again." },
  { key = "call_timeout", type = "seconds", min = 0.001, from = "ours", shown = "none",
    help = "Seconds that a call may take, when the caller says nothing." },
  { key = "start_timeout", type = "seconds", min = 0.001, default = 60, from = "ours",
    help = "Seconds from the start of the child until it is ready." },
  { key = "stop_timeout", type = "seconds", min = 0, default = 5, from = "ours",
    help = "Seconds that a child has to end before it is killed." },
  { key = "max_concurrency", type = "integer", min = 1, max = 65536, default = 1024, from = "ours",
    help = "Calls in flight; more wait in the host." },
  { key = "threads", type = "integer", min = 0, max = 1024, default = 0, from = "ours",
    help = "Threads for plain `def` methods; 0: they run one by one, inline." },
  { key = "transport", type = "enum", values = { "nng", "ring" }, default = "nng", from = "ours",
    later = 'use "nng"', later_values = { ring = true }, help = "What frames travel on." },
  { key = "share_torch", type = "boolean", default = false, from = "reference", later = "list torch in dependencies",
    help = "Use the host's torch, and tensors without copies." },
  { key = "share_torch_no_deps", type = "boolean", default = false, from = "reference",
    later = "list torch in dependencies", help = "With `share_torch`: torch's own dependencies are not shared." },
  { key = "share_cuda_ipc", type = "boolean", from = "reference", shown = "`share_torch`, where CUDA IPC works",
    later = RAISE_LATER, help = "Pass CUDA tensors by handle. Needs `share_torch`." },
  { key = "apis", type = "strings", check = "class_name", from = "reference", shown = "none",
    later = RAISE_LATER, help = "Names of the host's services (ProxiedSingletons) that it may use." },
  { key = "sandbox_mode", type = "enum", values = { "required", "preferred", "disabled" }, from = "reference",
    shown = "`required`; until the sandbox is built, unsandboxed with a warning", later = WITHOUT_SANDBOX,
    later_values = { required = true, preferred = true },
    help = "Whether it must, should or shall not run in a sandbox." },
  { key = "sandbox", type = "table", fields = sandbox, from = "reference", later = WITHOUT_SANDBOX,
    help = "What the sandbox lets in." },
  { key = "sealed_host_ro_paths", type = "strings", check = "absolute", from = "reference", shown = "none",
    later = RAISE_LATER, help = "Folders of the host that a sealed worker may import from. Absolute paths." },
  { key = "filtered_subdirs", type = "strings", check = "plain", from = "reference", shown = "none",
    later = RAISE_LATER, help = "Folders of the host's import path that are not shared." },
  { key = "conda_channels", type = "strings", check = "plain", from = "reference", shown = "none",
    later = "use uv and dependencies", help = "Channels. Needed with `package_manager = \"conda\"`." },
  { key = "conda_dependencies", type = "strings", check = "plain", from = "reference", shown = "none",
    later = "use uv and dependencies", help = "Conda packages." },
  { key = "conda_platforms", type = "strings", check = "plain", from = "reference", shown = "this machine's",
    later = "use uv and dependencies", help = "Conda platforms." },
  { key = "conda_python", type = "string", check = "python", from = "reference", shown = "conda's",
    later = "use uv and python", help = "Version of conda's Python." },
  { key = "cuda_wheels", type = "table", from = "reference", later = "give the wheels by URL in dependencies",
    help = "Where wheels for this machine's CUDA are found.", fields = {
      { key = "index_url", type = "string", check = "url", required = true, from = "reference",
        help = "Index with a folder per package." },
      { key = "packages", type = "strings", check = "plain", from = "reference", help = "Packages to take from it." },
      { key = "package_map", type = "pairs", from = "reference", help = "Package name to folder name." },
    } },
  { key = "may_call", type = "strings", check = "name", from = "ours", shown = "none", later = RAISE_LATER,
    help = "Extensions that it may call." },
  { key = "publish", type = "strings", check = "topic", from = "ours", shown = "none", later = RAISE_LATER,
    help = "Topics that it may publish." },
  { key = "subscribe", type = "strings", check = "topic", from = "ours", shown = "none", later = RAISE_LATER,
    help = "Topics that it may receive." },
  { key = "policy", type = "path", from = "ours", later = RAISE_LATER .. "; nothing is denied until then",
    help = "A Lua file that decides what this extension may do." },
  { key = "max_payload", type = "integer", min = 1024, max = 4294901760, from = "ours", hidden = true, shown = "1 GiB",
    help = "Most bytes of a message, in both directions." },
  { key = "embed", type = "boolean", default = true, from = "ours", hidden = true,
    help = "`false`: run inside the environment's own python, as where there is no shared libpython." },
}

-- ---- what excludes what -------------------------------------------------------------------------

--- A rule: `text` for documentation; `test(c)` returns nil, or the key to blame and what is wrong. `c` is the
--- table as given, without the keys that have problems of their own.
local function excludes(key, others, why, when)
  local test = function(c)
    if not when(c[key]) then
      return nil
    end
    local found = {}
    for _, other in ipairs(others) do
      if c[other] ~= nil and c[other] ~= false then
        found[#found + 1] = other
      end
    end
    return found, why
  end
  return test
end

local function is(value)
  return function(given)
    return given == value
  end
end

local function given(value)
  return value ~= nil
end

local rules = {
  { text = "`isolated = false` runs in the host's process: it excludes `sandbox`, `sandbox_mode` other than "
      .. "`disabled`, `python`, `environment`, `env`, `env_inherit`, `package_manager = \"conda\"` and the conda keys.",
    test = excludes("isolated", { "sandbox", "python", "environment", "env", "env_inherit", "conda_channels",
      "conda_dependencies", "conda_platforms", "conda_python", "sealed_host_ro_paths" },
      "cannot be used with isolated = false: the extension shares the host's process and Python; remove it, or isolated = false",
      is(false)) },
  { test = function(c)
      if c.isolated == false and (c.sandbox_mode == "required" or c.sandbox_mode == "preferred") then
        return { "sandbox_mode" }, "must be \"disabled\" (or left out) with isolated = false: the host's process has no sandbox"
      end
      if c.isolated == false and c.package_manager == "conda" then
        return { "package_manager" }, "cannot be \"conda\" with isolated = false: nothing is installed; remove it"
      end
      if c.isolated == false and c.execution_model == "sealed_worker" then
        return { "execution_model" }, "cannot be \"sealed_worker\" with isolated = false: it shares the host's process"
      end
    end },
  { text = "`environment` is used as it is: it excludes `dependencies`, `requirements`, `constraints`, `overrides`, "
      .. "`index_url`, `extra_index_urls`, `find_links`, `python` and conda.",
    test = excludes("environment", { "dependencies", "requirements", "constraints", "overrides", "index_url",
      "extra_index_urls", "find_links", "python", "conda_channels", "conda_dependencies", "conda_python" },
      "cannot be used with environment: an existing environment is used as it is; remove one of the two", given) },
  { text = "`package_manager = \"conda\"` needs `conda_channels`, and excludes `share_torch` and "
      .. "`execution_model = \"host-coupled\"`.",
    test = function(c)
      if c.package_manager == "conda" and (c.conda_channels == nil or #c.conda_channels == 0) then
        return { "package_manager" }, "is \"conda\", which needs conda_channels, such as { \"conda-forge\" }"
      end
    end },
  { test = function(c)
      if c.package_manager == "conda" and c.share_torch then
        return { "share_torch" }, "cannot be used with package_manager = \"conda\": conda brings a torch of its own"
      end
    end },
  { test = function(c)
      if c.package_manager == "conda" and c.execution_model == "host-coupled" then
        return { "execution_model" }, "must be \"sealed_worker\" (or left out) with package_manager = \"conda\""
      end
    end },
  { text = "The conda keys need `package_manager = \"conda\"`.",
    test = function(c)
      if c.package_manager == "conda" then
        return nil
      end
      local found = {}
      for _, key in ipairs { "conda_channels", "conda_dependencies", "conda_platforms", "conda_python" } do
        if c[key] ~= nil then
          found[#found + 1] = key
        end
      end
      return found, "needs package_manager = \"conda\""
    end },
  { text = "`share_cuda_ipc` and `share_torch_no_deps` need `share_torch`.",
    test = function(c)
      local found = {}
      for _, key in ipairs { "share_cuda_ipc", "share_torch_no_deps" } do
        if c[key] and not c.share_torch then
          found[#found + 1] = key
        end
      end
      return found, "needs share_torch = true"
    end },
  { text = "`execution_model = \"sealed_worker\"` excludes `share_torch`.",
    test = function(c)
      if c.execution_model == "sealed_worker" and c.share_torch then
        return { "share_torch" }, "cannot be used with execution_model = \"sealed_worker\": a sealed worker shares nothing"
      end
    end },
  { text = "`sealed_host_ro_paths` needs `execution_model = \"sealed_worker\"`.",
    test = function(c)
      if c.sealed_host_ro_paths ~= nil and c.execution_model ~= "sealed_worker" and c.package_manager ~= "conda" then
        return { "sealed_host_ro_paths" }, "needs execution_model = \"sealed_worker\""
      end
    end },
  { text = "`sandbox_mode = \"disabled\"` excludes `sandbox`.",
    test = function(c)
      if c.sandbox_mode == "disabled" and c.sandbox ~= nil then
        return { "sandbox" }, "cannot be used with sandbox_mode = \"disabled\"; remove one of the two"
      end
    end },
}

return { manager = manager, extension = extension, rules = rules }
