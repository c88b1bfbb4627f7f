/*
 * The templates are text with one mark, @NAME@. They use what every configuration uses, and depend
 * on nothing.
 */
#include "template.h"
#include "paths.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char config_text[] =
    "-- @NAME@: run it with `pyisolate-host @NAME@/config.lua Ada`.\n"
    "local pyisolate = require \"pyisolate\"\n"
    "\n"
    "pyisolate.manager { venv_root_path = \"./venvs\" }\n"
    "\n"
    "local greeter = pyisolate.extension {\n"
    "  name = \"@NAME@\",\n"
    "  module_path = \"./extension\",      -- a Python package, beside this file\n"
    "  dependencies = {},                -- such as { \"numpy>=2.0\" }, for this extension alone\n"
    "  -- python = \"3.12\",               -- default: the usual python3\n"
    "  -- call_timeout = 30,             -- seconds; default: none\n"
    "  sandbox_mode = \"disabled\",        -- it runs with your rights: only code that you trust\n"
    "}\n"
    "\n"
    "-- The application. Take this function away, and the host serves until it is stopped:\n"
    "-- then call it from another terminal with `pyisolate-host call @NAME@ greet '\"Ada\"'`.\n"
    "function pyisolate.main(args)\n"
    "  print(greeter:greet(args[1] or \"world\"))\n"
    "\n"
    "  -- Calls wait without blocking each other.\n"
    "  local slow, quick = pyisolate.all(\n"
    "    function() return greeter:slow_mean({ 1, 2, 3 }, pyisolate.kwargs { delay = 0.2 }) end,\n"
    "    function() return greeter:mean { 4, 5, 6 } end)\n"
    "  print(\"means:\", slow, quick)\n"
    "\n"
    "  -- An exception in Python is an error here, with type, message and traceback.\n"
    "  local ok, err = pcall(function() return greeter:mean {} end)\n"
    "  if not ok then print(\"as expected:\", err.type, err.message) end\n"
    "end\n";

static const char extension_text[] =
    "\"\"\"@NAME@: every public function of this module can be called from the "
    "configuration.\"\"\"\n"
    "\n"
    "import asyncio\n"
    "import statistics\n"
    "import sys\n"
    "\n"
    "\n"
    "def greet(name):\n"
    "    \"\"\"What is printed here goes to the host's log.\"\"\"\n"
    "    print(f\"greeting {name}\")\n"
    "    return f\"Hello {name}, from Python {sys.version.split()[0]} in its own process\"\n"
    "\n"
    "\n"
    "def mean(numbers):\n"
    "    return statistics.fmean(numbers)\n"
    "\n"
    "\n"
    "async def slow_mean(numbers, delay=1.0):\n"
    "    \"\"\"Other calls go on while this one waits.\"\"\"\n"
    "    await asyncio.sleep(delay)\n"
    "    return mean(numbers)\n";

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool pyi_template_name_ok(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > 64 || !is_letter(name[0])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_letter(name[i]) && !(name[i] >= '0' && name[i] <= '9') && name[i] != '_' &&
            name[i] != '-') {
            return false;
        }
    }
    return true;
}

static void write_filled(FILE *f, const char *text, const char *name) {
    static const char mark[] = "@NAME@";
    for (const char *at; (at = strstr(text, mark)) != NULL; text = at + sizeof mark - 1) {
        fwrite(text, 1, (size_t)(at - text), f);
        fputs(name, f);
    }
    fputs(text, f);
}

static pyi_err write_file(const char *path, const char *text, const char *name, pyi_error *e) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL) {
        return pyi_error_sys(e, errno, "new.write", "write '%s'", path);
    }
    write_filled(f, text, name);
    if (fclose(f) != 0) {
        return pyi_error_sys(e, errno, "new.write", "write '%s'", path);
    }
    return PYI_OK;
}

static pyi_err refuse_existing(const char *path, pyi_error *e) {
    struct stat st;
    if (lstat(path, &st) == 0) {
        return pyi_error_set(e, PYI_EINVAL, "new.write",
                             "'%s' is there already; nothing was written", path);
    }
    return PYI_OK;
}

pyi_err pyi_template_write(const char *directory, const char *name, pyi_error *e) {
    char config[4096], package[4096], module[4096 + 16];
    if (snprintf(config, sizeof config, "%s/config.lua", directory) >= (int)sizeof config ||
        snprintf(package, sizeof package, "%s/extension", directory) >= (int)sizeof package) {
        return pyi_error_set(e, PYI_EINVAL, "new.write", "the path is too long");
    }
    snprintf(module, sizeof module, "%s/__init__.py", package);
    pyi_err err = refuse_existing(config, e);
    if (err == PYI_OK) {
        err = refuse_existing(module, e);
    }
    if (err == PYI_OK) {
        err = pyi_mkdirs(package, 0755, e);
    }
    if (err == PYI_OK) {
        err = write_file(module, extension_text, name, e);
    }
    return err == PYI_OK ? write_file(config, config_text, name, e) : err;
}
