"""Patterns of routes: what could hold the gateway up is no pattern, what operators write is."""

import re
import time

import pytest

from telephony_gateway.calls.patterns import fault_of

LONG = ["1" * 64, "a" * 64, "+7" * 32, "1" * 63 + "!", ",".join("1" * 32)[:64], "0123456789abcdef" * 4]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(\d+)*#",
        r"(a|a)*b",
        r"(a|aa)+$",
        r"(?:a?){30}a{30}",
        r"(x+x+)+y",
        r"(?=(\d+)+#)",
        r"^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(.*?,){11}P",
        r".*.*.*.*=",
        r"(?:(?:1|1)(?:1|1)){20}2",
        r"((?>1+)|1)*2",
        r"(?i)^(?:ab|AB)*x",
        r"^(?i:(?:ab|AB)*)x",
        r"^(?i:ab|AB)*x",
        r"(?i)^(?:ia|\u0131a|\u0130a)*x",
    ],
)
def test_repeats_within_repeats_are_refused(pattern: str) -> None:
    assert "too long" in (fault_of(pattern) or "")


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\+7495",
        r"^(?:\+7|8)?495\d{7}$",
        r"^(112|911|0[1-4])$",
        r"^[1-9]\d{2,4}$",
        r"^(?:sales|support)(?:-\w+)?$",
        r"^00(?!7)\d+$",
        r"^.*5.*6.*$",
        r"(?i)^bob$",
        r"^(?:(?:ab|cd)x)*$",
        r"(?i)^(?:(?:ab|CD)x)*$",
        r"",
    ],
)
def test_what_operators_write_is_taken_and_quick(pattern: str) -> None:
    assert fault_of(pattern) is None
    compiled = re.compile(pattern)
    began = time.perf_counter()
    for subject in LONG:
        compiled.search(subject)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("pattern", ["(", "[a", "a{99999999999999}", "(?P<x>", "*"])
def test_what_is_no_pattern_says_why(pattern: str) -> None:
    assert (fault_of(pattern) or "").startswith("is not a regular expression: ")


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f"])
def test_no_pattern_has_control_characters(character: str) -> None:
    assert fault_of(f"^1{character}2") == "must not have control characters"
    assert fault_of("(?x) ^112  # help\r\n\t| ^911") is None


def test_the_slowest_that_is_taken_is_still_quick() -> None:
    pattern = r"\d*\d*\d*#"
    assert fault_of(pattern) is None
    began = time.perf_counter()
    re.search(pattern, "1" * 64)
    assert time.perf_counter() - began < 1
