"""Values that the core does not write or read by itself: a plain form for the wire, and back.

`plain(value)` returns `(extension type, plain value)`; -1 where the plain value stands for itself. The numbers
are those of `pyi_ext` in api/wire/pyi_wire.h. Modules are imported when the first value of theirs is met.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Union

    Plain = tuple[int, Any]

DATETIME, DATE, TIME, TIMEDELTA, UUID, PATH, NDARRAY, NPSCALAR = range(6, 14)

_NUMPY_KINDS = "biufcSUMm"
_REMEDY = (
    "send plain data instead: None, bool, numbers, str, bytes, list, tuple, dict, set, datetimes, UUID, Path, "
    "Enum, dataclasses or numpy arrays"
)


def _type_name(value: object) -> str:
    cls = type(value)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


# ---- to the wire -----------------------------------------------------------------------------


def _seconds(offset: Any) -> Union[int, float]:
    seconds: float = offset.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _zone(value: Any) -> list[Any]:
    offset = value.utcoffset()
    return [None, None] if offset is None else [_seconds(offset), value.tzname()]


def _plain_datetime(v: Any) -> Plain:
    fields = [v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.fold]
    return DATETIME, fields + _zone(v)


def _plain_time(v: Any) -> Plain:
    return TIME, [v.hour, v.minute, v.second, v.microsecond, v.fold, *_zone(v)]


def _plain_time_types(value: Any) -> Union[Plain, None]:
    module = sys.modules.get("datetime")
    if module is None:
        return None
    if isinstance(value, module.datetime):
        return _plain_datetime(value)
    if isinstance(value, module.date):
        return DATE, [value.year, value.month, value.day]
    if isinstance(value, module.time):
        return _plain_time(value)
    if isinstance(value, module.timedelta):
        return TIMEDELTA, [value.days, value.seconds, value.microseconds]
    return None


def _plain_numpy(value: Any) -> Union[Plain, None]:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        _check_dtype(value.dtype)
        return NDARRAY, [value.dtype.str, list(value.shape), value.tobytes()]
    if isinstance(value, (str, bytes)) or not isinstance(value, numpy.generic):
        return None
    _check_dtype(value.dtype)
    return NPSCALAR, [value.dtype.str, value.tobytes()]


def _check_dtype(dtype: Any) -> None:
    if dtype.kind not in _NUMPY_KINDS:
        raise TypeError(f"numpy dtype {dtype.name!r} cannot be sent; convert it to a numeric dtype or use .tolist()")


def _plain_library(value: Any) -> Union[Plain, None]:
    """Types of modules that are loaded, or the value could not exist."""
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return -1, value.value
    uuid = sys.modules.get("uuid")
    if uuid is not None and isinstance(value, uuid.UUID):
        return UUID, value.bytes
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and isinstance(value, pathlib.PurePath):
        return PATH, str(value)
    return None


# A subclass is sent as its base: made by the base's own method, whatever the subclass overrides.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda v: bytes.join(b"", (v,))[:]),
    (bytearray, lambda v: bytes(memoryview(v))),
    (tuple, lambda v: tuple(tuple.__iter__(v))),
    (list, lambda v: list(list.__iter__(v))),
    (dict, lambda v: dict(dict.items(v))),
    (set, lambda v: set(set.__iter__(v))),
    (frozenset, lambda v: frozenset(frozenset.__iter__(v))),
    (complex, lambda v: complex(v.real, v.imag)),
)


def _plain_subclass(value: Any) -> Union[Plain, None]:
    for base, make in _BASES:
        if isinstance(value, base):
            made = make(value)
            if type(made) is base or (base is bytearray and type(made) is bytes):
                return -1, made
    return None


def _plain_dataclass(value: Any) -> Union[Plain, None]:
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is None or isinstance(value, type):
        return None
    names = [n for n, f in fields.items() if f._field_type.name == "_FIELD"]
    return -1, {name: getattr(value, name) for name in names}


def _plain_collection(value: Any) -> Union[Plain, None]:
    import collections.abc as abc
    from collections import deque

    if isinstance(value, abc.Mapping):
        return -1, dict(value.items())
    if isinstance(value, (abc.Sequence, deque, abc.ValuesView, abc.ItemsView)):
        return -1, list(value)
    if isinstance(value, abc.Set):
        return -1, set(value)
    array = sys.modules.get("array")
    if array is not None and isinstance(value, array.array):
        return -1, value.tolist()
    return None


_STEPS = (
    _plain_library,
    _plain_numpy,
    _plain_subclass,
    _plain_time_types,
    _plain_dataclass,
)


def plain(value: Any) -> Plain:
    """`(extension type or -1, plainer value)`; TypeError for what cannot be sent."""
    if type(value).__name__ == "Buffer" and type(value).__module__ == "pyisolate._buffer":
        return NDARRAY, [value.dtype, list(value.shape), bytes(value.data)]
    for step in _STEPS:
        found = step(value)
        if found is not None:
            return found
    if not isinstance(value, type):
        found = _plain_collection(value)
        if found is not None:
            return found
    raise TypeError(_type_name(value))


# ---- errors with a path ----------------------------------------------------------------------


def _path(root: str, steps: list[Any]) -> str:
    shown = steps if len(steps) <= 12 else [*steps[:12], Ellipsis]
    text = root
    for step in shown:
        if step is Ellipsis:
            text += "..."
        elif isinstance(step, str):
            quoted = step if len(step) <= 40 else step[:37] + "..."
            text += '["' + quoted.replace("\\", "\\\\").replace('"', '\\"') + '"]'
        else:
            text += f"[{repr(step)[:40]}]"
    return text


def located(exc: BaseException, root: str, steps: list[Any]) -> str:
    """The text of an encoder's error with the path to what could not be sent."""
    text = str(exc)
    if isinstance(exc, TypeError) and " " not in text:
        text = f"{text} cannot be sent; {_REMEDY}"
    return f"{_path(root, steps)}: {text}"


# ---- from the wire ---------------------------------------------------------------------------


def _read_zone(offset: Any, name: Any) -> Any:
    if offset is None:
        return None
    from datetime import timedelta, timezone

    if offset == 0 and name in ("UTC", None):
        return timezone.utc
    delta = timedelta(seconds=offset)
    return timezone(delta) if name is None else timezone(delta, name)


def _read_datetime(v: list[Any]) -> Any:
    from datetime import datetime

    year, month, day, hour, minute, second, us, fold, offset, name = v
    zone = _read_zone(offset, name)
    return datetime(year, month, day, hour, minute, second, us, zone, fold=fold)


def _read_date(v: list[Any]) -> Any:
    from datetime import date

    return date(*v)


def _read_time(v: list[Any]) -> Any:
    from datetime import time

    hour, minute, second, us, fold, offset, name = v
    return time(hour, minute, second, us, _read_zone(offset, name), fold=fold)


def _read_timedelta(v: list[Any]) -> Any:
    from datetime import timedelta

    return timedelta(*v)


def _read_uuid(v: bytes) -> Any:
    from uuid import UUID as Uuid

    return Uuid(bytes=v)


def _read_path(v: str) -> Any:
    from pathlib import Path

    return Path(v)


def _numpy() -> Any:
    """numpy if it can be imported here, else None."""
    try:
        import numpy  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return numpy


def _read_array(v: tuple[str, list[int], bytearray]) -> Any:
    dtype, shape, data = v
    numpy = _numpy()
    if numpy is None or numpy.dtype(dtype).kind not in _NUMPY_KINDS:
        from ._buffer import Buffer

        return Buffer(dtype, tuple(shape), memoryview(data))
    kind = numpy.dtype(dtype)
    size = kind.itemsize
    for n in shape:
        size *= n
    if size != len(data) or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} {shape} needs {size} bytes, the frame has {len(data)}")
    return numpy.ndarray(shape, kind, data) if size else numpy.empty(shape, kind)


def _read_scalar(v: list[Any]) -> Any:
    dtype, data = v
    numpy = _numpy()
    if numpy is None:
        return _scalar_without_numpy(dtype, data)
    kind = numpy.dtype(dtype)
    if kind.kind not in _NUMPY_KINDS or len(data) != kind.itemsize:
        raise ValueError(f"a numpy scalar of {dtype} cannot have {len(data)} bytes")
    return numpy.frombuffer(data, kind)[0]


def _scalar_without_numpy(dtype: str, data: bytes) -> Any:
    import struct

    order = dtype[0] if dtype[0] in "<>" else "="
    codes = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I"}
    codes.update({"u8": "Q", "f2": "e", "f4": "f", "f8": "d"})
    code = codes.get(dtype[1:])
    if code is not None:
        return struct.unpack(order + code, data)[0]
    if dtype[1:] in ("c8", "c16"):
        return complex(*struct.unpack(order + ("2f" if dtype[1:] == "c8" else "2d"), data))
    from ._buffer import Buffer

    return Buffer(dtype, (), memoryview(data))


_READERS: dict[int, Callable[[Any], Any]] = {
    DATETIME: _read_datetime,
    DATE: _read_date,
    TIME: _read_time,
    TIMEDELTA: _read_timedelta,
    UUID: _read_uuid,
    PATH: _read_path,
    NDARRAY: _read_array,
    NPSCALAR: _read_scalar,
}


def restore(ext: int, value: Any) -> Any:
    """The object that an extension value stands for."""
    return _READERS[ext](value)
