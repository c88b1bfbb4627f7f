--- The module `pyisolate`, as a configuration sees it. `core` is what the C side provides, `declare` the functions
-- that declare.lua makes.

local validate = require "pyisolate.validate"

local error, rawset, type, pairs = error, rawset, type, pairs

--- Only `main` may be assigned: anything else is a mistake that would be silent.
local function refuse_assignment(module, key, value)
  if key == "main" then
    rawset(module, key, value)
    return
  end
  local near = type(key) == "string" and validate.nearest(key, { "main" })
  error("pyisolate." .. tostring(key) .. " cannot be set" .. (near and ": did you mean pyisolate.main?" or ""), 2)
end

local function unknown_name(module, key)
  local names = {}
  for name in pairs(module) do
    names[#names + 1] = name
  end
  if key == "main" then
    return nil
  end
  local near = type(key) == "string" and validate.nearest(key, names)
  error("there is no pyisolate." .. tostring(key) .. (near and ': did you mean pyisolate.' .. near .. "?" or ""), 2)
end

return function(core, declare)
  local pyisolate = {
    manager = declare.manager,
    extension = declare.extension,
    version = core.version,
  }
  return setmetatable(pyisolate, { __newindex = refuse_assignment, __index = unknown_name, __metatable = false })
end
