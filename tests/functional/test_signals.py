"""A main that does not let go. Not under sanitizers: ThreadSanitizer holds signals back from a thread that computes."""

from __future__ import annotations

import signal
import time

from harness import Workspace, wait_for


def test_a_main_that_never_returns_ends_at_the_second_signal(workspace: Workspace) -> None:
    workspace.configure("function pyisolate.main()\n  print('on') while true do end\nend\n")
    process = workspace.start("config.lua")
    wait_for(lambda: workspace.run("status").status == 0, 20, "the host")
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert workspace.finish(process, timeout=20).status == 143
    assert workspace.run_main("return 0").status == 0  # it clears what the other could not
