"""The root: builds every room once, in order, and takes them down in reverse.

Settings, logs, database, cache, engine, manager, HTTP. A start that fails says why in one line (exit code 2).
SIGTERM or SIGINT stops gracefully (exit code 0): readiness turns 503, new calls are refused, running ones may
finish until SHUTDOWN_TIMEOUT. A second signal hangs up at once (exit code 1 if that cut a call).
"""

import asyncio
import contextlib
import ctypes
import errno
import gc
import ipaddress
import os
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import structlog
from aiohttp import web

from telephony_gateway import __version__
from telephony_gateway.api.context import Check, ComponentHealth, Context, Health
from telephony_gateway.api.rest import build_app
from telephony_gateway.api.server import HttpRunner
from telephony_gateway.cache import MemoryCache, RedisCache
from telephony_gateway.calls.clock import SystemClock
from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.manager import Manager
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Cache, Store
from telephony_gateway.calls.provisioning import Provisioning
from telephony_gateway.calls.registrations import Registrations
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.standing import Standing
from telephony_gateway.config import Settings, environment, load_settings, load_tables
from telephony_gateway.engine import EngineClient
from telephony_gateway.errors import ConfigError
from telephony_gateway.identity import node_name
from telephony_gateway.reread import Rereading
from telephony_gateway.signals import StopSignals
from telephony_gateway.stir import Stir
from telephony_gateway.store import EmbeddedPostgres, PostgresStore
from telephony_gateway.telemetry.collectors import (
    register_engine,
    register_registrations,
    register_targets,
    register_writer,
)
from telephony_gateway.telemetry.logging import setup_logging
from telephony_gateway.telemetry.metrics import Metrics
from telephony_gateway.telemetry.tracing import Tracer, open_tracer

log = structlog.get_logger(__name__)

GRACEFUL, FORCED, START_FAILED = 0, 1, 2
ENGINE_STOP_TIMEOUT = 5.0
FORCED_FAREWELL = 0.5
GARBAGE_THRESHOLD = 20_000
"""Objects that may be made, beyond those let go, before the youngest are searched for garbage."""
OLD_THRESHOLD = 100
"""Searches of the middle-aged before one of all: that one takes 50 ms while 2,000 calls linger."""
LARGE_BLOCK = 32 * 1024
_M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h; another C library has no `mallopt`, or takes no notice."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run() -> int:
    """Run until a signal; returns the exit code."""
    _keep_heap_even()
    try:
        settings = load_settings()
        routing = load_routing(settings)
        setup_logging(settings.log_level, json=settings.production)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings, routing))
    except ConfigError as error:
        print(f"telephony-gateway: {error.message}", file=sys.stderr)
        return START_FAILED


def _keep_heap_even() -> None:
    """Have the C library give large blocks a mapping of their own, always. As it is, the first one that is
    let go raises the size from which it does; from there on batches of records, which come and go, leave
    gaps in the heap, and it grows for a long time.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def load_routing(settings: Settings) -> Routing:
    """Trunks and routes as GATEWAY_CONFIG has them."""
    tables = load_tables(settings.gateway_config) if settings.gateway_config else {}
    return Routing.from_tables(tables, development=settings.development, environ=environment())


@dataclass(frozen=True)
class Running:
    """What there is to stop."""

    manager: Manager
    health: Health
    provisioning: Provisioning


async def _serve(settings: Settings, routing: Routing) -> int:
    starting = asyncio.current_task()
    assert starting is not None
    signals = StopSignals(starting)
    code = GRACEFUL
    try:
        async with AsyncExitStack() as stack:
            running = await _start(stack, settings, routing)
            rereading = Rereading(settings.gateway_config, running.provisioning.take_file)
            again = asyncio.create_task(rereading.follow(signals.reread), name="reread")
            stack.callback(again.cancel)
            signals.started()
            await signals.asked.wait()
            code = await _drain(running, signals, settings.shutdown_timeout)
    except asyncio.CancelledError:
        if not signals.asked.is_set():
            raise
        starting.uncancel()
    finally:
        signals.close()
    log.info("stopped", forced=code == FORCED)
    return code


async def _start(stack: AsyncExitStack, settings: Settings, routing: Routing) -> Running:
    log.info("starting", version=__version__, environment=settings.node_env)
    name = stack.enter_context(node_name(settings.data_dir, required=settings.postgres_url is None))
    owner = Owner.of(name, datetime.now(UTC))
    metrics = Metrics()
    tracer = _start_tracer(stack, settings)
    store = await _start_store(stack, settings, tracer)
    await store.close_orphans(owner)
    cache = await _start_cache(stack, settings)
    engine, voucher = _engine(settings), Stir()
    stack.push_async_callback(voucher.close)
    manager = Manager(
        engine=engine,
        store=store,
        cache=cache,
        routing=routing,
        ids=IdSource(owner, SystemClock()),
        policy=_policy(settings),
        observers=[metrics, tracer] if tracer else [metrics],
        voucher=voucher,
    )
    registrations = Registrations(SystemClock())
    engine.on_registration = registrations.told
    routing.contacts = registrations.bindings
    standing = Standing()
    engine.on_trunks_down = standing.told
    routing.is_down = standing.is_down
    await engine.start(manager.handle)
    stack.push_async_callback(engine.stop, ENGINE_STOP_TIMEOUT)
    stack.push_async_callback(manager.close)
    provisioning = await _start_provisioning(stack, settings, store, engine, routing, voucher)
    register_engine(metrics.registry, engine.stats)
    register_targets(metrics.registry, engine.targets)
    register_registrations(metrics.registry, registrations)
    register_writer(metrics.registry, store.writer)
    health = Health(_checks(engine, store, cache))
    url = await _start_http(stack, Context(manager, settings, metrics, health, provisioning, registrations))
    _spare_the_collector()
    health.ready = True
    _warn(settings, routing)
    log.info("ready", http=url, sip=_sip_url(engine), page=f"{url}/")
    return Running(manager, health, provisioning)


def _spare_the_collector() -> None:
    """What is there once all rooms are built stays: garbage is looked for in what calls leave, and
    less often, for they leave next to none: their values have no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, OLD_THRESHOLD)


def _start_tracer(stack: AsyncExitStack, settings: Settings) -> Tracer | None:
    tracer = open_tracer(settings.otel_exporter_otlp_endpoint)
    if tracer is not None:
        stack.push_async_callback(tracer.close)
    return tracer


async def _start_store(stack: AsyncExitStack, settings: Settings, tracer: Tracer | None) -> PostgresStore:
    dsn = settings.postgres_url
    if dsn is None:
        server = EmbeddedPostgres(settings.data_dir, bin_dir=settings.pg_bin_dir)
        dsn = await server.start()
        stack.push_async_callback(server.stop)
    store = PostgresStore(dsn, on_written=tracer.written if tracer else None)
    stack.push_async_callback(store.close)
    await store.start()
    return store


async def _start_provisioning(
    stack: AsyncExitStack,
    settings: Settings,
    store: PostgresStore,
    engine: EngineClient,
    routing: Routing,
    voucher: Stir,
) -> Provisioning:
    provisioning = Provisioning(
        store=store.plan, engine=engine, routing=routing, policy=_policy(settings), voucher=voucher
    )
    await provisioning.start()
    watch = asyncio.create_task(provisioning.watch(), name="plan")
    stack.callback(watch.cancel)
    return provisioning


async def _start_cache(stack: AsyncExitStack, settings: Settings) -> Cache:
    if settings.redis_url is None:
        return MemoryCache()
    cache = RedisCache(settings.redis_url)
    stack.push_async_callback(cache.close)
    await cache.start()
    return cache


def _engine(settings: Settings) -> EngineClient:
    return EngineClient(
        sip_host=settings.sip_host,
        sip_port=settings.sip_port,
        sip_tls_port=settings.sip_tls_port,
        sip_tls_files=_tls_files(settings),
        sip_public_address=settings.sip_public_address,
        dns_servers=",".join(settings.dns_servers),
        rtp_port_range=settings.rtp_port_range,
        webrtc_port=settings.webrtc_port,
        media_workers=settings.media_workers,
        unknown_sources=settings.unknown_sources,
        ladder_memory=settings.sip_ladder_memory << 20,
        user_agent=f"telephony-gateway/{__version__}",
    )


def _tls_files(settings: Settings) -> tuple[str, str, str | None] | None:
    certificate, key, authority = (
        str(file) if file else None
        for file in (settings.sip_tls_certificate, settings.sip_tls_key, settings.sip_tls_client_ca)
    )
    return (certificate, key, authority) if certificate and key else None


def _policy(settings: Settings) -> Policy:
    host = settings.sip_public_address or settings.sip_host.partition(",")[0]
    return Policy(
        max_calls=settings.max_calls,
        ladder_memory=settings.sip_ladder_memory,
        from_host=None if ipaddress.ip_address(host).is_unspecified else _in_uri(host),
        ws_url=f"ws://{_in_uri(_reachable(settings.host))}:{settings.port}/ws",
        ice_servers=settings.ice_servers,
        authentication=bool(settings.api_keys),
    )


def _checks(engine: EngineClient, store: Store, cache: Cache) -> dict[str, Check]:
    async def ask_engine() -> ComponentHealth:
        began = time.perf_counter()
        stats = engine.stats()
        info = {
            "sip_address": engine.sip_address,
            "sip_listeners": engine.sip_listeners,
            "sip_connections": stats.sip_connections,
            "webrtc_addresses": engine.webrtc_addresses,
            "legs": stats.legs,
            "ports_free": stats.ports_free,
            "queue": stats.event_queue_depth,
            "targets": [msgspec.to_builtins(target) for target in engine.targets()],
        }
        return ComponentHealth(status="up", latency=time.perf_counter() - began, info=info)

    async def ask_database() -> ComponentHealth:
        return ComponentHealth(status="up", latency=await store.ping())

    async def ask_cache() -> ComponentHealth:
        return ComponentHealth(status="up", latency=await cache.ping())

    return {"engine": ask_engine, "database": ask_database, "cache": ask_cache}


async def _start_http(stack: AsyncExitStack, context: Context) -> str:
    settings = context.settings
    runner = HttpRunner(build_app(context))
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        raise _not_listening(settings, error) from None
    port = runner.addresses[0][1]
    return f"http://{_in_uri(_reachable(settings.host))}:{port}"


def _not_listening(settings: Settings, error: OSError) -> ConfigError:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError("PORT", f"{where} is taken: stop what listens there, or set another port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError("PORT", f"{where} needs more rights: set a port above 1023")
    # A loop's own words repeat the address; a name that does not resolve has a negative number.
    number = error.errno or 0
    plain = os.strerror(number) if number > 0 else error.strerror
    return ConfigError("HOST", f"{where} cannot be listened on: {plain}")


async def _drain(running: Running, signals: StopSignals, grace: float) -> int:
    """Let running calls finish, unless a second signal comes; returns the exit code."""
    log.info("stopping", calls=running.manager.active_calls, grace=grace)
    running.health.draining = True
    drain = asyncio.create_task(running.manager.drain(grace), name="drain")
    forced = asyncio.create_task(signals.forced.wait(), name="forced")
    await asyncio.wait([drain, forced], return_when=asyncio.FIRST_COMPLETED)
    forced.cancel()
    if drain.done():
        if (error := drain.exception()) is not None:
            log.error("draining failed", exc_info=error)
        return GRACEFUL
    drain.cancel()
    cut = running.manager.active_calls
    await running.manager.drain(0, farewell=FORCED_FAREWELL)
    return FORCED if cut else GRACEFUL


def _warn(settings: Settings, routing: Routing) -> None:
    if not routing.trunks:
        log.warning("no trunk is named in GATEWAY_CONFIG: every call in is refused")
    if not settings.api_keys and settings.host not in LOOPBACK:
        log.warning("anyone who reaches HOST may make calls: set API_KEYS", host=settings.host)


def _reachable(host: str) -> str:
    """What to show for an address that means every interface."""
    return "localhost" if host in ("0.0.0.0", "::", "") else host


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _sip_url(engine: EngineClient) -> str:
    host, port = engine.sip_address
    return f"sip:{_in_uri(host)}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # asyncio's own loop does, slower
    return uvloop.new_event_loop
