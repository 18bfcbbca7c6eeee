"""Logs: structlog everywhere, one line per event on stdout; the standard library's loggers take the same way.

JSON in production, a readable form in development. `call_id` and whatever else is bound with
`structlog.contextvars` goes into every line of that task; phone numbers and secrets go into none.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import Processor, WrappedLogger

from telephony_gateway.telemetry.masking import mask_event

# Libraries that tell every step of theirs; their faults are told by us, where we meet them.
_QUIET = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING, "opentelemetry": logging.CRITICAL}
_encoder = msgspec.json.Encoder(enc_hook=str)


def setup_logging(level: str = "info", *, json: bool, stream: TextIO | None = None) -> None:
    """Route every log line of the process to `stream` (stdout). Call it once, before anything else runs."""
    output = stream or sys.stdout
    number = logging.getLevelNamesMapping()[level.upper()]
    processors = _processors()
    renderers = _renderers(json, output)
    structlog.configure(
        processors=[*processors, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    _route_stdlib(number, processors, renderers, output)


def _processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(json: bool, output: TextIO) -> list[Processor]:
    """From the event to the line. Tracebacks become text before the mask, which then sees what is in them."""
    shown: list[Processor] = [structlog.processors.format_exc_info, mask_event]
    if json:
        return [*shown, _to_json]
    return [*shown, structlog.dev.ConsoleRenderer(colors=output.isatty(), pad_event_to=32)]


def _to_json(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
    return _encoder.encode(event).decode()


def _route_stdlib(
    level: int, processors: list[Processor], renderers: list[Processor], output: TextIO
) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            *processors,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))
    logging.captureWarnings(capture=True)
