"""Regular expressions of routes: only those whose search ends soon, whatever number is called.

Python's engine tries every way in which a pattern may fit. Repeats within repeats have more ways than can
ever be tried, and one call to a number of the caller's choice would hold up all others. So the ways are
counted before a pattern is taken.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from re import _parser  # type: ignore[attr-defined]  # the only one that reads what `re` itself reads
from typing import Any, Final

from telephony_gateway.calls.uris import MAX_USER

MOST_WAYS: Final = (MAX_USER + 1) ** 3
"""Three repeats one after the other, each as long as a number may be: some milliseconds."""
_COUNTED: Final = 10**9
KEPT: Final = 16_384
"""Patterns that are not written anew when another route changes: calls wait on the same loop."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Without tabs and ends of lines, which `(?x)` is written with."""
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def fault_of(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    if _CONTROL.search(pattern):
        return "must not have control characters"
    try:
        re.compile(pattern)
        ways = _product(_parser.parse(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression: {error}"
    return (
        "could take too long to search: write it without repeats within repeats" if ways > MOST_WAYS else None
    )


@functools.lru_cache(KEPT)
def everywhere(pattern: str) -> str | None:
    """The pattern in words that every engine reads alike, for subjects of ASCII on one line; None where there
    may be a difference.
    """
    tree = _parser.parse(pattern)
    return _sequence(tree) if tree.state.flags == re.UNICODE.value else None


def _sequence(items: Iterable[tuple[Any, Any]]) -> str | None:
    parts = [_word(str(op), argument) for op, argument in items]
    return "".join(part for part in parts if part is not None) if None not in parts else None


def _word(op: str, argument: Any) -> str | None:
    """One part of a pattern."""
    match op:
        case "LITERAL":
            return _character(argument)
        case "NOT_LITERAL":
            return _class([("NEGATE", None), ("LITERAL", argument)])
        case "ANY":
            return "."
        case "AT":
            return _PLACES.get(str(argument))
        case "IN":
            return _class([(str(kind), what) for kind, what in argument])
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, body = argument
            most = most if most < _parser.MAXREPEAT else ""
            return None if (inner := _sequence(body)) is None else f"(?:{inner}){{{int(least)},{most}}}"
        case "BRANCH":
            branches = [branch for items in argument[1] if (branch := _sequence(items)) is not None]
            return f"(?:{'|'.join(branches)})" if len(branches) == len(argument[1]) else None
        case "SUBPATTERN" if not (argument[1] or argument[2]):
            return None if (inner := _sequence(argument[3])) is None else f"(?:{inner})"
        case _:
            return None


_PLACES: Final = {
    "AT_BEGINNING": "^",
    "AT_BEGINNING_STRING": "^",
    "AT_END": "$",
    "AT_END_STRING": "$",
}
_CATEGORIES: Final = {"CATEGORY_DIGIT": "0-9", "CATEGORY_WORD": "0-9A-Za-z_", "CATEGORY_SPACE": r" \t-\r"}


def _class(items: Sequence[tuple[str, Any]]) -> str | None:
    parts = [_member(kind, what) for kind, what in items]
    return f"[{''.join(part for part in parts if part is not None)}]" if None not in parts else None


def _member(kind: str, what: Any) -> str | None:
    match kind:
        case "NEGATE":
            return "^"
        case "LITERAL":
            return _character(what)
        case "RANGE":
            least, most = (_character(end) for end in what)
            return None if least is None or most is None else f"{least}-{most}"
        case "CATEGORY":
            return _CATEGORIES.get(str(what))
        case _:
            return None


def _character(code: int) -> str | None:
    character = chr(code)
    if not (character.isascii() and character.isprintable()):
        return None
    return character if character.isalnum() or character in "_<> " else f"\\{character}"


def _product(items: Iterable[tuple[Any, Any]]) -> int:
    ways = 1
    for op, argument in items:
        ways = min(ways * _ways(str(op), argument), _COUNTED)
    return ways


def _ways(op: str, argument: Any) -> int:
    """In how many ways a part of a pattern may fit a number."""
    if op in _REPEATS:
        least, most, body = argument
        most = min(int(most), MAX_USER)
        ways: int = max(most - int(least) + 1, 1) * _product(body) ** most
        return min(ways, _COUNTED)
    if op == "BRANCH":
        return _of_branches(argument[1])
    return min(sum(map(_product, _parts(op, argument))) or 1, _COUNTED)


def _parts(op: str, argument: Any) -> Iterable[Any]:
    match op:
        case "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
            return (argument[-1],)
        case "ATOMIC_GROUP":
            return (argument,)
        case "GROUPREF_EXISTS":
            return [part for part in argument[1:] if part is not None]
        case _:
            return ()


def _of_branches(branches: Sequence[Any]) -> int:
    """Alternatives that begin with a character each, all different, are no choice."""
    ways = [_product(branch) for branch in branches]
    first = [branch[0] for branch in branches if len(branch)]
    begin = {_folded(argument) for op, argument in first if str(op) == "LITERAL"}
    return max(ways) if len(begin) == len(branches) else sum(ways)


def _folded(code: int) -> str:
    """One for all characters that `(?i)` takes for each other, which a group may say for its part alone."""
    return chr(code).lower()[0].upper()
