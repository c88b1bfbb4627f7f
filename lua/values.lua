--- Values that a plain table cannot say: pyisolate.tuple, bytes, kwargs ... and how the ones that come from
-- Python read.

local type, tostring, pairs, ipairs, rawequal = type, tostring, pairs, ipairs, rawequal
local getmetatable, setmetatable, error = getmetatable, setmetatable, error
local format, concat = string.format, table.concat

local function new(kinds)
  local values = { null = kinds.null }

  local function brief(value)
    return type(value) == "string" and format("%q", value) or tostring(value)
  end

  local function listing(open, close)
    return function(t)
      local shown = {}
      for i = 1, #t do
        if i > 20 then
          shown[i] = "..."
          break
        end
        shown[i] = brief(t[i])
      end
      return open .. concat(shown, ", ") .. close
    end
  end

  kinds.list.__tostring = listing("list{", "}")
  kinds.tuple.__tostring = listing("tuple{", "}")
  kinds.set.__tostring = listing("set{", "}")
  kinds.frozenset.__tostring = listing("frozenset{", "}")

  function kinds.dict.__tostring(t)
    local shown = {}
    for key, value in pairs(t) do
      shown[#shown + 1] = tostring(key) .. " = " .. brief(value)
    end
    table.sort(shown)
    return "dict{" .. concat(shown, ", ") .. "}"
  end

  --- A table of this kind with the same contents (the same table, if it is plain).
  local function maker(name)
    local kind = kinds[name]
    return function(t)
      if t == nil then
        t = {}
      elseif type(t) ~= "table" then
        error("pyisolate." .. name .. " takes a table, got a " .. type(t), 2)
      elseif getmetatable(t) ~= nil then
        local copy = {}
        for key, value in pairs(t) do
          copy[key] = value
        end
        t = copy
      end
      return setmetatable(t, kind)
    end
  end

  for _, name in ipairs { "list", "dict", "tuple", "set", "frozenset", "kwargs", "complex", "datetime", "date", "time",
    "timedelta", "ndarray" } do
    values[name] = maker(name)
  end

  --- What has a text and is no str (bytes, UUIDs, paths) reads as its string: tostring, #, .., order, and the methods
  -- of strings. Two are equal if they are of one kind and have the same text; one never equals a string.
  local function text_of(x)
    return type(x) == "table" and x[1] or x
  end

  local function text_kind(name)
    local kind, wrapped = kinds[name], {}
    values[name] = function(s)
      if type(s) ~= "string" then
        error("pyisolate." .. name .. " takes a string, got a " .. type(s), 2)
      end
      return setmetatable({ s }, kind)
    end
    function kind.__tostring(t)
      return t[1]
    end
    function kind.__len(t)
      return #t[1]
    end
    function kind.__concat(a, b)
      return text_of(a) .. text_of(b)
    end
    function kind.__eq(a, b)
      return rawequal(getmetatable(a), getmetatable(b)) and a[1] == b[1]
    end
    function kind.__lt(a, b)
      return text_of(a) < text_of(b)
    end
    function kind.__le(a, b)
      return text_of(a) <= text_of(b)
    end
    function kind.__index(_, key)
      local method = string[key]
      if method and not wrapped[key] then
        wrapped[key] = function(t, ...)
          return method(text_of(t), ...)
        end
      end
      return wrapped[key]
    end
  end

  for _, name in ipairs { "bytes", "uuid", "path" } do
    text_kind(name)
  end
  local any_uuid = values.uuid
  function values.uuid(s)
    local digits = type(s) == "string" and string.gsub(string.lower(s), "-", "")
    if digits and not string.find(digits, "^" .. ("%x"):rep(32) .. "$") then
      error("pyisolate.uuid takes 32 hexadecimal digits, dashes between them or not", 2)
    end
    return any_uuid(digits and string.gsub(digits, "^(........)(....)(....)(....)", "%1-%2-%3-%4-"))
  end

  function values.int(digits)
    if math.type(digits) == "integer" then
      return digits
    elseif type(digits) ~= "string" or not (string.find(digits, "^-?%d+$") or string.find(digits, "^-?0[xX]%x+$")) then
      error("pyisolate.int takes decimal digits, or 0x and hexadecimal ones, as a string", 2)
    end
    return setmetatable({ digits }, kinds.int)
  end
  function kinds.int.__tostring(t)
    return t[1]
  end
  function kinds.int.__eq(a, b)
    return rawequal(getmetatable(a), getmetatable(b)) and a[1] == b[1]
  end

  function kinds.complex.__tostring(t)
    return format("(%.17g%+.17gj)", t.re or 0, t.im or 0)
  end

  local function clock_text(t)
    local text = format("%02d:%02d:%02d", t.hour or 0, t.minute or 0, t.second or 0)
    if (t.microsecond or 0) ~= 0 then
      text = text .. format(".%06d", t.microsecond)
    end
    if t.offset then
      local minutes = t.offset // 60
      local sign = minutes < 0 and "-" or "+"
      minutes = minutes < 0 and -minutes or minutes
      text = text .. format("%s%02d:%02d", sign, minutes // 60, minutes % 60)
    end
    return text
  end

  local function date_text(t)
    return format("%04d-%02d-%02d", t.year or 0, t.month or 0, t.day or 0)
  end

  kinds.time.__tostring = clock_text
  kinds.date.__tostring = date_text
  function kinds.datetime.__tostring(t)
    return date_text(t) .. "T" .. clock_text(t)
  end
  function kinds.timedelta.__tostring(t)
    return format("%d days, %d.%06d s", t.days or 0, t.seconds or 0, t.microseconds or 0)
  end

  function kinds.ndarray.__tostring(t)
    return format("ndarray %s (%s)", tostring(t.dtype), concat(t.shape or {}, ", "))
  end
  function kinds.npscalar.__tostring(t)
    return format("numpy %s 0x%s", tostring(t.dtype), (string.gsub(t.data or "", ".", function(c)
      return format("%02x", string.byte(c))
    end)))
  end

  return values
end

return new
