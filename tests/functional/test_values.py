"""Values travel both ways: from Lua, from the command line, and back, in both ways to run a CPython."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from harness import CallFailed, Workspace

PROBE = """
    import collections, dataclasses, datetime, decimal, enum, fractions, pathlib, socket, uuid

    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    def show(value):
        return f"{type(value).__name__}:{value!r}"

    def make(source):
        return eval(source)

    def same(source, value):
        wanted = eval(source)
        if isinstance(wanted, float) and wanted != wanted:
            return isinstance(value, float) and value != value
        return type(value) is type(wanted) and value == wanted and repr(value) == repr(wanted)

    def echo(*args, **kwargs):
        return args[0] if args else kwargs

    def take(*args, **kwargs):
        return show([args, sorted(kwargs.items())])

    def unsendable(where):
        bad = socket.socket()
        return {"deep": [1, {"er": bad}], "set": {bad}, "plain": bad}[where]
"""

# Lua source, and how Python shows what arrives.
FROM_LUA = [
    ("nil", "NoneType:None"),
    ("pyisolate.null", "NoneType:None"),
    ("true", "bool:True"),
    ("0", "int:0"),
    ("-1", "int:-1"),
    ("9223372036854775807", "int:9223372036854775807"),
    ("math.mininteger", "int:-9223372036854775808"),
    ("1.0", "float:1.0"),
    ("1/0", "float:inf"),
    ("-1/0", "float:-inf"),
    ("'text'", "str:'text'"),
    ("''", "str:''"),
    ("'grüße \\u{1F600}'", "str:'grüße \U0001f600'"),
    ("'nul\\0inside'", "str:'nul\\x00inside'"),
    ("pyisolate.bytes '\\xff\\0'", "bytes:b'\\xff\\x00'"),
    ("{}", "list:[]"),
    ("pyisolate.dict {}", "dict:{}"),
    ("{ 1, 2, 3 }", "list:[1, 2, 3]"),
    ("{ a = 1 }", "dict:{'a': 1}"),
    ("{ [1] = 'x', a = 2 }", None),
    ("{ { 1 }, { a = { 2 } } }", "list:[[1], {'a': [2]}]"),
    ("pyisolate.tuple { 1, 2 }", "tuple:(1, 2)"),
    ("pyisolate.list { 1, pyisolate.null, 3 }", "list:[1, None, 3]"),
    ("pyisolate.dict { [1] = 'one', [2] = 'two' }", "dict:{1: 'one', 2: 'two'}"),
]

# Python source of values that must come back from Lua just as they were.
ROUND_TRIP = [
    "None", "True", "False", "0", "-1", "2**31", "2**53 + 1", "2**63 - 1", "-2**63", "2**63", "2**64", "-2**64 - 1",
    "10**40", "-10**40", "1.5", "-0.0", "5e-324", "float('inf')", "float('-inf')", "float('nan')", "''", "'abc'",
    "'\\x00'", "'\\u00e9\\u4e2d\\U0001f600'", "'x' * 100000",
    "[]", "[1, [2, [3]]]", "[None, None]", "()", "(1, 2)", "((),)", "[(1,), [1]]", "{'a': None}",
    "{1.5: 1, 'a': 2}", "{(1, 2): 3}", "{None: 1}", "{True: 'yes'}", "set()",
    "{1}", "frozenset({2})", "1 + 2j", "datetime.date(2024, 2, 29)", "datetime.time(1, 2, 3, 4)",
    "datetime.datetime(2024, 2, 29, 1, 2, 3, 4)",
    "datetime.datetime(2024, 2, 29, 1, 2, tzinfo=datetime.timezone.utc)",
    "datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30), 'NST'))",
    "datetime.datetime(2024, 10, 27, 2, 30, fold=1)", "datetime.timedelta(days=-1, microseconds=1)",
]  # fmt: skip

# What Lua cannot tell apart by itself, and how an application says it when it sends such a value back.
RESTORED = [
    ("b''", "pyisolate.bytes(value)"),
    ("b'\\x00\\xff'", "pyisolate.bytes(value)"),
    ("bytes(range(256)) * 300", "pyisolate.bytes(value)"),
    ("{}", "pyisolate.dict(value)"),
    ("{1: 'one', 2: 'two'}", "pyisolate.dict(value)"),
]


@pytest.mark.sanitizer
def test_lua_values_arrive_as_documented(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("probe", PROBE, **mode)
    lines = [
        f"do local ok, r = pcall(function() return probe:show({source}) end) "
        f"print({i}, ok, ok and r or (type(r) == 'table' and r.type or tostring(r))) end"
        for i, (source, _) in enumerate(FROM_LUA)
    ]
    finished = workspace.run_main("\n".join(lines))
    assert finished.status == 0, finished.err
    shown = finished.out.splitlines()
    assert len(shown) == len(FROM_LUA)
    wrong = [
        (source, wanted, line)
        for (source, wanted), line in zip(FROM_LUA, shown)
        if line.split("\t", 1)[1] != f"true\t{wanted}" and wanted is not None
    ]
    assert not wrong


@pytest.mark.sanitizer
def test_python_values_come_back_from_lua_unchanged(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("probe", PROBE, **mode)
    body = [
        "local function trip(source)",
        "  local value = probe:make(source)",
        "  local ok, same = pcall(function() return probe:same(source, value) end)",
    ]
    body += [
        "  if not ok then print(source, same.type, same.message) elseif not same then print(source, probe:show(value)) end",
        "end",
    ]
    body += [f"trip {json.dumps(source)}" for source in ROUND_TRIP]
    finished = workspace.run_main("\n".join(body))
    assert finished.status == 0, finished.err
    assert finished.out == ""


@pytest.mark.parametrize(("source", "restored"), RESTORED)
def test_bytes_and_ambiguous_dicts_are_sent_back_with_a_word(workspace: Workspace, source: str, restored: str) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        f"local value = probe:make({json.dumps(source)})\nprint(probe:same({json.dumps(source)}, {restored}))"
    )
    assert finished.status == 0, finished.err
    assert finished.out == "true\n"


def test_uuids_and_paths_are_text_in_lua(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        """
        print(probe:make "uuid.UUID(int=5)", type(probe:make "uuid.UUID(int=5)"))
        print(probe:make "pathlib.Path('/tmp/x')")
        """
    )
    assert finished.out == "00000000-0000-0000-0000-000000000005\tstring\n/tmp/x\n", finished.err


def test_holes_and_strings_that_are_not_utf8_are_errors_that_name_the_way_out(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        """
        local ok, err = pcall(function() return probe:show { 1, nil, 3 } end)
        print(ok, err.type, err.message)
        ok, err = pcall(function() return probe:show "\\xff" end)
        print(ok, err.type, err.message)
        ok, err = pcall(function() return probe:show(print) end)
        print(ok, err.type, err.message)
        print(probe:show(1))
        """
    )
    assert finished.status == 0, finished.err
    hole, text, function, after = finished.out.splitlines()
    assert hole.startswith("false\t") and "null" in hole
    assert text.startswith("false\t") and "pyisolate.bytes" in text
    assert function.startswith("false\tTypeError")
    assert after == "int:1"


def test_keyword_arguments_from_lua(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        """
        print(probe:take(1, pyisolate.kwargs { b = 2, a = { 3 } }))
        print(probe:take(pyisolate.kwargs {}))
        print(probe:take())
        print(probe:call("take", 5))
        """
    )
    assert finished.status == 0, finished.err
    assert finished.out.splitlines() == [
        "list:[(1,), [('a', [3]), ('b', 2)]]",
        "list:[(), []]",
        "list:[(), []]",
        "list:[(5,), []]",
    ]


JSON_VALUES: list[Any] = [
    None, True, 0, -5, 2**53 + 1, 2**63, 10**30, 1.5, "", "text", "gr\u00fc\u00dfe \U0001f600", "a\nb\tc\\\"", [], [1, [2]], {},
    {"a": {"b": [None, False]}}, list(range(1000)),
]  # fmt: skip


@pytest.mark.sanitizer
def test_json_values_make_the_round_trip_from_the_command_line(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    workspace.configure()
    with workspace.serve() as host, workspace.no_new_descriptors(host):
        for value in JSON_VALUES:
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
                continue
            back = host.call("probe", "echo", value)
            assert back == value and type(back) is type(value), value
        assert host.call("probe", "take", 1, a=2) == "list:[(1,), [('a', 2)]]"
        assert host.call("probe", "make", "(1, 2)") == [1, 2]
        assert host.call("probe", "make", "10**30") == 10**30
        assert math.isclose(host.call("probe", "make", "0.1"), 0.1, rel_tol=0)


@pytest.mark.sanitizer
def test_what_cannot_be_sent_is_a_type_error_with_its_path(workspace: Workspace, mode: dict[str, Any]) -> None:
    workspace.extension("probe", PROBE, **mode)
    workspace.configure()
    with workspace.serve() as host:
        for where, path in (("deep", "[1]['er']"), ("plain", "socket")):
            with pytest.raises(CallFailed) as failed:
                host.call("probe", "unsendable", where)
            text = failed.value.finished.err + failed.value.finished.out
            assert "TypeError" in text and "socket" in text
            assert path in text.replace('"', "'"), text
        assert host.call("probe", "echo", 1) == 1


def test_enums_and_dataclasses_arrive_as_plain_data(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    workspace.configure()
    with workspace.serve() as host:
        assert host.call("probe", "make", "Point(1, 2)") == {"x": 1, "y": 2}
        assert host.call("probe", "make", "Colour.RED") == 1


def test_big_payloads_travel(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        """
        local mib = 64
        local text = string.rep("x", mib * 1024 * 1024)
        print(#probe:echo(text) == #text)
        local list = {}
        for i = 1, 300000 do list[i] = i end
        local back = probe:echo(list)
        print(#back, back[1], back[300000])
        """
    )
    assert finished.status == 0, finished.err
    assert finished.out.splitlines() == ["true", "300000\t1\t300000"]


def test_deep_nesting_is_refused_and_the_connection_stays_usable(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        """
        local deep = {}
        for _ = 1, 10000 do deep = { deep } end
        print((pcall(function() return probe:echo(deep) end)))
        print((pcall(function() return probe:make "(lambda f: f(f, 10000))(lambda f, n: [f(f, n - 1)] if n else [])" end)))
        local loop = {}
        loop[1] = loop
        print((pcall(function() return probe:echo(loop) end)))
        print(probe:echo(7))
        """
    )
    assert finished.status == 0, finished.err
    assert finished.out.splitlines() == ["false", "false", "false", "7"]
