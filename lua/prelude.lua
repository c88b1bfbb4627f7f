--- The module `pyisolate`, as a configuration sees it. `core` is what the C side provides, `declare` the functions
-- that declare.lua makes.

local validate = require "pyisolate.validate"
local errors = require "pyisolate.errors"
local values = require "pyisolate.values"
local tasks = require "pyisolate.tasks"

local error, rawset, type, pairs, setmetatable, tostring = error, rawset, type, pairs, setmetatable, tostring

--- Only `main` may be assigned: anything else is a mistake that would be silent.
local function assignment(note_main)
  return function(module, key, value)
    if key == "main" then
      rawset(module, key, value)
      note_main()
      return
    end
    local near = type(key) == "string" and validate.nearest(key, { "main" })
    error("pyisolate." .. tostring(key) .. " cannot be set" .. (near and ": did you mean pyisolate.main?" or ""), 2)
  end
end

local function unknown_name(module, key)
  if key == "main" then
    return nil
  end
  local names = {}
  for name in pairs(module) do
    names[#names + 1] = name
  end
  local near = type(key) == "string" and validate.nearest(key, names)
  error("there is no pyisolate." .. tostring(key) .. (near and ": did you mean pyisolate." .. near .. "?" or ""), 2)
end

local function later(name)
  return function()
    error("pyisolate." .. name .. " is not available yet", 2)
  end
end

return function(core, declare)
  local pyisolate = {
    manager = declare.manager,
    extension = declare.extension,
    version = core.version,
    log = core.log,
    service = later "service",
    publish = later "publish",
    policy = later "policy",
  }
  errors.open(core.error_type)
  core.keep_describe(errors.describe)
  function core.raise(kind, code, message)
    error(setmetatable({ type = kind, code = code, message = message }, core.error_type), 0)
  end
  for _, part in pairs { values(core.kinds), tasks(core) } do
    for name, value in pairs(part) do
      pyisolate[name] = value
    end
  end
  return setmetatable(pyisolate, { __newindex = assignment(declare.note_main), __index = unknown_name, __metatable = false })
end
