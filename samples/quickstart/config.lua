local pyisolate = require "pyisolate"

pyisolate.manager { venv_root_path = "./venvs" }

local averages = pyisolate.extension {
  name = "averages", module_path = "./averages",
  dependencies = { "numpy>=2.0" },
}

function pyisolate.main(args)
  print("Mean:", averages:mean { 1, 2, 3, 4, 5 })
  local a, b = pyisolate.all(
    function() return averages:mean { 1, 2 } end,
    function() return averages:slow_mean({ 3, 4 }, pyisolate.kwargs { delay = 0.1 }) end)
  print("Side by side:", a, b)
  local ok, err = pcall(function() return averages:mean "not a list" end)
  if not ok then print(err.type, err.message, err.traceback) end
end
