--- What a configuration declares while it loads: pyisolate.manager { } and pyisolate.extension { }.
--
-- Problems are collected, never raised, so that one run shows all of them. `host` is what the C side provides:
--   absolute(path), stat(path)   the file system
--   caller()                     chunk, shown file and line of the configuration's call
--   source(chunk)                the text of a chunk
--   handle(index, name)          the handle of the index-th extension

local validate = require "pyisolate.validate"
local lines = require "pyisolate.locate"

local type, ipairs, tostring = type, ipairs, tostring
local lower, find = string.lower, string.find
local match = select(2, ...).match
local sort = table.sort

local function new(host)
  local declared = { extensions = {}, problems = {} }
  local named = {} -- lower-case name -> where it was declared
  local lines_of = {}

  local function place(word)
    local chunk, file, line = host.caller()
    if not line then
      local source = host.source(chunk)
      line = source and lines.tail(source, word) or 1
    end
    return { chunk = chunk, file = file, line = line }
  end

  --- Where a key was written: its own line, or its parent's, or the call's.
  local function line_of(at, word, path)
    local key = at.chunk .. ":" .. at.line
    if not lines_of[key] then
      local source = host.source(at.chunk)
      lines_of[key] = source and lines.locate(source, at.line, word) or {}
    end
    while path do
      if lines_of[key][path] then
        return lines_of[key][path]
      end
      path = match(path, "^(.+)%[%d+%]$") or match(path, "^(.+)%.[^.]*$")
    end
    return at.line
  end

  --- Problems of one table, put in the order of its lines.
  local function collector(at, word, label)
    local found = {}
    return function(path, text)
      local line = line_of(at, word, path)
      found[#found + 1] = { line = line, order = #found, text = at.file .. ":" .. line .. ": " .. label() .. text }
    end, function()
      sort(found, function(a, b)
        if a.line == b.line then
          return a.order < b.order
        end
        return a.line < b.line
      end)
      for _, problem in ipairs(found) do
        declared.problems[#declared.problems + 1] = problem.text
      end
    end
  end

  local function check(kind, given, at, label)
    local report, flush = collector(at, kind, label)
    local clean, later = {}, {}
    if type(given) == "table" then
      clean, later = validate.table(kind, given, host, report)
    else
      report(nil, "expected a table: pyisolate." .. kind .. " { ... }, got " .. validate.describe(given))
    end
    return clean, later, report, flush
  end

  local api = {}

  function api.manager(given)
    local at = place("manager")
    local clean, later, report, flush = check("manager", given, at, function()
      return "manager: "
    end)
    if declared.manager then
      report(nil, "declared twice (first at " .. declared.manager.declared_at .. "): keep one pyisolate.manager")
    end
    declared.manager = declared.manager or { options = clean, later = later, declared_at = at.file .. ":" .. at.line }
    flush()
  end

  function api.extension(given)
    local at = place("extension")
    local name = type(given) == "table" and type(given.name) == "string" and given.name or nil
    local clean, later, report, flush = check("extension", given, at, function()
      return name and #name <= 64 and not find(name, "%c") and "extension '" .. name .. "': " or "extension: "
    end)
    local where = at.file .. ":" .. at.line
    if clean.name then
      local before = named[lower(clean.name)]
      if before then
        report("name", "the name is taken (" .. before .. "): names must differ, also when case is ignored")
      end
      named[lower(clean.name)] = before or where
    end
    flush()
    local index = #declared.extensions + 1
    declared.extensions[index] = { options = clean, later = later, declared_at = where }
    return host.handle(index, tostring(clean.name or index))
  end

  --- pyisolate.main is being assigned.
  function api.note_main()
    declared.main_at = place("main")
  end

  --- After the file has run: what only the whole can tell.
  function declared.finish(main)
    if main ~= nil and type(main) ~= "function" then
      local at = declared.main_at or { file = host.file, line = 1 }
      declared.problems[#declared.problems + 1] = at.file .. ":" .. at.line
        .. ": pyisolate.main must be a function, got " .. validate.describe(main)
    elseif main == nil and #declared.extensions == 0 then
      declared.problems[#declared.problems + 1] = host.file
        .. ":1: declares no extension and no main: nothing to run (see pyisolate.extension)"
    end
    declared.manager = declared.manager or {}
    if not declared.manager.options then
      declared.manager.options = validate.table("manager", {}, host, function() end)
      declared.manager.later = {}
    end
  end

  return api, declared
end

return new
