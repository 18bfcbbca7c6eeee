"""Challenges of a trunk on the wire (RFC 3261 22, RFC 7616, RFC 8760): what is answered, and how often."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.challenger import PASSWORD, REALM, Asked, Carrier, carrier, challenge
from tests.interop.gateway import Gateway, gateway
from tests.interop.script import sdp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

ELSEWHERE = "127.0.0.9"
PLAN = """
[[trunks]]
name = "carrier"
addresses = ["127.0.0.1/32"]
uri = "sip:127.0.0.1:{port}"
username = "alice"
password_env = "CARRIER_PASSWORD"
realm = "carrier.example"
"""
SDP = sdp(6000).replace("[local_ip]", "127.0.0.1").replace("\n", "\r\n")


@dataclass
class Line:
    """A gateway, and the carrier that it calls by."""

    gateway: Gateway
    carrier: Carrier
    call: str = ""

    async def begin(self) -> Asked:
        """The INVITE of a new call, without credentials."""
        made = await self.gateway.post("/api/v1/calls", {"to": "100", "trunk": "carrier"}, status=201)
        self.call = made["id"]
        invite = await self.carrier.asked("INVITE")
        assert not invite.values("Authorization") + invite.values("Proxy-Authorization")
        return invite

    async def again(self, asked: Asked, status: str, *headers: str) -> Asked:
        """The request once more after a challenge."""
        await self.carrier.refuses(asked, status, *headers)
        again = await self.carrier.asked(asked.method)
        for name in ("From", "Call-ID"):
            assert again.values(name) == asked.values(name)
        return again

    async def over(self, status: str, code: int | None) -> None:
        """The call has ended so, and no other request was sent for it."""
        ended = await self.gateway.ended(self.call)
        assert (ended["status"], ended["sip_response_code"]) == (status, code)
        await self.carrier.hears_no_more()

    async def busy(self, asked: Asked) -> None:
        """Credentials will do; the call itself does not matter."""
        await self.carrier.refuses(asked, "486 Busy Here")
        await self.over("busy", 486)

    async def hang_up(self) -> None:
        await self.gateway.post(f"/api/v1/calls/{self.call}/end", {})

    def contact(self, at: str = "") -> str:
        return f"Contact: <sip:bob@{at or self.carrier.address}>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    folder, port = tmp_path_factory.mktemp("challenges"), free_port()
    plan = folder / "gateway.toml"
    plan.write_text(PLAN.format(port=port))
    async with gateway(folder, GATEWAY_CONFIG=str(plan), CARRIER_PASSWORD=PASSWORD) as running:
        before = await running.use()
        async with carrier(running.sip, port=port) as peer:
            yield Line(running, peer)
            await running.settled(before)


def www(*arguments: Any, **more: Any) -> str:
    return f"WWW-Authenticate: {challenge(*arguments, **more)}"


def proxy(*arguments: Any, **more: Any) -> str:
    return f"Proxy-Authenticate: {challenge(*arguments, **more)}"


@pytest.mark.parametrize("best", ["SHA-512-256", "SHA-256", "MD5"])
async def test_of_many_challenges_the_best_of_the_trunks_realm_is_answered(line: Line, best: str) -> None:
    """RFC 8760 2.4: the server puts it on top; what is unknown, or of another realm, is passed over."""
    others = [
        www("x", realm="other.example"),
        www("y", "SHA3-256"),
        'WWW-Authenticate: Basic realm="carrier.example"',
    ]
    lines = [*others, f"{www('n1', best)}, {challenge('n2', 'MD5')}", www("n3", "MD5", realm="other.example")]
    again = await line.again(await line.begin(), "401 Unauthorized", *lines)
    given = again.proof()
    assert (given["realm"], given["nonce"], given["algorithm"]) == (REALM, "n1", best)
    assert (given["qop"], given["nc"]) == ("auth", "00000001")
    await line.busy(again)


async def test_a_stale_nonce_is_replaced_once(line: Line) -> None:
    """RFC 7616 3.3: the password was right. Twice in a row is no clock's fault."""
    first = await line.again(await line.begin(), "401 Unauthorized", www("n1"))
    second = await line.again(first, "401 Unauthorized", www("n2", more='qop="auth", stale=true'))
    given = second.proof()
    assert (given["nonce"], given["nc"]) == ("n2", "00000001")
    await line.carrier.refuses(second, "401 Unauthorized", www("n3", more='qop="auth", stale=true'))
    await line.over("failed", 401)


async def test_a_wrong_password_is_sent_once(line: Line) -> None:
    again = await line.again(await line.begin(), "407 Proxy Authentication Required", proxy("n1"))
    await line.carrier.refuses(again, "407 Proxy Authentication Required", proxy("n2"))
    await line.over("failed", 407)


async def test_a_foreign_realm_gets_no_credentials(line: Line) -> None:
    await line.carrier.refuses(await line.begin(), "401 Unauthorized", www("n1", realm="other.example"))
    await line.over("failed", 401)


async def test_a_foreign_address_gets_no_credentials(line: Line) -> None:
    """Contact leads the BYE elsewhere: whoever is there gets nothing to guess passwords by."""
    async with carrier(line.gateway.sip, ELSEWHERE) as stranger:
        invite = await line.again(await line.begin(), "401 Unauthorized", www("n1"))
        line.carrier.says(invite, "200 OK", line.contact(stranger.address), body=SDP)
        await stranger.asked("ACK")
        await line.hang_up()
        bye = await stranger.asked("BYE")
        stranger.says(bye, "401 Unauthorized", www("n2"))
        await stranger.hears_no_more()
    await line.over("completed", None)


async def test_server_and_proxy_ask_at_once(line: Line) -> None:
    """RFC 3261 22.3: a proxy that forks puts what it collects into one response."""
    both = (www("w", "MD5"), proxy("p", "SHA-512-256"))
    again = await line.again(await line.begin(), "401 Unauthorized", *both)
    assert again.proof("Authorization")["nonce"] == "w"
    assert again.proof("Proxy-Authorization")["nonce"] == "p"
    await line.busy(again)


async def test_server_and_proxy_ask_one_after_the_other(line: Line) -> None:
    first = await line.again(await line.begin(), "407 Proxy Authentication Required", proxy("p"))
    assert not first.values("Authorization")
    second = await line.again(first, "401 Unauthorized", www("w"))
    counts = [second.proof(name)["nc"] for name in ("Proxy-Authorization", "Authorization")]
    assert counts == ["00000002", "00000001"]
    await line.busy(second)


async def test_bodies_are_protected_where_nothing_less_will_do(line: Line) -> None:
    """RFC 7616 3.4: `auth-int`, unasked in the BYE, and once more when the nonce has run out."""
    invite = await line.again(await line.begin(), "401 Unauthorized", www("n1", more='qop="auth-int"'))
    assert invite.proof()["qop"] == "auth-int"
    line.carrier.says(invite, "200 OK", line.contact(), body=SDP)
    await line.carrier.asked("ACK")
    await line.hang_up()
    bye = await line.carrier.asked("BYE")
    assert (bye.proof()["qop"], bye.proof()["nc"]) == ("auth-int", "00000002")
    bye = await line.again(bye, "401 Unauthorized", www("n2", more='qop="auth-int"'))
    assert bye.proof()["nonce"] == "n2"
    line.carrier.says(bye, "200 OK")
    await line.over("completed", None)


async def test_a_fork_that_answers_too_late_is_hung_up_on_with_credentials(line: Line) -> None:
    """RFC 3261 13.2.2.4: or its callee would talk to nobody, and be charged for it."""
    invite = await line.begin()
    line.carrier.says(invite, "200 OK", line.contact(), tag="first", body=SDP)
    await line.carrier.asked("ACK")
    await line.hang_up()
    line.carrier.says(await line.carrier.asked("BYE"), "200 OK")
    line.carrier.says(invite, "200 OK", tag="late", body=SDP)
    ack, bye = await line.carrier.asked("ACK"), await line.carrier.asked("BYE")
    bye = await line.again(bye, "407 Proxy Authentication Required", proxy("p"))
    assert bye.proof("Proxy-Authorization")["nc"] == "00000001"
    assert all(";tag=late" in asked.values("To")[0] for asked in (ack, bye))
    line.carrier.says(bye, "200 OK")
    await line.over("completed", None)
