"""One truth in every disorder: whatever peers, browsers, the store, the engine and time do, in whatever
order, each call has a gapless history with one end, and nothing of it stays (`World.check_end` says so).
"""

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from telephony_gateway.calls.events import Held, Refer, ReferAnswered, Referral
from telephony_gateway.calls.manager import NewCall
from telephony_gateway.calls.model import Verification
from telephony_gateway.calls.trunks import Stir
from telephony_gateway.errors import EngineFailure, GatewayError, NotAcceptable, Overloaded
from tests.unit.calls.world import CARRIER, FakeBrowser, World, settle

STIR = {"ca_file": "ca.pem", "allow": ["certs.example.com"]}
HUNT = {"trunks": [{"trunk": "a"}, {"trunk": "b", "priority": 2}]}
TWO = [{"uri": "sip:one@198.51.100.1"}, {"uri": "sip:two@198.51.100.2"}]
TABLES: dict[str, Any] = {
    "trunks": [
        {"name": "carrier", "addresses": [CARRIER], "stir": {"verify": "require", **STIR}, "ringback": "eu"},
        {"name": "noting", "addresses": ["203.0.113.8"], "stir": {"verify": "annotate", **STIR}},
        {"name": "a", "addresses": ["198.51.100.1"], "uri": "sip:198.51.100.1", "max_calls": 3},
        {"name": "b", "uri": "sip:198.51.100.2", "max_cps": 2, "transfer": "pass"},
    ],
    "routes": [
        {"name": "hunt", "match": {"to": "^1"}, "target": HUNT, "ring_timeout": 30},
        {"name": "plain", "match": {"to": "^2"}, "target": {"trunk": "a"}},
        {"name": "both", "match": {"to": "^3"}, "target": {"ring": {"targets": TWO, "strategy": "parallel"}}},
        {
            "name": "all",
            "match": {"to": "^4"},
            "target": {"ring": {"targets": [{"browser": "sales"}, *TWO], "timeout": 15}},
        },
        {"name": "sales", "match": {"to": "^5"}, "target": {"browser": "sales"}},
    ],
}
COMMANDS = ("dial", "ring", "answer", "bridge", "preview", "accept_offer", "accept_refer", "ring_back")


class PanicException(BaseException):
    """As PyO3 raises it."""


FAULTS = (EngineFailure("gone"), Overloaded("no ports"), NotAcceptable("nothing"), RuntimeError("a bug"),
          PanicException("a panic"))  # fmt: skip


class Judge:
    """A voucher whose verdicts take their time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def configure(self, trunks: Mapping[str, Stir], *, anew: bool = False) -> None: ...

    def check(self, trunk: str, stir: Stir) -> None: ...

    def sign(self, trunk: str, caller: str, callee: str) -> str | None:
        return None

    async def verify(self, trunk: str, *_: Sequence[str]) -> Verification | None:
        await asyncio.sleep(self.rng.choice([0, 0, 1, 4]))
        passed = self.rng.random() < 0.7
        return Verification(
            verstat="TN-Validation-Passed" if passed else "TN-Validation-Failed",
            status=None if passed else 438,
        )


class Disorder:
    """One thing after the other, drawn by chance."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.world = World(TABLES, voucher=Judge(rng))
        self.world.engine.passes_on = rng.random() < 0.5
        self.browsers = [self.world.browser(f"b{number}") for number in range(2)]
        self.deeds = [getattr(self, name) for name in dir(self) if name.startswith("do_")]

    async def happens(self) -> None:
        with contextlib.suppress(GatewayError):
            await self.rng.choice(self.deeds)()
        for _ in range(self.rng.choice([0, 0, 1, 3, 20])):
            await asyncio.sleep(0)

    async def everybody_leaves(self) -> None:
        """Peers hang up one after the other, until there is nobody left to call."""
        for _ in range(100):
            for leg in sorted(self.world.engine.alive):
                self.world.end(leg, "bye")
            await asyncio.sleep(1)

    def leg(self, *, dialled: bool) -> int:
        """One that lives, or one that is long gone or never was: its events may cross anything."""
        known = {leg for leg, _ in self.world.engine.of("dial")}
        legs = sorted(leg for leg in self.world.engine.alive if (leg in known) == dialled)
        return self.rng.choice(legs) if legs else self.rng.randint(1, 30)

    def browser(self) -> FakeBrowser:
        return self.rng.choice(self.browsers)

    def call(self) -> Any:
        calls = sorted(self.world.store.calls)
        return self.rng.choice(calls) if calls else UUID(int=0)

    async def do_invite(self) -> None:
        if self.world.manager.active_calls < 4:
            source = self.rng.choice([CARRIER, "203.0.113.8", "198.51.100.1"])
            self.world.invite(self.rng.choice("123459") + "00", source)

    async def do_order(self) -> None:
        if self.world.manager.active_calls < 4:
            route = self.rng.choice(["hunt", "both", "all", "plain"])
            key = self.rng.choice([None, "key"])
            await self.world.manager.create_call(NewCall(to="200", route=route, timeout=20), key)

    async def do_ring(self) -> None:
        self.world.ring(self.leg(dialled=True), self.rng.choice([180, 183]))

    async def do_answer(self) -> None:
        leg = self.leg(dialled=True)
        if leg in self.world.engine.alive:
            self.world.pick_up(leg)

    async def do_refuse(self) -> None:
        status = self.rng.choice([404, 486, 503, 603, 302])
        contacts = ["sip:7@198.51.100.2"] if status == 302 else []
        self.world.end(self.leg(dialled=True), "rejected", status=status, contacts=contacts)

    async def do_vanish(self) -> None:
        cause = self.rng.choice(["unreachable", "timeout", "transport_error", "media_timeout", "error"])
        self.world.end(self.leg(dialled=self.rng.random() < 0.7), cause, by="system")

    async def do_hang_up(self) -> None:
        self.world.end(self.leg(dialled=self.rng.random() < 0.3), self.rng.choice(["bye", "cancel"]))

    async def do_join(self) -> None:
        call, browser = self.call(), self.browser()
        await self.world.manager.join(browser, call)
        await self.world.manager.offer(browser, call, "o")

    async def do_leave(self) -> None:
        await self.world.manager.leave(self.browser(), self.call())

    async def do_close_the_page(self) -> None:
        browser = self.browser()
        self.world.manager.disconnect(browser)
        self.world.manager.connect(browser)

    async def do_end(self) -> None:
        await self.world.manager.end_call(self.call())

    async def do_transfer(self) -> None:
        leg = self.leg(dialled=self.rng.random() < 0.5)
        other = self.leg(dialled=True) if self.rng.random() < 0.3 else None
        headers = [("Replaces", "x")] if other is not None else []
        uri = self.rng.choice(["sip:200@192.0.2.1", "sip:300@192.0.2.1", "tel:999"])
        self.world.engine.emit(
            Refer(leg=leg, id=self.rng.randint(1, 3), uri=uri, headers=headers, replaces=other)
        )

    async def do_tell_of_a_transfer(self) -> None:
        leg, status = self.leg(dialled=True), self.rng.choice([100, 180, 200, 486])
        self.world.engine.emit(ReferAnswered(leg=leg, status=self.rng.choice([202, 603])))
        self.world.engine.emit(Referral(leg=leg, status=status, reason="", last=status >= 200))

    async def do_hold(self) -> None:
        self.world.engine.emit(Held(leg=self.leg(dialled=True), held=self.rng.random() < 0.5))

    async def do_press(self) -> None:
        self.world.press(self.leg(dialled=True), "5")

    async def do_lose_the_store(self) -> None:
        self.world.store.down = self.rng.random() < 0.3

    async def do_break_the_engine(self) -> None:
        self.world.engine.faults.clear()
        if self.rng.random() < 0.5:
            self.world.engine.faults[self.rng.choice(COMMANDS)] = self.rng.choice(FAULTS)

    async def do_wait(self) -> None:
        await asyncio.sleep(self.rng.choice([0.1, 2, 6, 40]))


@pytest.mark.parametrize("seed", range(150))
async def test_each_call_ends_once_and_nothing_stays(seed: int) -> None:
    disorder = Disorder(seed)
    for _ in range(disorder.rng.randint(10, 80)):
        await disorder.happens()
    disorder.world.store.down = False
    disorder.world.engine.faults.clear()
    await disorder.everybody_leaves()
    assert disorder.world.manager.active_calls == 0, "a call that nobody is in goes on"
    if disorder.rng.random() < 0.3:
        await disorder.world.manager.drain(0)
    await settle()
    await disorder.world.check_end()


async def test_a_fault_in_the_end_of_a_leg_ends_its_call() -> None:
    """The leg is of no call any more when the next place cannot be dialled."""
    world = World(TABLES)
    leg = world.invite("100", "198.51.100.1")
    first = world.engine.of("dial")[0][0]
    world.engine.faults["dial"] = PanicException("a panic")
    world.end(first, "rejected", status=503)
    await settle()
    assert world.engine.of("reject") == [(leg, 500)]
    assert (world.only().status, world.only().reason) == ("failed", "a fault inside the gateway")
    await world.check_end()


async def test_the_end_is_recorded_though_a_leg_never_ends() -> None:
    world = World(TABLES)
    leg = world.invite("200", "198.51.100.1")
    world.store.down = world.engine.silent = True
    world.end(leg, "cancel")
    await asyncio.sleep(60)
    world.store.down = False
    await asyncio.sleep(10)
    assert world.only().status == "canceled"
    world.engine.alive.clear()
    await world.check_end()
