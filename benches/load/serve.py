"""The gateway as a program of side-by-side runs.

Calls go on to the next hop; media ports are allocated and records written. With ROOT the root of this one,
beside the peers of ../shared/peers at the same rate, ring and hold times:

    export PYTHONPATH=$ROOT
    for kind in kam-dialog kam-rtpengine; do sip/a_sip.py --x $kind --rate 400 --ring 30 --hold 100; done
    sip/a_sip.py --x cmd --rate 400 --ring 30 --hold 100 --cmd "$ROOT/.venv/bin/python \\
        -m benches.load.serve --listen 127.0.0.1:{port} --next-hop 127.0.0.1:{uas}"

POSTGRES_URL takes the database out of the process tree whose CPU is counted.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benches.load.calls import THROUGH
from tests.interop.gateway import COMMAND, remove_databases, settings

PREFIX = "gateway-bench-"
"""Of folders; the process that they belong to follows: who becomes the gateway cannot remove its own."""


def sweep() -> None:
    """Remove what runs that are over have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not (owner.isdecimal() and Path("/proc", owner).exists()):
            remove_databases(folder)
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Become the gateway."""
    parser = argparse.ArgumentParser(description="the gateway between two SIPps")
    parser.add_argument("--listen", required=True, help="HOST:PORT for SIP")
    parser.add_argument("--next-hop", required=True, help="127.0.0.1:PORT of the callee")
    asked = parser.parse_args()
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    # The database's user shall reach it, so that all that is left lies there.
    folder.chmod(0o755)
    callee = asked.next_hop.rpartition(":")[2]
    (folder / "gateway.toml").write_text(THROUGH.format(callee=callee, codecs='"PCMU"'))
    host, _, port = asked.listen.rpartition(":")
    own = {"GATEWAY_CONFIG": str(folder / "gateway.toml"), "LOG_LEVEL": "warning", "SIP_HOST": host}
    database = {name: value for name, value in os.environ.items() if name == "POSTGRES_URL"}
    environment = settings(folder, **own, **database, SIP_PORT=port, RTP_PORT_RANGE="20000-29999")
    sys.stdout.flush()
    os.execve(COMMAND, [str(COMMAND), "serve"], environment)


if __name__ == "__main__":
    main()
