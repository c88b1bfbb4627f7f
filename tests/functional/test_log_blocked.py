"""Nobody reads the host's log: extensions that print wait, the others and the host do not, and no output is lost."""

from __future__ import annotations

import time

from harness import Workspace

PRINTER = """
    def flood(n):
        for i in range(n):
            print("x" * 200, i)
        return n
    def ok(): return "ok"
"""

LINES = 3000

MAIN = """
    local flooding = true
    pyisolate.spawn(function() loud:flood(3000) flooding = false end)
    for _ = 1, 50 do assert(calm:ok() == "ok") end
    print("calm", flooding)
    while flooding do pyisolate.sleep(0.02) end
    print("over")
"""


def test_a_log_that_nobody_reads_holds_up_only_who_writes_to_it(workspace: Workspace) -> None:
    workspace.extension("loud", PRINTER)
    workspace.extension("calm", PRINTER)
    workspace.configure(f"function pyisolate.main() {MAIN} end")
    process = workspace.start("run", str(workspace.config))
    assert process.stdout is not None
    assert process.stdout.readline() == b"calm\ttrue\n"
    time.sleep(0.5)  # the pipe of the log is full, the extension waits
    finished = workspace.finish(process)  # now it is read
    assert finished.status == 0, finished.err[-2000:]
    assert finished.out == "over\n"
    assert finished.err.count("x" * 200) == LINES
