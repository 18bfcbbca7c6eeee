"""One line per event, whoever wrote it."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from telephony_gateway.telemetry import setup_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("aiohttp.access", "asyncio", "opentelemetry")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(output: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_json_with_what_is_bound() -> None:
    output = io.StringIO()
    setup_logging("info", json=True, stream=output)
    with structlog.contextvars.bound_contextvars(call_id="0193"):
        structlog.get_logger("x").info("call.ringing", trunk="carrier-a", caller="+74951234567")
    (line,) = lines(output)
    assert line.pop("timestamp")
    assert line == {
        "event": "call.ringing",
        "level": "info",
        "call_id": "0193",
        "trunk": "carrier-a",
        "caller": "+7********67",
    }


def test_the_level_holds_for_all() -> None:
    output = io.StringIO()
    setup_logging("warning", json=True, stream=output)
    structlog.get_logger("x").info("not said")
    logging.getLogger("library").info("not said")
    structlog.get_logger("x").warning("said")
    logging.getLogger("library").warning("said by %s", "a library")
    assert [line["event"] for line in lines(output)] == ["said", "said by a library"]


def test_the_standard_library_takes_the_same_way() -> None:
    output = io.StringIO()
    setup_logging("info", json=True, stream=output)
    logging.getLogger("aiohttp.server").error("token=%s of %s", "s3cr3t", "+74951234567")
    (line,) = lines(output)
    assert (line["logger"], line["level"]) == ("aiohttp.server", "error")
    assert line["event"] == "token=*** of +7********67"


def test_tracebacks_are_masked_too() -> None:
    output = io.StringIO()
    setup_logging("info", json=True, stream=output)
    try:
        raise ValueError("cannot dial +74951234567 with Bearer s3cr3t")
    except ValueError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("library").exception("failed")
    first, second = lines(output)
    for line in (first, second):
        assert "ValueError: cannot dial +7********67 with Bearer ***" in str(line["exception"])


def test_development_is_for_readers() -> None:
    output = io.StringIO()
    setup_logging("debug", json=False, stream=output)
    structlog.get_logger("x").debug("call.ringing", caller="+74951234567")
    try:
        raise ValueError("number +74951234567")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    text = output.getvalue()
    assert "call.ringing" in text
    assert "Traceback" in text
    assert "+7********67" in text
    assert "+74951234567" not in text


def test_warnings_and_odd_values_are_lines() -> None:
    output = io.StringIO()
    setup_logging("info", json=True, stream=output)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("deprecated", UserWarning, stacklevel=1)
    structlog.get_logger("x").info("odd", value=object(), error=OSError(5, "x"))
    first, second = lines(output)
    assert "deprecated" in str(first["event"])
    assert "object object" in str(second["value"])
