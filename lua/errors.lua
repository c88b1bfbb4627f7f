--- How an error reads: one line for tostring, all of it for a person who has to find out why.

local type, tostring, rawget, ipairs = type, tostring, rawget, ipairs
local concat = table.concat
local find, gsub = string.find, string.gsub

local errors = {}

--- "ValueError: too small"
function errors.line(err)
  local kind, message = rawget(err, "type") or "Error", rawget(err, "message")
  if message == nil or message == "" then
    return tostring(kind)
  end
  return tostring(kind) .. ": " .. tostring(message)
end

local function add(lines, err, depth)
  local cause = rawget(err, "cause")
  if cause and depth < 16 then
    add(lines, cause, depth + 1)
    lines[#lines + 1] = "\nThe above was the direct cause of:\n"
  end
  local traceback = rawget(err, "traceback")
  if traceback then
    lines[#lines + 1] = (gsub(tostring(traceback), "\n+$", ""))
  end
  if not (traceback and find(traceback, errors.line(err), 1, true)) then
    lines[#lines + 1] = errors.line(err)
  end
  for _, note in ipairs(rawget(err, "notes") or {}) do
    lines[#lines + 1] = tostring(note)
  end
end

--- Everything: where it was raised, tracebacks, causes, notes. Takes any error value.
function errors.describe(err)
  if type(err) ~= "table" or not rawget(err, "code") then
    return tostring(err)
  end
  local head = errors.line(err)
  local extension = rawget(err, "extension")
  if extension then
    head = extension .. (rawget(err, "method") and ":" .. rawget(err, "method") or "") .. ": " .. head
  end
  if not (rawget(err, "traceback") or rawget(err, "cause") or rawget(err, "notes")) then
    return head
  end
  local lines = { head }
  add(lines, err, 0)
  return concat(lines, "\n")
end

function errors.open(error_type)
  error_type.__name = "pyisolate.error"
  error_type.__tostring = errors.line
end

return errors
