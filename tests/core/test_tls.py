"""SIP over TLS: who proves what to whom, with Python's own TLS as the other side."""

import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telephony_gateway import _core
from tests.core.node import Node
from tests.interop.certificates import Authority, Certified
from tests.ports import free_port

OPTIONS = (
    "OPTIONS sip:gateway@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:5061;branch=z9hG4bK{0}\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:peer@127.0.0.1>;tag=p\r\nTo: <sip:gateway@127.0.0.1>\r\nCall-ID: {0}\r\n"
    "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
CHALLENGE = 'WWW-Authenticate: Digest realm="carrier", nonce="n"'
Start = Callable[..., Node]


def serving(start: Start, certified: Certified, authority: Path | None = None) -> tuple[Node, int]:
    """An engine that listens for TLS, and its port."""
    files = (str(certified.certificate), str(certified.key), str(authority) if authority else None)
    node = start(sip_tls_port=0, sip_tls_files=files)
    ports = {transport: port for transport, _, port in node.engine.sip_listeners}
    assert set(ports) == {"udp", "tcp", "tls"}
    return node, ports["tls"]


def client(authority: Authority, own: Certified | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def connect(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname=name)


def ask(stream: ssl.SSLSocket, number: str) -> bytes:
    stream.sendall(OPTIONS.format(number).encode())
    return stream.recv(65536)


def is_turned_away(port: int, context: ssl.SSLContext) -> bool:
    """Under TLS 1.3 a client learns only when it reads whether its certificate will do."""
    try:
        with connect(port, context) as stream:
            return ask(stream, "bad") == b""
    except OSError:
        return True


def serial(stream: ssl.SSLSocket) -> str:
    return str((stream.getpeercert() or {})["serialNumber"])


def test_a_client_that_trusts_us_is_answered(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, port = serving(start, authority.sign("127.0.0.1"))
    with connect(port, client(authority)) as stream:
        assert ask(stream, "one").startswith(b"SIP/2.0 200")
        assert ask(stream, "two").startswith(b"SIP/2.0 200")


def test_who_has_no_certificate_is_turned_away_where_one_is_asked_for(start: Start, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    _, port = serving(start, authority.sign("127.0.0.1"), authority.file)
    with connect(port, client(authority, authority.sign("example.com", file="good"))) as stream:
        assert ask(stream, "good").startswith(b"SIP/2.0 200")
    for own in (None, other.sign("example.com", file="bad")):
        assert is_turned_away(port, client(authority, own))


def test_a_changed_certificate_counts_for_new_connections(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, port = serving(start, authority.sign("127.0.0.1"))
    with connect(port, client(authority)) as old:
        first = serial(old)
        os.utime(authority.sign("127.0.0.1").key)
        until = time.monotonic() + 10
        while True:
            with connect(port, client(authority)) as new:
                if serial(new) != first:
                    break
            assert time.monotonic() < until, "the new certificate is not shown"
            time.sleep(0.2)
        assert ask(old, "old").startswith(b"SIP/2.0 200")  # and no connection was dropped


def test_changed_authorities_of_clients_count_for_new_connections(start: Start, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    asked = tmp_path / "clients.pem"
    asked.write_bytes(authority.file.read_bytes())
    _, port = serving(start, authority.sign("127.0.0.1"), asked)
    new = client(authority, other.sign("example.com", file="new"))
    old = client(authority, authority.sign("example.com", file="old"))
    assert is_turned_away(port, new)
    asked.write_bytes(other.file.read_bytes())
    until = time.monotonic() + 10
    while is_turned_away(port, new):
        assert time.monotonic() < until, "the new authority is not known"
        time.sleep(0.2)
    assert is_turned_away(port, old)


def test_a_broken_certificate_leaves_the_last_one_in_force(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certified = authority.sign("127.0.0.1")
    node, port = serving(start, certified)
    certified.certificate.write_text("no certificate")
    until = time.monotonic() + 10
    while node.engine.stats().drops.get("tls.stale", 0) == 0:
        assert time.monotonic() < until
        time.sleep(0.1)
    with connect(port, client(authority)) as stream:
        assert ask(stream, "still").startswith(b"SIP/2.0 200")


def test_files_that_cannot_be_used_are_named(start: Start, tmp_path: Path) -> None:
    certified = Authority(tmp_path).sign("127.0.0.1")
    certified.key.write_text("no key")
    with pytest.raises(_core.EngineError) as caught:
        serving(start, certified)
    assert str(certified.key) in str(caught.value)


class Server:
    """A TLS server that takes one connection."""

    def __init__(self, certified: Certified, clients: Path | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certified.certificate, certified.key)
        if clients is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(clients)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port = self.listener.getsockname()[1]

    def accept(self) -> ssl.SSLSocket:
        plain, _ = self.listener.accept()
        plain.settimeout(10)
        return self.context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)


def trunk(node: Node, more: dict[str, Any] | None = None, **tls: Any) -> None:
    row = {"name": "carrier", "transport": "tls", "tls": tls, **(more or {})}
    node.engine.set_trunks(json.dumps([row]).encode())


def response(request: str, status: str, *headers: str) -> bytes:
    copied = [
        line
        for line in request.split("\r\n")
        if line.startswith(("Via:", "From:", "To:", "Call-ID:", "CSeq:"))
    ]
    lines = [f"{line};tag=server" if line.startswith("To:") else line for line in copied]
    return "\r\n".join([f"SIP/2.0 {status}", *lines, *headers, "Content-Length: 0", "", ""]).encode()


@pytest.mark.parametrize(
    ("names", "host", "right"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["192.0.2.1"], "127.0.0.1", False),
        (["localhost"], "localhost", True),
        (["sip:localhost"], "localhost", True),
        (["example.com"], "localhost", False),
        (["sip:example.com", "localhost"], "localhost", False),  # RFC 5922 7.1: URIs, if there are any
    ],
)
def test_a_server_must_prove_the_domain_of_its_uri(
    start: Start, tmp_path: Path, names: list[str], host: str, right: bool
) -> None:
    authority = Authority(tmp_path)
    server, node = Server(authority.sign(*names)), start()
    trunk(node, ca_file=str(authority.file))
    leg = node.dial(f"sip:bob@{host}:{server.port}", trunk="carrier")
    if right:
        with server.accept() as stream:
            invite = stream.recv(65536).decode()
            assert invite.startswith(f"INVITE sip:bob@{host}")
            assert "Via: SIP/2.0/TLS" in invite
            assert ";transport=tls>" in invite
    else:
        with pytest.raises(ssl.SSLError), server.accept() as stream:
            stream.recv(1)
        ended = node.ended(leg)
        assert ended.cause == "transport_error"
        assert ended.reason.startswith(f"no way to 127.0.0.1:{server.port}: TLS: invalid peer certificate:")
        assert f'not valid for name "{host}"' in ended.reason
    server.listener.close()


def test_we_prove_ourselves_where_a_server_asks(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, node = Server(authority.sign("127.0.0.1"), authority.file), start()
    own = authority.sign("gateway.example.com", file="own")
    trunk(node, ca_file=str(authority.file), cert_file=str(own.certificate), key_file=str(own.key))
    node.dial(f"sips:bob@127.0.0.1:{server.port}", trunk="carrier")
    with server.accept() as stream:
        invite = stream.recv(65536).decode()
        assert "Contact: <sips:" in invite
        names = (stream.getpeercert() or {})["subjectAltName"]
        assert names == (("DNS", "gateway.example.com"),)
    server.listener.close()


@pytest.mark.parametrize("proof", ["none", "a stranger's"])
def test_who_cannot_prove_himself_learns_what_the_server_wants(
    start: Start, tmp_path: Path, proof: str
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    server, node = Server(authority.sign("127.0.0.1"), authority.file), start()
    own = stranger.sign("gateway.example.com", file="own")
    files = {} if proof == "none" else {"cert_file": str(own.certificate), "key_file": str(own.key)}
    trunk(node, ca_file=str(authority.file), **files)
    leg = node.dial(f"sip:bob@127.0.0.1:{server.port}", trunk="carrier")
    with pytest.raises(ssl.SSLError), server.accept() as stream:
        stream.recv(1)
    ended = node.ended(leg)
    assert ended.cause == "transport_error"
    assert "TLS: received fatal alert" in ended.reason, ended.reason
    server.listener.close()


def test_nobody_listens_and_the_call_says_so(start: Start) -> None:
    node, port = start(), free_port()
    leg = node.dial(f"sip:bob@127.0.0.1:{port};transport=tcp")
    assert node.ended(leg).reason == f"no way to 127.0.0.1:{port}: connection refused"


def test_a_server_of_a_strange_authority_is_refused_unless_nobody_cares(start: Start, tmp_path: Path) -> None:
    stranger, authority = Authority(tmp_path, "stranger"), Authority(tmp_path)
    server, node = Server(stranger.sign("127.0.0.1")), start()
    trunk(node, ca_file=str(authority.file))
    leg = node.dial(f"sip:bob@127.0.0.1:{server.port}", trunk="carrier")
    with pytest.raises(ssl.SSLError), server.accept() as stream:
        stream.recv(1)
    ended = node.ended(leg)
    assert (ended.cause, "UnknownIssuer" in ended.reason) == ("transport_error", True)
    trunk(node, verify=False)
    node.dial(f"sip:bob@127.0.0.1:{server.port}", trunk="carrier")
    with server.accept() as stream:
        assert stream.recv(65536).startswith(b"INVITE")
    server.listener.close()


def test_two_names_at_one_address_share_no_connection(start: Start, tmp_path: Path) -> None:
    """RFC 5922 5: what was proved for one domain is worth nothing for another."""
    authority = Authority(tmp_path)
    server, node = Server(authority.sign("127.0.0.1", "localhost")), start()
    trunk(node, ca_file=str(authority.file))
    heard = []
    with contextlib.ExitStack() as streams:
        for host in ("127.0.0.1", "localhost"):
            node.dial(f"sip:bob@{host}:{server.port}", trunk="carrier")
            heard.append(streams.enter_context(server.accept()))
            assert heard[-1].recv(65536).startswith(f"INVITE sip:bob@{host}".encode())
        node.dial(f"sip:again@localhost:{server.port}", trunk="carrier")
        assert heard[1].recv(65536).startswith(b"INVITE sip:again@localhost")
    server.listener.close()


def test_who_is_left_is_told_that_nothing_follows(start: Start, tmp_path: Path) -> None:
    """RFC 8446 6.1: close_notify before the end; without it Python sees a stream that was cut."""
    authority = Authority(tmp_path)
    server, node = Server(authority.sign("127.0.0.1")), start()
    trunk(node, ca_file=str(authority.file))
    node.dial(f"sip:bob@127.0.0.1:{server.port}", trunk="carrier")
    with server.accept() as stream:
        assert stream.recv(65536).startswith(b"INVITE")
        node.engine.stop(0.1)
        while stream.recv(65536):
            pass
    server.listener.close()


def test_a_server_that_closes_behind_its_challenge_is_called_again(start: Start, tmp_path: Path) -> None:
    """RFC 3261 22.2: the 401 and the end of the stream come together, the call goes on by a new one."""
    authority = Authority(tmp_path)
    server, node = Server(authority.sign("127.0.0.1")), start()
    uri = f"sip:bob@127.0.0.1:{server.port}"
    account = {"username": "gw", "password": "wonderland", "realm": "carrier"}
    trunk(node, {"uri": uri, "credentials": account}, ca_file=str(authority.file))
    leg = node.dial(uri, trunk="carrier", next_hop=uri)
    with server.accept() as stream:
        invite = stream.recv(65536).decode()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # one segment
        stream.sendall(response(invite, "401 Unauthorized", CHALLENGE))
        stream.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            stream.unwrap()
    with server.accept() as stream:
        messages = b""
        while b"INVITE sip:" not in messages or b"m=audio" not in messages:
            messages += stream.recv(65536)
        again = messages[messages.index(b"INVITE sip:") :].decode()
        assert 'Authorization: Digest username="gw"' in again
        stream.sendall(response(again, "180 Ringing"))
        assert node.wait(_core.Ringing).leg == leg
    server.listener.close()


def test_a_trunk_without_its_files_is_refused(start: Start) -> None:
    with pytest.raises(_core.EngineError) as caught:
        trunk(start(), ca_file="/no/such/file.pem")
    assert "carrier" in str(caught.value)
    assert "/no/such/file.pem" in str(caught.value)
