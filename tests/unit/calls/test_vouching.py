"""Who vouches for callers: what is asked of the voucher, and what a call makes of its verdict."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from telephony_gateway.calls.model import Verification
from telephony_gateway.calls.trunks import Stir
from tests.unit.calls.world import TABLES, World, settle

PASSED = Verification(verstat="TN-Validation-Passed", attestation="A", origid="x")
FAILED = Verification(verstat="TN-Validation-Failed", status=438, reason="the signature does not hold")


class FakeVoucher:
    """Takes a while, and then says what the test wants."""

    def __init__(self, verdict: Verification | None) -> None:
        self.verdict = verdict
        self.asked: list[tuple[Any, ...]] = []

    def configure(self, trunks: Mapping[str, Stir]) -> None:
        raise AssertionError("the manager configures nobody")

    def sign(self, trunk: str, caller: str, callee: str) -> str | None:
        self.asked.append((trunk, caller, callee))
        return "signed"

    async def verify(
        self, trunk: str, identities: Sequence[str], caller: str, callees: Sequence[str]
    ) -> Verification | None:
        self.asked.append((trunk, list(identities), caller, list(callees)))
        await asyncio.sleep(2)
        return self.verdict


def world(verdict: Verification | None, *, trusted: bool = True, **stir: Any) -> tuple[World, FakeVoucher]:
    """A carrier with these settings."""
    files = {"key_file": "k.pem", "certificate_url": "https://c.example/c.pem", "ca_file": "ca.pem"}
    table = {**files, "allow": ["c.example"], **stir}
    trunks = [{**TABLES["trunks"][0], "trusted": trusted, "stir": table}, *TABLES["trunks"][1:]]
    voucher = FakeVoucher(verdict)
    return World({**TABLES, "trunks": trunks}, voucher=voucher), voucher


@pytest.mark.parametrize("verdict", [PASSED, FAILED])
async def test_a_call_rings_while_its_caller_is_judged(verdict: Verification) -> None:
    here, voucher = world(verdict, verify="annotate")
    browser = here.browser()
    here.invite(headers=[("Identity", "one"), ("Y", "two"), ("P-Asserted-Identity", "<sip:+7900@c.example>")])
    await settle()
    assert browser.heard() == ["IncomingCall"]
    assert here.only().verification is None
    assert voucher.asked == [("carrier", ["one", "two"], "+7900", ["+74951234567", "+74951234567"])]
    await asyncio.sleep(3)
    assert here.only().verification == verdict
    await here.manager.end_call(here.only().id)
    await settle()
    await here.check_end()


@pytest.mark.parametrize(
    ("asserted", "number"),
    [
        ("tel:+7900", "+7900"),
        ("TEL:+7900;x=y, <sip:+7901@c.example>", "+7900"),
        ("sip:+7900@c.example, tel:+7901", "+7900"),
        ("Bob <sip:+7900@c.example>, <tel:+7901>", "+7900"),
        ('"Bob, <sip:+7901@c.example> \\"" <tel:+7900>', "+7900"),
        ("nonsense", "+74950000000"),
    ],
)
async def test_the_first_identity_is_judged_in_either_form(asserted: str, number: str) -> None:
    here, voucher = world(PASSED, verify="annotate")
    here.browser()
    headers = [("Identity", "one"), ("P-Asserted-Identity", asserted)]
    leg = here.invite(headers=headers, from_="+74950000000")
    await settle()
    assert [asked[2] for asked in voucher.asked] == [number]
    here.end(leg, "cancel")
    await settle()
    await here.check_end()


async def test_an_identity_that_is_not_believed_is_not_judged() -> None:
    """A verdict on it would adorn the number in From, which everybody sees (RFC 3325 5)."""
    here, voucher = world(PASSED, trusted=False, verify="annotate")
    here.browser()
    leg = here.invite(headers=[("Identity", "one"), ("P-Asserted-Identity", "<sip:+7900@c.example>")])
    await settle()
    ((_, _, judged, _),) = voucher.asked
    assert judged == here.only().from_ != "+7900"
    here.end(leg, "cancel")
    await settle()
    await here.check_end()


async def test_a_trunk_that_requires_it_lets_nobody_else_ring() -> None:
    here, _ = world(FAILED, verify="require")
    browser = here.browser()
    leg = here.invite()
    await asyncio.sleep(3)
    assert browser.heard() == []
    assert here.engine.of("reject") == [(leg, 438)]
    (call,) = here.store.calls.values()
    assert (call.reason, call.sip_response_code, call.verification) == (FAILED.reason, 438, FAILED)
    assert here.history(call) == ["call.initiated", "call.verified", "call.failed"]
    (refusal,) = here.manager.refusals.latest()
    assert (refusal.rule, refusal.status, refusal.reason) == ("identity", 438, FAILED.reason)
    await here.check_end()


async def test_who_is_vouched_for_rings_after_the_verdict() -> None:
    here, _ = world(PASSED, verify="require")
    browser = here.browser()
    here.invite()
    await asyncio.sleep(1)
    assert browser.heard() == []
    await asyncio.sleep(2)
    assert browser.heard() == ["IncomingCall"]
    await here.manager.end_call(here.only().id)
    await settle()
    await here.check_end()


async def test_a_caller_that_leaves_meanwhile_is_not_rung_for() -> None:
    here, _ = world(PASSED, verify="require")
    browser = here.browser()
    here.end(here.invite(), "cancel")
    await asyncio.sleep(3)
    assert browser.heard() == []
    await here.check_end()


async def test_calls_out_are_signed() -> None:
    here, voucher = world(None, sign=True)
    leg, _ = await here.dialled(from_="+74950001122")
    assert voucher.asked == [("carrier", "+74950001122", "+7900")]
    ((_, how),) = here.engine.of("dial")
    assert ("Identity", "signed") in how["headers"]
    here.end(leg, "rejected")
    await settle()
    await here.check_end()
