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

    class Zone(datetime.tzinfo):
        def utcoffset(self, when):
            return datetime.timedelta(0)

        def dst(self, when):
            return None

        def tzname(self, when):
            return "UTC"

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
    "b''", "b'\\x00\\xff'", "bytes(range(256)) * 300", "[b'a', 'a']", "{b'a': 1, 'a': 2}", "{}", "[{}]", "{'a': {}}", "{1: 'one', 2: 'two'}", "{2: 1}",
    "{-1: 0}", "{False: 0}", "{(1, 'a'): 1}", "{frozenset({1}): 1}", "{datetime.date(2024, 1, 1): 1}", "{b'k': 1}",
    "{uuid.UUID(int=3): 1}", "{2**70: 1}", "{float('inf'): 1}", "{1 + 1j: 1}", "{'\\ud800': 1}",
    "uuid.UUID(int=5)", "uuid.UUID(int=2**128 - 1)", "pathlib.Path('/tmp/x')", "pathlib.Path('r\\u00e9l/..')", "pathlib.Path('.')",
    "pathlib.Path('/tmp/\\udcff')", "'\\ud800'", "'a\\udfff\\ud800b'", "'\\ud83d\\ude00'", "frozenset()", "{(): 1}", "{frozenset(): {}}",
    "complex('nan+infj') != 0", "complex(-0.0, float('inf'))", "datetime.time(23, 59, 59, 999999, fold=1)",
    "datetime.time(1, tzinfo=datetime.timezone.utc)", "datetime.datetime.max", "datetime.datetime.min", "datetime.date.max", "datetime.timedelta.max",
    "datetime.timedelta.min", "datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(seconds=1, microseconds=500000), 'X'))",
]  # fmt: skip

# What becomes something simpler in Lua, or on its way there, and what then comes back.
SIMPLER = {
    "Colour.RED": "1",
    "Point(1, 2)": "{'x': 1, 'y': 2}",
    "{1.0: 'a'}": "{1: 'a'}",
    "{1: 'a', '1': 'b'}": "{1: 'a', '1': 'b'}",
    "collections.OrderedDict(a=1)": "{'a': 1}",
    "datetime.datetime(2024, 1, 1, tzinfo=Zone())": "datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)",
    "collections.namedtuple('P', 'x')(1)": "(1,)",
    "bytearray(b'ab')": "b'ab'",
    "memoryview(b'ab')": "b'ab'",
    "pathlib.PurePosixPath('/a')": "pathlib.Path('/a')",
}


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


@pytest.mark.parametrize(("source", "back"), SIMPLER.items(), ids=SIMPLER.keys())
def test_what_becomes_simpler_comes_back_as_documented(workspace: Workspace, source: str, back: str) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        f"print(probe:show(probe:make({json.dumps(source)})), probe:show(probe:make({json.dumps(back)})))"
    )
    assert finished.status == 0, finished.err
    arrived, wanted = finished.out.rstrip("\n").split("\t")
    assert arrived == wanted


def test_bytes_uuids_and_paths_read_as_strings_in_lua(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    finished = workspace.run_main(
        """
        print(probe:make "uuid.UUID(int=5)", pyisolate.uuid "00000000000000000000000000000005" == probe:make "uuid.UUID(int=5)")
        local path = probe:make "pathlib.Path('/tmp/x')"
        print(path .. "/y", path:sub(2, 4), #path, tostring(path) == "/tmp/x")
        local bytes = probe:make "b'abc'"
        print(#bytes, bytes:byte(1, -1))
        print(probe:show(pyisolate.path "/a"), probe:show(pyisolate.uuid "00000000-0000-0000-0000-000000000007"))
        """
    )
    assert finished.out.splitlines() == [
        "00000000-0000-0000-0000-000000000005\ttrue",
        "/tmp/x/y\ttmp\t6\ttrue",
        "3\t97\t98\t99",
        "PosixPath:PosixPath('/a')\tUUID:UUID('00000000-0000-0000-0000-000000000007')",
    ], finished.err


NUMPY = """
    import numpy

    def make(source):
        return eval(source)

    def same(source, value):
        wanted = eval(source)
        return (type(value).__name__ == type(wanted).__name__ and value.dtype == wanted.dtype
                and value.shape == wanted.shape and value.tobytes() == wanted.tobytes())

    def show(value):
        return f"{type(value).__name__}:{value!r}"
"""

ARRAYS = [
    "numpy.arange(6.0).reshape(2, 3)", "numpy.zeros((0, 3), 'f4')", "numpy.array(5)", "numpy.array([True, False])",
    "numpy.arange(4, dtype='>i2')", "numpy.array([1 + 2j])", "numpy.array(['a', 'bcd'])", "numpy.array([b'x'])",
    "numpy.array(['2024-01-01'], 'M8[D]')", "numpy.arange(10)[::2]", "numpy.asfortranarray(numpy.arange(6).reshape(2, 3))",
    "numpy.datetime64('2024-01-01')", "numpy.complex64(1 + 2j)",
]  # fmt: skip
NUMBERS = {
    "numpy.float64(1.5)": "float:1.5",
    "numpy.float32(0.5)": "float:0.5",
    "numpy.float16(-2)": "float:-2.0",
    "numpy.int8(-5)": "int:-5",
    "numpy.uint64(2**64 - 1)": "int:18446744073709551615",
    "numpy.bool_(True)": "bool:True",
    "numpy.float64('nan')": "float:nan",
    "numpy.float64('-inf')": "float:-inf",
}


def test_numpy_arrays_come_back_and_scalars_become_numbers(
    workspace: Workspace,
) -> None:
    workspace.extension("probe", NUMPY, dependencies=["numpy"])
    lines = [f"print(probe:same({json.dumps(a)}, probe:make({json.dumps(a)})), {json.dumps(a)})" for a in ARRAYS]
    lines += [f"print(probe:show(probe:make({json.dumps(number)})))" for number in NUMBERS]
    finished = workspace.run_main("\n".join(lines))
    assert finished.status == 0, finished.err
    shown = finished.out.splitlines()
    assert shown[: len(ARRAYS)] == [f"true\t{a}" for a in ARRAYS]
    assert shown[len(ARRAYS) :] == list(NUMBERS.values())


def test_holes_and_strings_that_are_not_utf8_are_errors_that_name_the_way_out(
    workspace: Workspace,
) -> None:
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
    None, True, 0, -5, 2**53 + 1, 2**63, 10**30, -(2**200), [10**19, 1.5], 1.5, "", "text", "gr\u00fc\u00dfe \U0001f600", "a\nb\tc\\\"", [], [1, [2]], {},
    {"a": {"b": [None, False]}}, list(range(1000)),
]  # fmt: skip


@pytest.mark.sanitizer
def test_json_values_make_the_round_trip_from_the_command_line(
    workspace: Workspace,
) -> None:
    workspace.extension("probe", PROBE)
    workspace.configure()
    with workspace.serve() as host, workspace.no_new_descriptors(host):
        for value in JSON_VALUES:
            back = host.call("probe", "echo", value)
            assert back == value and type(back) is type(value), value
        assert host.call("probe", "take", 1, a=2) == "list:[(1,), [('a', 2)]]"
        assert host.call("probe", "make", "(1, 2)") == [1, 2]
        assert host.call("probe", "make", "10**30") == 10**30
        assert math.isclose(host.call("probe", "make", "0.1"), 0.1, rel_tol=0)


# docs/protocol.md, "Values as JSON"
AS_JSON: dict[str, Any] = {
    "-2**70": -(2**70),
    "float('inf')": {"$float": "inf"},
    "float('nan')": {"$float": "nan"},
    "b'\\x00\\xff'": {"$bytes": "AP8="},
    "{1, }": [1],
    "frozenset()": [],
    "((1, 2), ())": [[1, 2], []],
    "{1: 'a', (1, 2): 'b', None: 'c'}": {"1": "a", "[1,2]": "b", "null": "c"},
    "1 - 2j": {"$complex": [1.0, -2.0]},
    "datetime.datetime(2026, 11, 23, 15, 4, 5, 123, datetime.timezone.utc)": "2026-11-23T15:04:05.000123+00:00",
    "datetime.date(2026, 1, 2)": "2026-01-02",
    "datetime.time(3, 4)": "03:04:00",
    "datetime.timedelta(days=1, seconds=3.5)": "P1DT3.500000S",
    "uuid.UUID(int=5)": "00000000-0000-0000-0000-000000000005",
    "pathlib.Path('/tmp/x')": "/tmp/x",
    "'\\ud800'": "\ud800",
    "Colour.RED": 1,
    "Point(1, 2)": {"x": 1, "y": 2},
}


def test_every_type_has_its_json_on_the_command_line(workspace: Workspace) -> None:
    workspace.extension("probe", PROBE)
    workspace.configure()
    with workspace.serve() as host:
        assert {source: host.call("probe", "make", source) for source in AS_JSON} == AS_JSON


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


def test_deep_nesting_is_refused_and_the_connection_stays_usable(
    workspace: Workspace,
) -> None:
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
