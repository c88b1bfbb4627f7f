--- Finds the line of each key of a table constructor in the text of a configuration.
--
-- A table that was passed to a function no longer knows where its fields were written, so the text is read again
-- from the line of the call: tokens only, no grammar. { a = 1, b = { 2, c = 3 } } gives
-- { a = 10, b = 10, ["b[1]"] = 11, ["b.c"] = 12 }. Fields that a program computes are not found; the call's
-- own line stands for them.

local raw = select(2, ...)
local find, match, gmatch, sub, byte = raw.find, raw.match, raw.gmatch, string.sub, string.byte

local OPEN = { ["{"] = "}", ["("] = ")", ["["] = "]" }
local CLOSE = { ["}"] = true, [")"] = true, ["]"] = true }

local function count_lines(text)
  local lines, at = 0, 0
  while true do
    at = find(text, "\n", at + 1, true)
    if not at then
      return lines
    end
    lines = lines + 1
  end
end

--- The end of a long bracket that begins at `at`, or nil if there is none.
local function long_bracket(source, at)
  local level = match(source, "^%[(=*)%[", at)
  if not level then
    return nil
  end
  local _, stop = find(source, "]" .. level .. "]", at, true)
  return stop or #source
end

local function short_string(source, at)
  local quote, stop = sub(source, at, at), at + 1
  while stop <= #source do
    local c = sub(source, stop, stop)
    if c == quote or c == "\n" then
      return stop
    end
    stop = stop + (c == "\\" and 2 or 1)
  end
  return #source
end

--- One token at `at` (no space there): its kind ("name", "string", "comment", or itself) and its last position.
local function token(source, at)
  local c = sub(source, at, at)
  if c == "-" and byte(source, at + 1) == 45 then
    return "comment", long_bracket(source, at + 2) or (find(source, "\n", at, true) or #source + 1) - 1
  elseif c == '"' or c == "'" then
    return "string", short_string(source, at)
  elseif c == "[" and long_bracket(source, at) then
    return "string", long_bracket(source, at)
  end
  local _, stop = find(source, "^[%a_][%w_]*", at)
  if stop then
    return "name", stop
  end
  _, stop = find(source, "^[=~<>]=", at)
  if stop then
    return "operator", stop
  end
  _, stop = find(source, "^%d[%w.]*", at)
  return stop and "number" or c, stop or at
end

--- Calls visit(kind, text, line) for each token from `line` on, until it returns true.
local function each_token(source, line, visit)
  local at, now = 1, 1
  while now < line do
    at = find(source, "\n", at, true)
    if not at then
      return
    end
    at, now = at + 1, now + 1
  end
  while true do
    local start = find(source, "%S", at)
    if not start then
      return
    end
    now = now + count_lines(sub(source, at, start - 1))
    local kind, stop = token(source, start)
    local text = sub(source, start, stop)
    if kind ~= "comment" and visit(kind, text, now) then
      return
    end
    now = now + count_lines(text)
    at = stop + 1
  end
end

local function path_of(frame, key)
  if type(key) == "number" then
    return (frame.path or "") .. "[" .. key .. "]"
  end
  return frame.path and (frame.path .. "." .. key) or key
end

--- What reads the constructor's tokens: a stack of open brackets, and in braces the key that is being filled.
local function new_reader(lines)
  local stack, top = {}, nil
  local name, name_line -- the last token, if it may become a key
  local fresh = false -- at the start of a field

  local function note(line)
    if top and top.brace and fresh then
      top.index = top.index + 1
      top.key = top.index
      lines[path_of(top, top.key)] = line
    end
    fresh = false
  end

  local function open(text, line)
    local bracket_key = text == "[" and fresh
    if not bracket_key then
      note(line)
    end
    local frame = { brace = text == "{", index = 0, bracket_key = bracket_key }
    if top and top.brace and top.key then
      frame.path = path_of(top, top.key)
    end
    stack[#stack + 1] = frame
    top = frame
    fresh = text == "{"
  end

  local function close()
    local was = top
    stack[#stack] = nil
    top = stack[#stack]
    fresh = false
    name = was.bracket_key and was.literal or nil
    name_line = was.line
    return top == nil
  end

  local function set_key(line)
    if top.brace and name then
      -- A name that was counted as an item is a key after all.
      if top.counted then
        lines[path_of(top, top.index)] = nil
        top.index = top.index - 1
      end
      top.key = name
      lines[path_of(top, name)] = name_line or line
    end
  end

  return function(kind, text, line)
    if OPEN[text] and kind == text then
      open(text, line)
      return
    elseif CLOSE[text] and kind == text then
      return close()
    elseif kind == "=" then
      set_key(line)
      name, fresh = nil, false
      return
    elseif kind == "," or kind == ";" then
      top.key, name, fresh = nil, nil, top.brace
      return
    end
    if top.bracket_key then
      top.literal, top.line = kind == "string" and sub(text, 2, -2) or nil, line
    end
    top.counted = fresh and top.brace
    note(line)
    name, name_line = kind == "name" and text or nil, line
  end
end

--- The lines of the fields of the first table constructor after `word` on `line` or below.
local function locate(source, line, word)
  local lines, read, seen = {}, nil, false
  each_token(source, line, function(kind, text, now)
    if read then
      return read(kind, text, now)
    elseif kind == "name" and text == word then
      seen = true
    elseif seen and kind == "{" then
      read = new_reader(lines)
      read(kind, text, now)
    elseif seen and kind ~= "(" then
      return true
    end
  end)
  return lines
end

--- The line of the last `return ... word`: a call in tail position, which leaves no line behind.
local function tail(source, word)
  local line, found = 1, 1
  for text in gmatch(source, "([^\n]*)\n?") do
    local at = find(text, "return", 1, true)
    found = at and find(text, word, at, true) and line or found
    line = line + 1
  end
  return found
end

return { locate = locate, tail = tail }
