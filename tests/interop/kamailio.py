"""Kamailio as a record-routing hop: UDP, TCP and TLS on loopback, two Record-Routes where they change.

What is addressed to Kamailio itself goes on to `target`, everything else to its Request-URI. Registrations
get a Path (RFC 3327), so that calls to who registered come this way, too.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.interop.certificates import Authority, Certified
from tests.interop.gateway import eventually
from tests.ports import free_port

CONFIG = """\
#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
enable_tls=yes
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
listen=tls:127.0.0.1:{tls_port}
loadmodule "tls.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
modparam("tls", "certificate", "{certificate}")
modparam("tls", "private_key", "{key}")
modparam("tls", "ca_list", "{authority}")
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", {require})
modparam("rr", "enable_double_rr", 1)
modparam("tm", "fr_timer", 5000)
{digest}
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    {challenge}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here"); exit;
    }}
    t_check_trans();
    loose_route();
    if (is_method("INVITE|SUBSCRIBE")) record_route();
    if (is_method("REGISTER")) append_hf("Path: <sip:127.0.0.1:{port};lr>\\r\\n");
    if (uri == myself) $du = "{target}";
    t_relay();
}}
"""

DIGEST = """\
loadmodule "auth.so"
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "nonce_count", 1)
modparam("auth", "nonce_expire", 60)
"""
CHALLENGE = """\
if ($sp != {target_port} && is_method("INVITE|BYE|UPDATE|REGISTER")) {{
        if (!pv_proxy_authenticate("{realm}", "{password}", "0")) {{ proxy_challenge("{realm}", "1"); exit; }}
        append_hf("X-Proved: $hdr(Proxy-Authorization)\\r\\n");
        consume_credentials();
    }}"""
REALM, PASSWORD = "hop.example", "wonderland"


@dataclass
class Kamailio:
    """A running Kamailio."""

    process: asyncio.subprocess.Process
    port: int
    tls_port: int
    log: Path

    @property
    def udp(self) -> str:
        """Its URI over UDP."""
        return f"sip:127.0.0.1:{self.port}"

    @property
    def tcp(self) -> str:
        """Its URI over TCP."""
        return f"sip:127.0.0.1:{self.port};transport=tcp"

    @property
    def tls(self) -> str:
        """Its URI over TLS."""
        return f"sip:127.0.0.1:{self.tls_port};transport=tls"


@contextlib.asynccontextmanager
async def kamailio(
    folder: Path,
    *,
    target: str,
    certified: Certified | None = None,
    authority: Path | None = None,
    require_certificate: bool = False,
    algorithm: str = "",
) -> AsyncIterator[Kamailio]:
    """Start Kamailio. Without a certificate it makes an authority of its own, in `folder`.

    With an algorithm ("MD5", "SHA-256") who is not at the target's port is asked for the password, for each
    request; what he proved stands in `X-Proved` of what goes on.
    """
    folder = folder / "kamailio"
    folder.mkdir()
    if certified is None or authority is None:
        own = Authority(folder)
        certified, authority = own.sign("127.0.0.1", "localhost", file="kamailio"), own.file
    port, tls_port = free_port(), free_port()
    config, log = folder / "kamailio.cfg", folder / "kamailio.log"
    config.write_text(
        CONFIG.format(
            port=port,
            tls_port=tls_port,
            certificate=certified.certificate,
            key=certified.key,
            authority=authority,
            require=int(require_certificate),
            target=target,
            digest=DIGEST.format(algorithm=algorithm) if algorithm else "",
            challenge=_challenge(target) if algorithm else "",
        )
    )
    # Its control socket has a short name: pytest's folders are too long for one.
    with log.open("wb") as output, tempfile.TemporaryDirectory() as runtime:
        process = await asyncio.create_subprocess_exec(
            "kamailio", "-f", str(config), "-DD", "-E", "-Y", runtime, "-m", "32", "-M", "8",
            stdout=output, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            await _listening(process, port, tls_port, log)
            yield Kamailio(process, port, tls_port, log)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def _challenge(target: str) -> str:
    port = int(target.rpartition(":")[2].partition(";")[0])
    return CHALLENGE.format(target_port=port, realm=REALM, password=PASSWORD)


async def _listening(process: asyncio.subprocess.Process, port: int, tls_port: int, log: Path) -> None:
    async def probe() -> bool:
        if process.returncode is not None:
            raise AssertionError(f"Kamailio died:\n{log.read_text()[-4000:]}")
        for there in (port, tls_port):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", there)
            except OSError:
                return False
            writer.close()
            await writer.wait_closed()
        return True

    await eventually(probe, "Kamailio", 15)
