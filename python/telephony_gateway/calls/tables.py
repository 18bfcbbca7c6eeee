"""Reads tables of `gateway.toml` (and rows of the API, which have the same words) into typed values.

Every fault is found, not only the first: each key is read by itself, and what is wrong with it is a `Fault`
that names the table, the field and the way to mend it.
"""

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec

from telephony_gateway.errors import ConfigError

T = TypeVar("T", bound="Table")
Kind = Literal["trunk", "route", "user"]
MAX_SHOWN: Final = 40
"""Characters shown of a value that is wrong."""
_WORDS: Final = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip
_INNER: Final = re.compile(r"[.\[]")
_WORD: Final = re.compile(r"\w+")
_KINDS: Final = re.compile(r"`([^`]*)`")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: a key it does not know is an error."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a table: which one, where in it (a path such as `match.to`; "" is all of it)."""

    table: str
    field: str
    what: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.table, self.field, self.what) if part)


def label(kind: Kind, row: object, index: int) -> str:
    """A table's own name in messages."""
    name = row.get("name") if isinstance(row, Mapping) else None
    return f"{kind} {name!r}" if name and isinstance(name, str) else f"{kind} number {index + 1}"


def read(kind: type[T], row: object, table: str) -> tuple[T | None, list[Fault]]:
    """A row as a value of the kind, or None and everything that is wrong with it."""
    faults: list[Fault] = []
    value = _read(kind, row, "", lambda field, what: faults.append(Fault(table, field, what)))
    return (None, faults) if faults else (value, [])


def rest(kind: type[T], row: object, faults: Sequence[Fault], instead: Mapping[str, object]) -> T | None:
    """A row without its keys at fault, `instead` of those that must be there: the others can be judged then.
    None if there is no telling what they are about.
    """
    wrong = _keys(faults)
    if not isinstance(row, Mapping) or not wrong or "" in wrong:
        return None
    good = {key: value for key, value in row.items() if key not in wrong}
    value, more = read(kind, {**{key: instead[key] for key in wrong & instead.keys()}, **good}, "")
    return None if more else value


def apart(found: Iterable[Fault], faults: Sequence[Fault]) -> Iterator[Fault]:
    """Of what was found in the rest of a row, that which does not come of the keys that are missing there."""
    wrong = _keys(faults)
    for fault in found:
        if wrong.isdisjoint({*_keys([fault]), *_WORD.findall(fault.what)}):
            yield fault


def _keys(faults: Iterable[Fault]) -> set[str]:
    return {_INNER.split(fault.field)[0] for fault in faults}


def config_error(faults: Sequence[Fault]) -> ConfigError:
    """The first fault, and that there are more."""
    more = len(faults) - 1
    tail = f" (and {more} more: `telephony-gateway check` lists them)" if more else ""
    return ConfigError("GATEWAY_CONFIG", f"{faults[0]}{tail}")


def _read(kind: Any, row: object, path: str, note: Any) -> Any:
    if not isinstance(row, Mapping):
        note(path, f"must be a table, not {_shown(row)}")
        return None
    fields = _fields(kind)
    for key in row:
        if key not in fields:
            note(_join(path, str(key)), f"is no key of this table{_nearest(str(key), fields)}")
    values = {}
    for key, field in fields.items():
        if key in row:
            values[field.name] = _value(field.type, row[key], _join(path, key), note)
        elif field.required:
            note(_join(path, key), "is missing")
    return kind(**values) if {f.name for f in fields.values() if f.required} <= values.keys() else None


@functools.cache
def _fields(kind: Any) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _value(kind: Any, value: object, path: str, note: Any) -> Any:
    struct, many = _struct_in(kind)
    if struct is None or value is None:
        return _plain(kind, value, path, note)
    if not many:
        return _read(struct, value, path, note)
    if not isinstance(value, Sequence) or isinstance(value, str):
        note(path, f"must be a list of tables, not {_shown(value)}")
        return None
    return tuple(_read(struct, row, f"{path}[{index}]", note) for index, row in enumerate(value))


def _plain(kind: Any, value: object, path: str, note: Any) -> Any:
    if _has_nul(value):
        # PostgreSQL keeps none in text or JSON.
        note(path, "must not have a NUL character")
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = list(_choices(kind))
        said = str(error).partition(" - at ")[0]
        note(path, f"must be {_listed(choices)}, not {_shown(value)}" if choices else _small(said, value))
        return None


def _has_nul(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, str) and "\0" in part for part in parts)


def _struct_in(kind: Any) -> tuple[type[Table] | None, bool]:
    """The table that a field holds, and whether it holds many."""
    for part in (kind, *get_args(kind)):
        many = get_origin(part) is tuple
        inner = get_args(part)[0] if many else part
        if isinstance(inner, type) and issubclass(inner, Table):
            return inner, many
    return None, False


def _choices(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from (str(choice) for choice in get_args(kind))
    else:
        for part in get_args(kind):
            yield from _choices(part)


def _listed(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def _small(said: str, value: object) -> str:
    """The decoder's words, begun as the rest of a sentence."""
    words = _KINDS.sub(lambda found: _in_words(found[1]), said.replace("Expected", "must be", 1))
    return words if "got" in words else f"{words}, not {_shown(value)}"


def _in_words(kinds: str) -> str:
    """The decoder's names of kinds; null is what the API may say, the file leaves a key out."""
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null")


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
