-- One extension crashes; the other one, the host and `main` go on, and the next call finds a new process.
local pyisolate = require "pyisolate"

pyisolate.manager { venv_root_path = "./venvs" }

local fragile = pyisolate.extension { name = "fragile", module_path = "./fragile", sandbox_mode = "disabled" }
local steady = pyisolate.extension { name = "steady", module_path = "./steady", sandbox_mode = "disabled" }

function pyisolate.main()
  local first = fragile:process()
  print("fragile answers:", fragile:double(21))
  print("steady counts:", steady:count())

  -- steady is in the middle of a call while fragile dies.
  local busy = pyisolate.spawn(function() return steady:slow_count(0.3) end)
  local ok, err = pcall(function() return fragile:segfault() end)
  print("fragile crashed:", not ok, err.type, err.message:match "SIG%u+")

  print("steady counts:", busy:wait()) -- in the same process: it remembers
  print("fragile answers:", fragile:double(21))
  print("in a new process:", fragile:process() ~= first)
end
