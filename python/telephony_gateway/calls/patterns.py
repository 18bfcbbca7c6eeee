"""Regular expressions of routes: only those whose search ends soon, whatever number is called.

Python's engine tries every way in which a pattern may fit. Repeats within repeats have more ways than can
ever be tried, and one call to a number of the caller's choice would hold up all others. So the ways are
counted before a pattern is taken.
"""

import re
from collections.abc import Iterable, Sequence
from re import _parser  # type: ignore[attr-defined]  # the only one that reads what `re` itself reads
from typing import Any, Final

from telephony_gateway.calls.uris import MAX_USER

MOST_WAYS: Final = (MAX_USER + 1) ** 3
"""Three repeats one after the other, each as long as a number may be: some milliseconds."""
_COUNTED: Final = 10**9

_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def fault_of(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    try:
        re.compile(pattern)
        ways = _product(_parser.parse(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        return f"is not a regular expression: {error}"
    return (
        "could take too long to search: write it without repeats within repeats" if ways > MOST_WAYS else None
    )


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
    begin = {argument for op, argument in first if str(op) == "LITERAL"}
    return max(ways) if len(begin) == len(branches) else sum(ways)
