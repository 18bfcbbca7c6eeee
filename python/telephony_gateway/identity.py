"""Who this process is among those that share a database: a name that lasts over restarts and that no other
running process has, so that after a crash its calls, and only its, are closed.

Each process takes the first `node-N` file in DATA_DIR that no other holds, and keeps it locked while it runs.
Where DATA_DIR cannot be written (a read-only container with a database elsewhere) the host's name and the
process id do: they are the same when a container starts again.
"""

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from telephony_gateway.errors import ConfigError

MAX_NODES = 64
"""Processes that may share one DATA_DIR."""


log = structlog.get_logger(__name__)


@contextmanager
def node_name(data_dir: Path, *, required: bool) -> Iterator[str]:
    """This process's name, its own until the block ends. `required`: do not make do without DATA_DIR."""
    try:
        descriptor = _take(data_dir)
    except ConfigError as error:
        if required:
            raise
        log.warning("node is named after its host", reason=error.message)
        descriptor = None
    if descriptor is None:
        yield f"{socket.gethostname()}:{os.getpid()}"
        return
    try:
        yield _read_or_make(descriptor)
    finally:
        os.close(descriptor)


def _take(data_dir: Path) -> int:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for number in range(1, MAX_NODES + 1):
            descriptor = os.open(data_dir / f"node-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
    except OSError as error:
        raise ConfigError("DATA_DIR", f"{data_dir} cannot be used: {error.strerror}") from None
    raise ConfigError("DATA_DIR", f"{data_dir} is used by {MAX_NODES} processes: give this one its own")


def _read_or_make(descriptor: int) -> str:
    name = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
    if not name:
        name = secrets.token_hex(16)
        os.pwrite(descriptor, name.encode(), 0)
        os.fsync(descriptor)
    return name
