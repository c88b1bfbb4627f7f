--- Checks of single values: each returns nil and what is wrong with it, or the value (made absolute, where it names
--- a path). Pure but for `at`, which knows the configuration's folder: at.absolute(path), at.stat(path).

-- Lua's own pattern functions (`require` gives them to modules of the host): inputs are bounded below.
local raw = select(2, ...)
local find, match, gsub, gmatch, sub = raw.find, raw.match, raw.gsub, raw.gmatch, string.sub

local checks = {}

local LONGEST = 2048 -- characters of a requirement

local function shaped(pattern, expected)
  return function(value)
    if find(value, pattern) then
      return value
    end
    return nil, expected
  end
end

checks.identifier = shaped("^[%a_][%w_]*$", "is not a Python name")
checks.class_name = shaped("^[%a_][%w_.]*$", "is not a class name")
checks.class_path = shaped("^[%a_][%w_.]*:[%a_][%w_.]*$", 'is not of the form "package.module:Class"')
checks.pattern = shaped("^[%w_*?]+$", "is not a variable's name (letters, digits, _, and * for anything)")
checks.topic = shaped("^[%w_*][%w_.*/-]*$", "is not a topic (letters, digits, _ - . / *)")
checks.plain = shaped("^[%w_./:][^%c%s;|&`$]*$", "has characters that cannot be used here")
checks.absolute = shaped("^/[^%c]*$", "is not an absolute path")

function checks.module(value)
  if find(value, "^[%a_][%w_.]*$") and not find(value, "%.%.") and not find(value, "%.$") then
    return value
  end
  return nil, "is not a module's name"
end

function checks.name(value)
  if #value > 64 then
    return nil, "is longer than 64 characters"
  elseif not find(value, "^%w[%w._-]*$") then
    return nil, "may have letters, digits, '.', '_' and '-' only, and starts with a letter or digit"
  end
  return value
end

function checks.env(value, _, key)
  if not find(key, "^[%a_][%w_]*$") then
    return nil, "is not the name of an environment variable"
  elseif find(value, "\0", 1, true) then
    return nil, "has a NUL byte"
  end
  return value
end

function checks.url(value)
  if find(value, "^%-") then
    return nil, "starts with '-': options cannot be given here"
  elseif find(value, "[%c%s`|$<>\"'\\]") then
    return nil, "has characters that a URL cannot have"
  elseif find(value, "^https?://[^/]") or find(value, "^file:///") then
    return value
  end
  return nil, "is not a URL (http://, https:// or file:///)"
end

function checks.location(value, at)
  if find(value, "^[%a][%w+.-]*://") then
    return checks.url(value)
  elseif find(value, "^%-") then
    return nil, "starts with '-': options cannot be given here"
  elseif find(value, "%c") then
    return nil, "has control characters"
  end
  local path = at.absolute(value)
  if not at.stat(path) then
    return nil, "does not exist (looked for " .. path .. ")"
  end
  return path
end

-- ---- requirements (PEP 508) ---------------------------------------------------------------------

local OPERATORS = { ["=="] = true, ["==="] = true, ["!="] = true, ["<="] = true, [">="] = true, ["<"] = true,
  [">"] = true, ["~="] = true }

local function versions_are_good(text)
  for part in gmatch(text .. ",", "([^,]*),") do
    local operator, version = match(part, "^%s*([=!<>~]+)%s*([%w.*+!_-]+)%s*$")
    if not operator or not OPERATORS[operator] or not find(version, "^[%w*]") then
      return false
    end
  end
  return true
end

local function marker_is_good(text)
  local bare = gsub(gsub(text, "'[^'\"]*'", "s"), '"[^"\']*"', "s")
  if find(bare, "[^%w%s_.<>=!~()]") or not find(bare, "%w%s*[<>=!~]") and not find(bare, "%sin%s") then
    return false
  end
  local opened = select(2, gsub(bare, "%(", ""))
  return opened == select(2, gsub(bare, "%)", ""))
end

local EXPECTED = 'is not a requirement (such as "numpy>=2.0")'

local function extras_are_good(extras)
  if find(extras, "^%s*$") then
    return true
  end
  for extra in gmatch(extras .. ",", "([^,]*),") do
    if not find(extra, "^%s*%w[%w._-]*%s*$") then
      return false
    end
  end
  return true
end

--- Splits "name [extras] rest"; nil where it does not start with a name.
local function split_name(text)
  local name, rest = match(text, "^(%w[%w._-]*)%s*(.*)$")
  if not name or not find(name, "%w$") then
    return nil
  end
  local extras, after = match(rest, "^%[([^%]]*)%]%s*(.*)$")
  if extras then
    return extras_are_good(extras) and name or nil, after
  end
  return name, rest
end

local function check_path(path, prefix, at)
  if find(path, "[%c`|&;$<>\"'\\]") then
    return nil, "has characters that a path here cannot have"
  end
  local bare, extras = match(path, "^(.-)(%[[%w%s,._-]*%])$")
  local absolute = at.absolute(bare or path)
  if not at.stat(absolute) then
    return nil, "does not exist (looked for " .. absolute .. ")"
  end
  return prefix .. absolute .. (extras or "")
end

local function is_path(text)
  if find(text, "^[%a][%w+.-]*://") or find(text, "@", 1, true) then
    return false
  end
  return find(text, "^%.?%.?/") or text == "." or text == ".." or find(text, "^[^%s;]+%.whl$")
    or find(text, "^[^%s;]+%.tar%.gz$") or find(text, "^[^%s;]+%.zip$")
end

local function check_common(value)
  if #value <= LONGEST and find(value, "^%s*$") then
    return "is empty"
  elseif #value > LONGEST then
    return "is longer than " .. LONGEST .. " characters"
  elseif find(value, "%c") then
    return "has a line break or control character: give each requirement as an item of its own"
  elseif find(value, "^%s*%-") then
    return "is an option, not a requirement: use index_url, extra_index_urls, find_links, requirements or constraints"
  elseif find(value, "[`|$\\]") then
    return "has characters of a shell ('" .. match(value, "[`|$\\]") .. "'), which no requirement has"
  end
end

local function split_marker(text)
  local before, marker = match(text, "^(.-)%s*;%s*(.*)$")
  if not before then
    return text
  end
  return before, marker
end

--- "name[extras]>=1,<2 ; marker".
function checks.specifier(value)
  local wrong = check_common(value)
  if wrong then
    return nil, wrong
  end
  local body, marker = split_marker(match(value, "^%s*(.-)%s*$"))
  local name, rest = split_name(body)
  if not name then
    return nil, EXPECTED
  end
  rest = match(rest, "^%((.*)%)$") or rest
  if rest ~= "" and not versions_are_good(rest) then
    return nil, EXPECTED .. ": cannot read the version part \"" .. rest .. '"'
  elseif marker and not marker_is_good(marker) then
    return nil, EXPECTED .. ": cannot read the marker \"" .. marker .. '"'
  end
  return value
end

local function check_direct(value, url)
  local bare, marker = match(url, "^(%S+)%s+;%s*(.*)$")
  if find(bare or url, "[%s<>\"';]") or not find(bare or url, "^[%a][%w+.-]*:/?/?[^/]*/") then
    return nil, EXPECTED .. ": cannot read the URL"
  elseif marker and not marker_is_good(marker) then
    return nil, EXPECTED .. ": cannot read the marker \"" .. marker .. '"'
  end
  return value
end

--- All that can be installed: a specifier, "name @ URL", a URL, a path, "-e PATH".
function checks.requirement(value, at)
  if #value > LONGEST then
    return nil, "is longer than " .. LONGEST .. " characters"
  end
  local editable = match(value, "^%-e%s+([^%-%s].*)$")
  if editable then
    return check_path(editable, "-e ", at)
  end
  local wrong = check_common(value)
  if wrong then
    return nil, wrong
  elseif is_path(value) then
    return check_path(value, "", at)
  elseif find(value, "^[%a][%w+.-]*://") then
    return check_direct(value, value)
  end
  local name, rest = split_name(value)
  local url = name and match(rest, "^@%s*(.+)$")
  if url then
    return check_direct(value, url)
  end
  return checks.specifier(value)
end

--- A path, "3.12", or ">=3.10,<3.13".
function checks.python(value, at)
  if find(value, "%c") or find(value, "^%-") then
    return nil, "is not an interpreter"
  elseif find(value, "/", 1, true) then
    local path = at.absolute(value)
    if at.stat(path) ~= "file" then
      return nil, "does not exist (looked for " .. path .. ")"
    end
    return path
  elseif find(value, "^%d+%.?%d*%.?%d*t?$") or versions_are_good(value) then
    return value
  end
  return nil, 'is not an interpreter: expected a path, a version such as "3.12", or a range such as ">=3.10,<3.13"'
end

function checks.module_at(path, at)
  local kind = at.stat(path)
  if kind == "directory" then
    if at.stat(path .. "/__init__.py") == "file" then
      return path
    end
    return nil, "has no __init__.py (looked in " .. path .. ")"
  elseif kind == "file" and sub(path, -3) == ".py" then
    return path
  elseif kind then
    return nil, "is neither a folder nor a .py file (looked at " .. path .. ")"
  end
  return nil, "does not exist (looked for " .. path .. ")"
end

return checks
