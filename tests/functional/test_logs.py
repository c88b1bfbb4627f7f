"""What an extension prints and logs reaches the host's log, tagged, levelled, in order, and never the protocol."""

from __future__ import annotations

import re
from typing import Any

import pytest
from harness import CallFailed, Workspace

CHATTY = """
    import ctypes, faulthandler, logging, os, sys

    log = logging.getLogger("chatty.inner")

    def say(text): print(text)
    def say_err(text): print(text, file=sys.stderr)
    def say_raw(text): os.write(1, text.encode() + b"\\n"); os.write(2, b"e-" + text.encode() + b"\\n")
    def say_c(text):
        libc = ctypes.CDLL(None)
        libc.puts(text.encode())
    def levels():
        logging.getLogger().setLevel(logging.DEBUG)
        log.debug("a debug line"); log.info("an info line"); log.warning("a warning line"); log.error("an error line")
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("with traceback")
    def many(n):
        for i in range(n):
            print("line", i)
        return n
    def binary(): os.write(1, bytes(range(256)) * 4 + b"\\n")
    def partial_then_die():
        sys.stdout.write("last words without newline")
        sys.stdout.flush()
        os._exit(1)
    def huge(): print("x" * 300000)
    def stdin(): return sys.stdin.read()
    def ok(): return "ok"
"""


@pytest.mark.sanitizer
def test_prints_reach_the_log_with_the_extension_s_name_and_stream(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("chatty", CHATTY, **mode)
    workspace.configure()
    with workspace.serve() as host:
        host.call("chatty", "say", "to stdout")
        host.call("chatty", "say_err", "to stderr")
        host.call("chatty", "say_raw", "raw bytes")
        for text in ("to stdout", "to stderr", "raw bytes", "e-raw bytes"):
            assert host.log_has(text), host.log()
            line = next(line for line in host.log().splitlines() if text in line)
            assert "chatty" in line


@pytest.mark.sanitizer
def test_printing_does_not_disturb_the_protocol(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("chatty", CHATTY, **mode)
    workspace.configure()
    with workspace.serve() as host:
        host.call("chatty", "binary")
        host.call("chatty", "huge")
        host.call("chatty", "say", "\x00\x1b[31m escape")
        assert host.call("chatty", "many", 2000) == 2000
        assert host.call("chatty", "ok") == "ok"
        assert host.call("chatty", "stdin") == ""
        assert "\x1b[31m escape" not in host.log()


@pytest.mark.sanitizer
def test_lines_arrive_in_order_and_none_is_lost(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("chatty", CHATTY, **mode)
    workspace.configure()
    with workspace.serve() as host:
        host.call("chatty", "many", 3000)
        assert host.log_has("line 2999")
        numbers = [int(found) for found in re.findall(r"line (\d+)", host.log())]
        assert numbers == list(range(3000))


def test_logging_levels_are_kept(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("chatty", CHATTY, **mode)
    workspace.configure()
    with workspace.serve("--log-level", "debug") as host:
        host.call("chatty", "levels")
        assert host.log_has("ZeroDivisionError")
        for level, text in (
            ("debug", "a debug line"),
            ("info", "an info line"),
            ("warning", "a warning line"),
            ("error", "an error line"),
            ("error", "with traceback"),
        ):
            line = next((line for line in host.log().splitlines() if text in line), f"no {text!r} in {host.log()}")
            assert re.search(rf"\b{level}\b", line), line
            assert "chatty.inner" in line


def test_json_log_lines_are_json(workspace: Workspace) -> None:
    import json

    workspace.extension("chatty", CHATTY)
    workspace.configure()
    with workspace.serve("--log-format", "json") as host:
        host.call("chatty", "say", 'quote " and grüße \U0001f600')
        host.call("chatty", "binary")
        assert host.log_has("quote")
        host.stop()
        lines = [json.loads(line) for line in host.log().splitlines()]
        said = [line for line in lines if "quote" in line["msg"]]
        assert said[0]["msg"] == 'quote " and grüße \U0001f600'
        assert said[0]["ext"] == "chatty"


def test_last_words_without_a_newline_are_kept_at_a_crash(workspace: Workspace) -> None:
    workspace.extension("chatty", CHATTY)
    workspace.configure()
    with workspace.serve() as host:
        with pytest.raises(CallFailed):
            host.call("chatty", "partial_then_die")
        assert host.log_has("last words without newline"), host.log()


def test_data_goes_to_stdout_and_messages_to_stderr(workspace: Workspace) -> None:
    workspace.extension("chatty", CHATTY)
    finished = workspace.run_main('chatty:say("from the child")\nprint("from main")')
    assert finished.out == "from main\n"
    assert "from the child" in finished.err
