--- What is made from the schema: docs/configuration.md, and the editor's types (LuaLS).

local schema = require "pyisolate.schema"

local format, rep, gsub, concat = string.format, string.rep, string.gsub, table.concat
local ipairs, type, tostring = ipairs, type, tostring

local docs = {}

local TYPE_NAMES = { string = "string", boolean = "boolean", integer = "integer", seconds = "seconds", path = "path",
  strings = "list of strings", paths = "list of paths", pairs = "table NAME = string", table = "table" }

local LUALS_TYPES = { string = "string", boolean = "boolean", integer = "integer", seconds = "number", path = "string",
  strings = "string[]", paths = "string[]", pairs = "table<string, string>" }

local function type_text(option)
  if option.type == "enum" then
    return '`"' .. concat(option.values, '"`, `"') .. '"`'
  end
  return TYPE_NAMES[option.type]
end

local function default_text(option)
  if option.required then
    return "**required**"
  elseif option.shown then
    return option.shown
  elseif type(option.default) == "table" then
    return "`{}`"
  elseif option.default == nil then
    return "none"
  elseif type(option.default) == "string" then
    return '`"' .. option.default .. '"`'
  end
  return "`" .. tostring(option.default) .. "`"
end

local function availability(option)
  if not option.later then
    return ""
  elseif option.later_values then
    local values = {}
    for _, value in ipairs(option.values) do
      if option.later_values[value] then
        values[#values + 1] = '`"' .. value .. '"`'
      end
    end
    return " *Not available yet: " .. concat(values, ", ") .. "; " .. option.later .. ".*"
  end
  return " *Not available yet; " .. option.later .. ".*"
end

local function range_text(option)
  if option.min and option.max then
    return format(" From %s to %s.", option.min, option.max)
  elseif option.min and option.min > 0 then
    return format(" At least %s.", option.min)
  end
  return ""
end

local function add_table(lines, options)
  lines[#lines + 1] = "| key | type | default | what it does |"
  lines[#lines + 1] = "| --- | --- | --- | --- |"
  for _, option in ipairs(options) do
    if not option.hidden then
      local help = option.help .. range_text(option) .. availability(option)
      lines[#lines + 1] = format("| `%s`%s | %s | %s | %s |", option.key, option.from == "reference" and "" or " +",
        type_text(option), default_text(option), (gsub(help, "|", "\\|")))
    end
  end
  lines[#lines + 1] = ""
end

local function add_nested(lines, options, prefix, depth)
  for _, option in ipairs(options) do
    if option.type == "table" then
      local name = prefix .. option.key
      lines[#lines + 1] = rep("#", depth) .. " `" .. name .. "`"
      lines[#lines + 1] = ""
      add_table(lines, option.fields)
      add_nested(lines, option.fields, name .. ".", depth)
    end
  end
end

local INTRO = [[
# Configuration

<!-- Made from lua/schema.lua by `pyisolate-host schema markdown`: change it there. -->

A configuration is a Lua file. It declares a manager and extensions, and may define `pyisolate.main`.

```lua
local pyisolate = require "pyisolate"

pyisolate.manager { venv_root_path = "./venvs" }

local averages = pyisolate.extension {
  name = "averages", module_path = "./averages",
  dependencies = { "numpy>=2.0" },
}

function pyisolate.main(args)
  print("Mean:", averages:mean { 1, 2, 3, 4, 5 })
end
```

Paths are relative to the configuration's folder. `pyisolate-host check FILE` reports all problems at once, with file and
line, and starts nothing. Keys marked + are ours; the others are those of the pyisolate reference. What is marked
*not available yet* is accepted and checked, and refused when the extension starts.

The file runs with an allow-list of Lua's libraries (no `io`, `debug`, `os.execute`, C modules or bytecode) and a budget
of time and memory while it loads; `main` has no budget. `require "NAME"` loads `NAME.lua` beside the configuration.
]]

function docs.markdown()
  local lines = { INTRO, "## `pyisolate.manager`", "" }
  add_table(lines, schema.manager)
  lines[#lines + 1] = "## `pyisolate.extension`"
  lines[#lines + 1] = ""
  add_table(lines, schema.extension)
  add_nested(lines, schema.extension, "", 3)
  lines[#lines + 1] = "### What excludes what"
  lines[#lines + 1] = ""
  for _, rule in ipairs(schema.rules) do
    if rule.text then
      lines[#lines + 1] = "- " .. rule.text
    end
  end
  return concat(lines, "\n") .. "\n"
end

-- ---- editor types --------------------------------------------------------------------------------

local function luals_type(option, prefix)
  if option.type == "enum" then
    return '"' .. concat(option.values, '"|"') .. '"'
  elseif option.type == "table" then
    return prefix .. "." .. option.key
  end
  return LUALS_TYPES[option.type]
end

local function add_class(lines, name, options)
  for _, option in ipairs(options) do
    if option.type == "table" then
      add_class(lines, name .. "." .. option.key, option.fields)
    end
  end
  lines[#lines + 1] = "---@class " .. name
  for _, option in ipairs(options) do
    if not option.hidden then
      lines[#lines + 1] = format("---@field %s%s %s # %s", option.key, option.required and "" or "?",
        luals_type(option, name), option.help)
    end
  end
  lines[#lines + 1] = ""
end

local LUALS_API = [[
---@class pyisolate.error
---@field type string # the exception's type: "ValueError"
---@field message string
---@field code string # "remote", "deadline", "died", ...
---@field traceback? string
---@field cause? pyisolate.error
---@field notes? string[]
---@field args? any[]
---@field extension? string
---@field method? string

---@class pyisolate.handle
---@field name string
---@field state string
---@field call fun(self: pyisolate.handle, method: string, ...: any): any
---@field stop fun(self: pyisolate.handle, grace_seconds?: number)
---@field restart fun(self: pyisolate.handle, grace_seconds?: number)
---@field [string] fun(self: pyisolate.handle, ...: any): any

---@class pyisolate.task
---@field wait fun(self: pyisolate.task): any
---@field cancel fun(self: pyisolate.task)
---@field status fun(self: pyisolate.task): "running"|"done"|"failed"

---@class pyisolate
---@field version string
---@field null userdata # Python's None where nil cannot stand
---@field main? fun(args: string[]): number|boolean|nil
---@field manager fun(options: pyisolate.manager)
---@field extension fun(options: pyisolate.extension): pyisolate.handle
---@field all fun(...: fun(): any): any
---@field spawn fun(f: function, ...: any): pyisolate.task
---@field sleep fun(seconds: number)
---@field timeout fun(seconds: number, f: function, ...: any): any
---@field log fun(level: "debug"|"info"|"warning"|"error", text: any)
---@field kwargs fun(t: table<string, any>): table
---@field list fun(t?: table): table
---@field dict fun(t?: table): table
---@field tuple fun(t?: table): table
---@field set fun(t?: table): table
---@field frozenset fun(t?: table): table
---@field bytes fun(s: string): table
---@field uuid fun(s: string): table
---@field path fun(s: string): table
---@field int fun(digits: string|integer): table|integer
---@field complex fun(t: table): table
---@field datetime fun(t: table): table
---@field date fun(t: table): table
---@field time fun(t: table): table
---@field timedelta fun(t: table): table
---@field ndarray fun(t: table): table
local pyisolate = {}
return pyisolate
]]

function docs.luals()
  local lines = { "---@meta pyisolate", "-- Made from lua/schema.lua by `pyisolate-host schema luals`.", "" }
  add_class(lines, "pyisolate.manager", schema.manager)
  add_class(lines, "pyisolate.extension", schema.extension)
  return concat(lines, "\n") .. "\n" .. LUALS_API
end

--- For tests: the keys of one kind, with their types.
function docs.keys(kind)
  local keys = {}
  for _, option in ipairs(schema[kind]) do
    keys[#keys + 1] = option.key .. (option.later and " later" or "")
  end
  return concat(keys, "\n")
end

return docs
