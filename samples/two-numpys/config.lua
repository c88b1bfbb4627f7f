-- One application, one package, two numpys: the environment is all that differs.
local pyisolate = require "pyisolate"

pyisolate.manager { venv_root_path = "./venvs" }

local function probe(name, requirement, python)
  return pyisolate.extension {
    name = name, module_path = "./probe",
    dependencies = { requirement },
    python = python,
    sandbox_mode = "disabled",
  }
end

local classic = probe("classic", "numpy==1.26.*", ">=3.9,<3.13") -- 1.26 has no wheels for Python 3.13
local current = probe("current", "numpy>=2.0")

local function report(extension)
  local found = extension:describe()
  print(string.format("%s: numpy %s in process %s", extension.name, found.numpy, found.process))
  print("  uint8(200) + 100 =", extension:add_to_small(200, 100)) -- 1.x makes room, 2.x keeps the type
  print("  float32(1) + 1.0 is a", extension:sum_type())
  print("  det [[1, 2], [3, 4]] =", string.format("%.3f", extension:determinant { { 1, 2 }, { 3, 4 } }))
  return found
end

function pyisolate.main()
  local one, two = report(classic), report(current)
  print("processes differ:", one.process ~= two.process)
  -- What one has made, the other can use: here 1.26 makes the numbers, and 2.x sorts them.
  print("1.26 made, 2.x sorted:", table.concat(current:sort(classic:countdown(5)), " "))
end
