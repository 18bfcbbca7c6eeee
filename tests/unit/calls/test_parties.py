"""Who asks for a transfer: the trunk, the user and the number in whose name a REFER is judged."""

from typing import Any

import pytest

from telephony_gateway.calls.events import Binding, Refer
from tests.unit.calls.world import World, settle

DESK = "192.0.2.50"
USERS = [{"name": name, "password_env": "SECRET"} for name in ("desk", "1001", "1002")]
TRUNKS = [
    {"name": "carrier", "addresses": ["203.0.113.0/24"], "uri": "sip:203.0.113.10"},
    {"name": "pbx", "addresses": ["198.51.100.1"], "uri": "sip:198.51.100.1"},
]


def office(*routes: dict[str, Any], **transfer: str) -> World:
    """In production, with a phone for each user."""
    trunks = [{**trunk, "transfer": transfer.get(trunk["name"], "handle")} for trunk in TRUNKS]
    named = [{"name": f"route-{number}", **route} for number, route in enumerate(routes)]
    world = World({"trunks": trunks, "users": USERS, "routes": named})
    world.routing.contacts = lambda user: [
        Binding(
            token=1, uri=f"sip:{user}@{DESK}", q=1.0, expires=60.0, source=(DESK, 5060), transport="udp",
            user_agent="",
        )
    ]  # fmt: skip
    return world


async def called(world: World, to: str, **who: Any) -> tuple[int, int]:
    """Somebody calls, and is answered."""
    leg = world.invite(to, **who)
    await settle()
    far: int = world.engine.of("dial")[-1][0]
    world.pick_up(far)
    await settle()
    assert world.only().status == "in-progress"
    return leg, far


async def asks(world: World, leg: int, number: str) -> int:
    """What a REFER is answered."""
    world.engine.emit(Refer(leg=leg, id=7, uri=f"sip:{number}@192.0.2.1"))
    await settle()
    refused = world.engine.of("refuse_refer")
    world.engine.commands.clear()
    await world.check_end()
    return refused[-1][2] if refused else 202


OUT = {"match": {"to": "^\\+"}, "target": {"trunk": "carrier"}}


@pytest.mark.parametrize(
    ("match", "status"),
    [({"user": "desk"}, 202), ({"trunk": "phones"}, 202), ({"from": "^desk$"}, 202), ({"user": "1001"}, 403)],
)
async def test_a_phone_that_was_called_may_call_what_its_user_may(match: dict[str, str], status: int) -> None:
    in_ = {"match": {"trunk": "carrier", "to": "^100$"}, "target": {"user": "desk"}}
    out = {**OUT, "match": {**OUT["match"], **match}}
    world = office(in_, out)
    _, desk = await called(world, "100")
    assert await asks(world, desk, "+79005554433") == status


@pytest.mark.parametrize(("asker", "status"), [("caller", 202), ("callee", 403)])
async def test_a_callee_is_not_judged_in_the_callers_name(asker: str, status: int) -> None:
    out = {**OUT, "match": {**OUT["match"], "from": "^1001$"}}
    inside = {"match": {"to": "^1002$"}, "target": {"user": "1002"}}
    world = office(inside, out)
    caller, callee = await called(world, "1002", source=DESK, user="1001", from_="1001")
    assert await asks(world, caller if asker == "caller" else callee, "+79005554433") == status


@pytest.mark.parametrize(("number", "status"), [("200", 202), ("201", 403)])
async def test_the_callee_of_a_trunk_is_the_number_that_was_called(number: str, status: int) -> None:
    out = {**OUT, "match": {"to": "^\\+", "from": "^200$", "trunk": "pbx"}}
    world = office({"match": {"to": "^20"}, "target": {"trunk": "pbx"}}, out)
    _, callee = await called(world, number)
    assert await asks(world, callee, "+79005554433") == status


@pytest.mark.parametrize("hunted", [False, True])
async def test_a_trunk_that_a_uri_leads_to_keeps_its_say(hunted: bool) -> None:
    uri = {"uri": "sip:reception@198.51.100.1:5080"}
    ring = {"ring": {"targets": [uri, {"uri": "sip:other@192.0.2.77"}]}}
    world = office({"match": {"to": "^1"}, "target": ring if hunted else uri}, OUT, pbx="refuse")
    _, callee = await called(world, "100")
    assert world.engine.of("dial")[0][1]["trunk"] == "", "it is called as it stands"
    assert await asks(world, callee, "+79005554433") == 403


async def test_who_came_by_a_transfer_is_judged_in_his_own_name() -> None:
    out = {**OUT, "match": {"to": "^\\+", "user": "desk"}}
    inside = {"match": {"to": "^100$"}, "target": {"user": "desk"}}
    world = office(inside, {"match": {"to": "^20"}, "target": {"trunk": "pbx"}}, out)
    _, callee = await called(world, "200")
    world.engine.emit(Refer(leg=callee, id=1, uri="sip:100@192.0.2.1"))
    desk = world.engine.of("dial")[-1][0]
    world.pick_up(desk)
    await settle()
    assert world.engine.of("bridge")[-1][1] == desk
    assert await asks(world, desk, "+79005554433") == 202
