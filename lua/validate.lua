--- Validates one table of options against the schema and gives back a clean one: known keys, right types, paths made
-- absolute, seconds made milliseconds, defaults filled in. All problems are reported, none stops the rest.
--
-- It takes plain tables, wherever they come from (a Lua configuration, or one that was decoded from msgpack),
-- and what it needs of the outside in `at`: { absolute = f(path), stat = f(path) }.

local schema = require "pyisolate.schema"
local checks = require "pyisolate.checks"

local raw = select(2, ...)
local type, pairs, ipairs, tostring, select, next = type, pairs, ipairs, tostring, select, next
local format, sub, lower, byte = string.format, string.sub, string.lower, string.byte
local find, gsub = raw.find, raw.gsub
local math_type, floor, huge = math.type, math.floor, math.huge
local sort, concat, min = table.sort, table.concat, math.min

local validate = {}

-- ---- words ---------------------------------------------------------------------------------------

local function quote(text)
  text = #text > 400 and sub(text, 1, 400) or text
  text = gsub(text, "[%c\\\"]", function(c)
    return c == "\n" and "\\n" or c == '"' and '\\"' or c == "\\" and "\\\\" or format("\\%d", byte(c))
  end)
  if #text > 80 then
    text = sub(text, 1, 77) .. "..."
  end
  return '"' .. text .. '"'
end

--- A value in words: string "x", number 5, a table.
function validate.describe(value)
  local kind = type(value)
  if kind == "string" then
    return "string " .. quote(value)
  elseif kind == "number" or kind == "boolean" then
    return kind .. " " .. tostring(value)
  end
  return kind == "nil" and "nil" or "a " .. kind
end
local describe = validate.describe

--- Edits (insert, delete, replace) that make a into b.
function validate.distance(a, b)
  local row = {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = sub(a, i, i) == sub(b, j, j) and 0 or 1
      local best = min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], best
    end
  end
  return row[#b]
end

--- The most similar of `names`, or nil if none is similar.
function validate.nearest(word, names)
  if #word > 64 then
    return nil
  end
  local best, least = nil, floor(#word / 3) + 1
  for _, name in ipairs(names) do
    local distance = validate.distance(lower(word), lower(name))
    if #word >= 4 and sub(name, 1, #word) == word then
      distance = min(distance, 1) -- the beginning of it
    end
    if distance <= least and distance < #name then
      best, least = name, distance - 1
    end
  end
  return best
end

local function unknown(key, options)
  local names = {}
  for _, option in ipairs(options) do
    if not option.hidden then
      names[#names + 1] = option.key
    end
  end
  local near = validate.nearest(key, names)
  return "unknown key " .. quote(key)
    .. (near and ': did you mean "' .. near .. '"?' or "; `pyisolate-host schema` lists the keys")
end

-- ---- one value -----------------------------------------------------------------------------------

-- A context: at, report(path, text). `path` is the key's whole path ("sandbox.gpu", "dependencies[2]").

local function run_check(name, value, context, path, key)
  local check = name and checks[name]
  if not check then
    return value
  end
  local checked, wrong = check(value, context.at, key)
  if wrong then
    context.report(path, path .. " " .. quote(value) .. " " .. wrong)
  end
  return checked
end

local function check_exists(option, path, given, context, place)
  local at, wrong = context.at, nil
  if option.exists == "module" then
    wrong = select(2, checks.module_at(path, at))
  elseif option.exists then
    local kind = at.stat(path)
    if not kind then
      wrong = "does not exist (looked for " .. path .. ")"
    elseif option.exists ~= "any" and kind ~= option.exists then
      wrong = "is not a " .. option.exists .. " (looked at " .. path .. ")"
    end
  end
  if wrong then
    context.report(place, place .. " " .. quote(given) .. " " .. wrong)
    return nil
  end
  return path
end

local function good_path(option, value, context, place)
  if value == "" then
    context.report(place, place .. " is empty")
    return nil
  elseif find(value, "%c") then
    context.report(place, place .. " " .. quote(value) .. " has control characters")
    return nil
  end
  return check_exists(option, context.at.absolute(value), value, context, place)
end

local function wrong_type(path, expected, value, context)
  context.report(path, format("%s must be %s, got %s", path, expected, describe(value)))
  return nil
end

local function check_range(option, value, context, path, unit)
  if option.min and value < option.min then
    context.report(path, format("%s must be at least %s%s, got %s", path, option.min, unit, value))
    return nil
  elseif option.max and value > option.max then
    context.report(path, format("%s must be at most %s%s, got %s", path, option.max, unit, value))
    return nil
  end
  return value
end

--- Whether a table is 1..n without holes; else the first key that spoils it.
local function list_length(t)
  local count = 0
  for key in pairs(t) do
    if math_type(key) ~= "integer" or key < 1 then
      return nil, key
    end
    count = count + 1
  end
  for i = 1, count do
    if t[i] == nil then
      return nil, i
    end
  end
  return count
end

local function check_list(option, value, context, path, each)
  if type(value) ~= "table" then
    return wrong_type(path, "a list of strings", value, context)
  end
  local count, spoiler = list_length(value)
  if not count then
    context.report(path, format("%s must be a list of strings: %s", path, math_type(spoiler) == "integer"
      and "item " .. spoiler .. " is missing" or "it has the key " .. describe(spoiler)))
    return nil
  end
  local result = {}
  for i = 1, count do
    local place = path .. "[" .. i .. "]"
    if type(value[i]) ~= "string" then
      wrong_type(place, "a string", value[i], context)
    else
      result[#result + 1] = each(option, value[i], context, place)
    end
  end
  return result
end

local function check_string(option, value, context, path)
  return run_check(option.check, value, context, path)
end

local types = {}

function types.string(option, value, context, path)
  if type(value) ~= "string" then
    return wrong_type(path, "a string", value, context)
  elseif find(value, "\0", 1, true) then
    context.report(path, path .. " has a NUL byte")
    return nil
  end
  return check_string(option, value, context, path)
end

function types.boolean(_, value, context, path)
  if type(value) ~= "boolean" then
    return wrong_type(path, "true or false", value, context)
  end
  return value
end

function types.integer(option, value, context, path)
  local whole = math_type(value) == "float" and floor(value) == value and math.tointeger(value) or value
  if math_type(whole) ~= "integer" then
    return wrong_type(path, "a whole number", value, context)
  end
  return check_range(option, whole, context, path, "")
end

function types.seconds(option, value, context, path)
  if type(value) ~= "number" or value ~= value or value == huge or value == -huge then
    return wrong_type(path, "a number of seconds", value, context)
  elseif value > 1e9 then
    context.report(path, path .. " must be at most 1e9 seconds, got " .. tostring(value))
    return nil
  end
  local seconds = check_range(option, value, context, path, " seconds")
  return seconds and floor(seconds * 1000 + 0.5)
end

function types.path(option, value, context, path)
  if type(value) ~= "string" then
    return wrong_type(path, "a path", value, context)
  end
  return good_path(option, value, context, path)
end

function types.enum(option, value, context, path)
  for _, allowed in ipairs(option.values) do
    if value == allowed then
      return value
    end
  end
  local near = type(value) == "string" and validate.nearest(value, option.values)
  context.report(path, format('%s must be "%s", got %s%s', path, concat(option.values, '" or "'), describe(value),
    near and format(': did you mean "%s"?', near) or ""))
  return nil
end

function types.strings(option, value, context, path)
  return check_list(option, value, context, path, check_string)
end

function types.paths(option, value, context, path)
  return check_list(option, value, context, path, good_path)
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do
    keys[#keys + 1] = key
  end
  sort(keys, function(a, b)
    if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then
      return a < b
    end
    return type(a) < type(b)
  end)
  return keys
end

function types.pairs(option, value, context, path)
  if type(value) ~= "table" then
    return wrong_type(path, "a table of NAME = string", value, context)
  end
  local result = {}
  for _, key in ipairs(sorted_keys(value)) do
    local place = path .. "." .. tostring(key)
    if type(key) ~= "string" then
      context.report(path, format("%s must be a table of NAME = string: it has the key %s", path, describe(key)))
    elseif type(value[key]) ~= "string" then
      wrong_type(place, "a string", value[key], context)
    else
      local good = run_check(option.check, value[key], context, place, key)
      result[#result + 1] = good and { key, good }
    end
  end
  return result
end

local function check_options(options, given, context, prefix)
  local known, result = {}, {}
  for _, option in ipairs(options) do
    known[option.key] = option
  end
  for _, key in ipairs(sorted_keys(given)) do
    if type(key) ~= "string" then
      context.report(prefix .. "[" .. tostring(key) .. "]", format("%s has no key: write NAME = value", describe(given[key])))
    elseif not known[key] then
      context.report(prefix == "" and key or prefix .. "." .. key, unknown(key, options))
    end
  end
  for _, option in ipairs(options) do
    local value, path = given[option.key], prefix == "" and option.key or prefix .. "." .. option.key
    if value ~= nil then
      result[option.key] = types[option.type](option, value, context, path)
    elseif option.required then
      context.report(prefix, path .. " is missing")
    end
  end
  return result
end

function types.table(option, value, context, path)
  if type(value) ~= "table" then
    return wrong_type(path, "a table", value, context)
  end
  return check_options(option.fields, value, context, path)
end

-- ---- a whole table -------------------------------------------------------------------------------

local function check_rules(rules, clean, context)
  for _, rule in ipairs(rules) do
    local keys, text = rule.test(clean)
    for _, key in ipairs(keys or {}) do
      context.report(key, key .. " " .. text)
    end
  end
end

local function asks_for(option, value)
  if value == nil or value == false or type(value) == "table" and next(value) == nil and option.type ~= "table" then
    return false
  end
  return not option.later_values or option.later_values[value] == true
end

--- The keys that were given and are not built yet: a list of { key, what to do instead }.
local function collect_later(options, clean)
  local found = {}
  for _, option in ipairs(options) do
    if option.later and asks_for(option, clean[option.key]) then
      local value = option.later_values and clean[option.key]
      local shown = type(value) == "string" and option.key .. ' = "' .. value .. '"' or option.key
      found[#found + 1] = { shown, option.later }
    end
  end
  return found
end

local function fill_defaults(options, clean, at)
  for _, option in ipairs(options) do
    if clean[option.key] == nil and option.default ~= nil then
      local value = option.default
      if option.type == "seconds" then
        value = value * 1000
      elseif option.type == "path" then
        value = at.absolute(value)
      end
      clean[option.key] = value
    end
  end
end

--- kind: "manager" or "extension". Returns the clean table, and the keys that are not built yet.
-- report(path, text) is told each problem; the table is of use only if there was none.
function validate.table(kind, given, at, report)
  local options = schema[kind]
  local context = { at = at, report = report }
  local clean = check_options(options, given, context, "")
  if kind == "extension" then
    check_rules(schema.rules, clean, context)
    if clean.execution_model == nil then
      clean.execution_model = clean.package_manager == "conda" and "sealed_worker" or "host-coupled"
    end
  end
  local later = collect_later(options, clean)
  fill_defaults(options, clean, at)
  return clean, later
end

return validate
