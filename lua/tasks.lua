--- Waiting: spawn, all, timeout, sleep. Built on what the loop offers: watch(task), park(seconds), cancel(task).

local ipairs, type, error, pcall = ipairs, type, error, pcall
local pack, unpack = table.pack, table.unpack

local function new(core)
  local tasks = {}
  local methods = {}

  local function check(f, i)
    if type(f) ~= "function" then
      error("argument " .. i .. " must be a function, got a " .. type(f), 3)
    end
  end

  --- Waits until all have ended or one has failed, or the time is over. Returns "done", the failed one, or "timeout".
  local function wait(list, seconds)
    local deadline = seconds and core.now() + seconds
    for _, task in ipairs(list) do
      core.watch(task)
    end
    while true do
      local running = false
      for _, task in ipairs(list) do
        local status = core.status(task)
        if status == "failed" then
          return task
        end
        running = running or status == "running"
      end
      if not running then
        return "done"
      elseif not core.park(deadline and deadline - core.now()) then
        return "timeout"
      end
    end
  end

  --- Cancels them and waits until each has ended, so that nothing runs on behind the caller's back. When the caller is
  -- itself cancelled there is nothing to wait for: its own wait would raise.
  -- `patient`: while the host stops, calls in flight keep their grace.
  local function cancel_all(list, patient)
    for _, task in ipairs(list) do
      core.cancel(task, patient)
    end
    for _, task in ipairs(list) do
      while core.status(task) == "running" do
        core.watch(task)
        if not pcall(core.park) then
          return
        end
      end
    end
  end

  local function guarded_wait(list, seconds)
    local ok, ended = pcall(wait, list, seconds)
    if not ok then
      cancel_all(list, true)
      error(ended, 0)
    end
    return ended
  end

  --- Starts a function beside this one; task:wait() gives its results.
  function tasks.spawn(f, ...)
    check(f, 1)
    return core.spawn(f, ...)
  end

  --- Runs the functions side by side; gives the first result of each, in their order. The first error cancels the
  -- others and is raised.
  function tasks.all(...)
    local functions, list = pack(...), {}
    for i = 1, functions.n do
      check(functions[i], i)
    end
    for i = 1, functions.n do
      list[i] = core.spawn(functions[i])
    end
    local ended = guarded_wait(list)
    if ended ~= "done" then
      cancel_all(list, true)
      core.result(ended)
    end
    local results = {}
    for i = 1, functions.n do
      results[i] = core.result(list[i])
    end
    return unpack(results, 1, functions.n)
  end

  --- Runs f and gives its results; after so many seconds it is cancelled, with what it waits for, and a TimeoutError
  -- is raised.
  function tasks.timeout(seconds, f, ...)
    if type(seconds) ~= "number" then
      error("argument 1 must be a number of seconds, got a " .. type(seconds), 2)
    end
    check(f, 2)
    local list = { core.spawn(f, ...) }
    local ended = guarded_wait(list, seconds)
    if ended == "timeout" then
      cancel_all(list)
      core.raise("TimeoutError", "deadline", "not done within " .. seconds .. " seconds")
    end
    return core.result(list[1])
  end

  function tasks.sleep(seconds)
    if type(seconds) ~= "number" then
      error("argument 1 must be a number of seconds, got a " .. type(seconds), 2)
    end
    core.park(seconds, true)
  end

  --- Its results, once it has ended; raises its error.
  function methods:wait()
    while core.status(self) == "running" do
      core.watch(self)
      core.park()
    end
    return core.result(self)
  end

  function methods:cancel()
    core.cancel(self)
  end

  function methods:status()
    return core.status(self)
  end

  core.task_type.__index = methods
  core.task_type.__metatable = "pyisolate.task"
  return tasks
end

return new
