"""The only file that names OpenTelemetry: hands our spans to its batching exporter (OTLP over gRPC or HTTP).

Loaded only when an endpoint is set. A collector that fails is said once, and once more when it is back; the
queue in front of it is bounded and drops.
"""

from collections.abc import Mapping, Sequence

import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from telephony_gateway import __version__
from telephony_gateway.errors import ConfigError
from telephony_gateway.telemetry.tracing import Span

log = structlog.get_logger(__name__)

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtlpSink:
    """A bounded queue and one thread behind it."""

    def __init__(self, endpoint: str, environment: Mapping[str, str]) -> None:
        exporter = _Quiet(_exporter(endpoint, environment), endpoint)
        # The provider reads OTEL_RESOURCE_ATTRIBUTES and OTEL_TRACES_SAMPLER; no span is made through it.
        provider = TracerProvider(resource=_resource(environment), shutdown_on_exit=False)
        self._resource = provider.resource
        self._sampler = provider.sampler
        self._scope = InstrumentationScope("telephony_gateway", __version__)
        self._processor = BatchSpanProcessor(exporter)

    def sampled(self, trace_id: int) -> bool:
        """Whether this trace is to be kept; the same answer for every span of it."""
        return self._sampler.should_sample(None, trace_id, "call").decision is Decision.RECORD_AND_SAMPLE

    def emit(self, span: Span) -> None:
        """Queue a span; dropped when the collector does not keep up."""
        parent = _context(span.trace_id, span.parent_id) if span.parent_id is not None else None
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.trace_id, span.span_id),
                parent=parent,
                resource=self._resource,
                attributes=span.attributes,
                kind=SpanKind[span.kind],
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
                start_time=span.start,
                end_time=span.end,
                instrumentation_scope=self._scope,
            )
        )

    def shutdown(self) -> None:
        """Send what is queued and end the thread; blocks."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


class _Quiet(SpanExporter):
    """Says once that the collector fails, instead of once per batch."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result, detail = self._exporter.export(spans), ""
        except Exception as error:
            result, detail = SpanExportResult.FAILURE, repr(error)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("traces not exported", endpoint=self._endpoint, spans=len(spans), error=detail)
        elif self._failing and not failing:
            log.info("traces exported again", endpoint=self._endpoint)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _exporter(endpoint: str, environment: Mapping[str, str]) -> SpanExporter:
    """As the OpenTelemetry specification of the OTLP exporter says, but gRPC is the default."""
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    own = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(endpoint=own or endpoint)
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

        return Http(endpoint=own or f"{endpoint.rstrip('/')}/v1/traces")
    raise ConfigError("OTEL_EXPORTER_OTLP_PROTOCOL", f"{protocol!r} is unknown; use grpc or http/protobuf")


def _resource(environment: Mapping[str, str]) -> Resource:
    named = "OTEL_SERVICE_NAME" in environment or "service.name" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    attributes = {"service.version": __version__}
    if not named:
        attributes["service.name"] = "telephony-gateway"
    return Resource.create(attributes)


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)
