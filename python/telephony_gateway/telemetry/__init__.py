"""What the gateway tells of itself: logs, metrics and traces.

It watches and never decides: a part of it that fails takes nothing else with it. `logging.setup_logging`
comes first of all; `metrics.Metrics` and `tracing.Tracer` are observers of the manager; `collectors` show the
counters that engine and store keep themselves.
"""

from telephony_gateway.telemetry.collectors import register_engine, register_writer
from telephony_gateway.telemetry.logging import setup_logging
from telephony_gateway.telemetry.metrics import Metrics
from telephony_gateway.telemetry.tracing import Tracer, open_tracer

__all__ = ["Metrics", "Tracer", "open_tracer", "register_engine", "register_writer", "setup_logging"]
