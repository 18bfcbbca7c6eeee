"""The REST resource `calls`."""

from datetime import UTC, datetime
from typing import Any

import pytest

from telephony_gateway.calls.ladder import Rung
from telephony_gateway.errors import StoreUnavailable
from tests.unit.api.world import OFFER, UNKNOWN, World, world

NEW = {"to": "sip:bob@127.0.0.1:5070"}


async def dial(gateway: World, **fields: Any) -> Any:
    return await gateway.json("POST", "/api/v1/calls", 201, json=NEW | fields)


async def test_a_new_call_is_accepted_and_dialled_at_once(gateway: World) -> None:
    body = NEW | {"from": "+74957654321", "timeout": 30, "client_state": "crm:42"}
    async with gateway.http.post("/api/v1/calls", json=body) as response:
        call = await response.json()
        assert response.status == 201
        assert response.headers["Location"] == f"/api/v1/calls/{call['id']}"
    assert (call["status"], call["direction"], call["to"]) == ("queued", "outbound", NEW["to"])
    assert (call["from"], call["client_state"], call["timeout"]) == ("+74957654321", "crm:42", 30)
    assert call["created_at"].endswith("Z")
    assert gateway.engine.names() == ["dial"]


async def test_a_call_is_found_listed_and_told(gateway: World) -> None:
    call = await dial(gateway)
    assert (await gateway.json("GET", f"/api/v1/calls/{call['id']}", 200))["id"] == call["id"]
    page = await gateway.json("GET", "/api/v1/calls", 200)
    assert ([item["id"] for item in page["items"]], page["next_cursor"]) == ([call["id"]], None)
    events = (await gateway.json("GET", f"/api/v1/calls/{call['id']}/events", 200))["items"]
    assert [(event["sequence"], event["type"]) for event in events] == [(1, "call.initiated")]


async def test_pages_follow_their_cursor(gateway: World) -> None:
    ids = [(await dial(gateway))["id"] for _ in range(5)]
    seen, cursor = [], None
    for size in (2, 2, 1):
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = await gateway.json("GET", "/api/v1/calls", 200, params=query)
        assert len(page["items"]) == size
        seen += [call["id"] for call in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (ids[::-1], None)


async def test_filters_reach_the_store_in_utc(gateway: World) -> None:
    path = (
        "/api/v1/calls?status=ringing,busy&status=failed&direction=inbound"
        "&created_after=2026-01-01T03:00:00%2B03:00&created_before=2026-02-01T00:00:00Z&limit=7"
    )
    await gateway.json("GET", path, 200)
    query = gateway.store.queries[-1]
    assert query.status == ("ringing", "busy", "failed")
    assert (query.direction, query.limit, query.cursor) == ("inbound", 7, None)
    assert query.created_after is not None
    assert query.created_after.isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("status=asleep", "status[0]"),
        ("direction=up", "direction"),
        ("direction=null", "direction"),
        ("created_after=NULL", "created_after"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-01-01T00:00:00", "created_after"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "created_after"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=what", "cursor"),
        ("limit=1&limit=2", "limit"),
        ("colour=red", "colour"),
    ],
)
async def test_a_wrong_query_is_422_with_its_path(gateway: World, query: str, path: str) -> None:
    problem = await gateway.json("GET", f"/api/v1/calls?{query}", 422)
    assert problem["code"] == "invalid"
    assert [error["path"] for error in problem["errors"]] == [path]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "to"),
        ({"to": ""}, "to"),
        ({"to": 7}, "to"),
        ({"to": "sip:a\r\nX: y@127.0.0.1"}, "to"),
        ({"to": "sip:a@127.0.0.1\n"}, "to"),
        ({"to": "+7 495 123"}, "to"),
        ({"to": "http://127.0.0.1"}, "to"),
        ({"to": "sipx:a@127.0.0.1"}, "to"),
        ({"to": "9" * 65}, "to"),
        ({"to": "+74951234567"}, "trunk"),
        (NEW | {"from": "<script>"}, "from"),
        (NEW | {"trunk": ""}, "trunk"),
        (NEW | {"timeout": 4.9}, "timeout"),
        (NEW | {"timeout": 301}, "timeout"),
        (NEW | {"timeout": "60"}, "timeout"),
        (NEW | {"client_state": "x" * 4097}, "client_state"),
        (NEW | {"client_state": "я" * 2049}, "client_state"),
        (NEW | {"client_state": "nul\x00"}, "client_state"),
        (NEW | {"surprise": 1}, "surprise"),
        ([], "$"),
        ("text", "$"),
    ],
)
async def test_a_wrong_call_is_422_with_its_path(gateway: World, body: Any, path: str) -> None:
    problem = await gateway.json("POST", "/api/v1/calls", 422, json=body)
    assert [error["path"] for error in problem["errors"]] == [path]
    assert gateway.engine.commands == []


async def test_an_unknown_trunk_is_the_bodys_fault(gateway: World) -> None:
    problem = await gateway.json("POST", "/api/v1/calls", 422, json={"to": "123", "trunk": "nowhere"})
    assert problem["code"] == "trunk_not_found"


async def test_the_same_key_makes_one_call(gateway: World) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = await gateway.json("POST", "/api/v1/calls", 201, json=NEW, headers=headers)
    again = await gateway.json("POST", "/api/v1/calls", 201, json=NEW, headers=headers)
    assert again["id"] == first["id"]
    assert gateway.engine.names() == ["dial"]
    other = NEW | {"timeout": 10}
    problem = await gateway.json("POST", "/api/v1/calls", 409, json=other, headers=headers)
    assert problem["code"] == "idempotency_conflict"


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
async def test_a_wrong_key_is_422(gateway: World, key: str) -> None:
    problem = await gateway.json("POST", "/api/v1/calls", 422, json=NEW, headers={"Idempotency-Key": key})
    assert problem["errors"][0]["path"] == "Idempotency-Key"


@pytest.mark.parametrize("call_id", [UNKNOWN, "nonsense", "0", "%00", "..%2f..", "{" + UNKNOWN + "}"])
async def test_an_unknown_call_is_404_everywhere(gateway: World, call_id: str) -> None:
    for method, tail, body in [
        ("GET", "", None),
        ("GET", "/events", None),
        ("PATCH", "/status", {"status": "completed"}),
        ("POST", "/end", None),
        ("POST", "/sessions", {}),
    ]:
        path = f"/api/v1/calls/{call_id}{tail}"
        async with gateway.http.request(method, path, json=body) as response:
            assert response.status == 404, path
            assert (await response.json(content_type=None))["code"] in {"call_not_found", "not_found"}


async def test_a_call_can_be_canceled_and_then_is_over(gateway: World) -> None:
    path = f"/api/v1/calls/{(await dial(gateway))['id']}"
    call = await gateway.json("PATCH", f"{path}/status", 200, json={"status": "canceled"})
    assert call["status"] == "canceled"
    problem = await gateway.json("PATCH", f"{path}/status", 409, json={"status": "completed"})
    assert problem["code"] == "wrong_state"


@pytest.mark.parametrize("body", [{}, {"status": "asleep"}, {"status": 3}, {"status": "completed", "x": 1}])
async def test_a_wrong_status_is_422(gateway: World, body: dict[str, Any]) -> None:
    path = f"/api/v1/calls/{(await dial(gateway))['id']}/status"
    await gateway.json("PATCH", path, 422, json=body)


async def test_end_takes_a_reason_or_nothing(gateway: World) -> None:
    first, second = await dial(gateway), await dial(gateway)
    ended = await gateway.json("POST", f"/api/v1/calls/{first['id']}/end", 200)
    assert ended["ended_at"]
    body = {"reason": "the customer wrote instead"}
    ended = await gateway.json("POST", f"/api/v1/calls/{second['id']}/end", 200, json=body)
    assert ended["reason"] == body["reason"]
    path = f"/api/v1/calls/{second['id']}/end"
    await gateway.json("POST", path, 422, json={"reason": "two\r\nlines"})


async def test_a_session_is_a_ticket_shown_once(gateway: World) -> None:
    call = await dial(gateway)
    path = f"/api/v1/calls/{call['id']}/sessions"
    ticket = await gateway.json("POST", path, 201, json={"role": "agent"})
    assert set(ticket) == {"id", "call_id", "role", "token", "ws_url", "ice_servers", "created_at"}
    assert (ticket["call_id"], ticket["role"], ticket["ice_servers"]) == (call["id"], "agent", [])
    assert ticket["ws_url"].endswith("/ws")
    assert len(ticket["token"]) >= 32
    await gateway.json("POST", path, 201)
    await gateway.json("POST", path, 422, json={"role": "king"})
    async with gateway.socket() as browser:
        joined = await browser.ask("joined-call", type="join-call", call_id=call["id"], token=ticket["token"])
        assert joined["session_id"] == ticket["id"]
        await browser.ask("answer", type="offer", call_id=call["id"], sdp=OFFER)


async def test_a_store_that_is_down_is_503_not_500(gateway: World) -> None:
    gateway.store.fault = StoreUnavailable("the database does not answer", retry_after=2)
    async with gateway.http.get(f"/api/v1/calls/{UNKNOWN}") as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "2"
        assert (await response.json(content_type=None))["code"] == "store_unavailable"
    await gateway.json("POST", "/api/v1/calls", 503, json=NEW)


async def test_a_calls_sip_messages_as_json_and_as_text(gateway: World) -> None:
    call = await dial(gateway)
    leg = gateway.engine.commands[0][1]
    message = "INVITE sip:bob@127.0.0.1:5070 SIP/2.0\r\nCSeq: 1 INVITE\r\nX-Token: 5ec2e7\r\n\r\n"
    gateway.engine.rungs.append(
        Rung(
            at=datetime(2026, 11, 22, tzinfo=UTC),
            leg=leg,
            sent=True,
            transport="udp",
            local="127.0.0.1:5060",
            remote="127.0.0.1:5070",
            message=message.encode() + b"\xff",
        )
    )
    told = await gateway.json("GET", f"/api/v1/calls/{call['id']}/sip", 200)
    assert told == {
        "items": [
            {
                "at": "2026-11-22T00:00:00Z",
                "direction": "out",
                "leg": (await gateway.json("GET", f"/api/v1/calls/{call['id']}", 200))["legs"][0]["id"],
                "transport": "udp",
                "local": "127.0.0.1:5060",
                "remote": "127.0.0.1:5070",
                "summary": "INVITE sip:bob@127.0.0.1:5070",
                "message": message.replace("5ec2e7", "***") + "\ufffd",
                "retransmissions": [],
            }
        ],
        "truncated": False,
    }
    async with gateway.http.get(f"/api/v1/calls/{call['id']}/sip?format=text") as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        assert "127.0.0.1:5060 -> 127.0.0.1:5070 udp leg" in await response.text()
    await gateway.json("GET", f"/api/v1/calls/{UNKNOWN}/sip", 404)
    problem = await gateway.json("GET", f"/api/v1/calls/{call['id']}/sip?format=pcap", 422)
    assert [error["path"] for error in problem["errors"]] == ["format"]


@pytest.mark.parametrize(
    ("limits", "status", "code", "retry_after"),
    [({"max_calls": 1}, 503, "trunk_calls", "5"), ({"max_cps": 0.5}, 429, "trunk_rate", "2")],
)
async def test_a_full_trunk_says_when_to_come_again(
    limits: dict[str, Any], status: int, code: str, retry_after: str
) -> None:
    small = {"name": "small", "uri": "sip:192.0.2.1", **limits}
    async with world({"trunks": [small]}) as gateway:
        new = {"to": "+7900", "trunk": "small"}
        await gateway.json("POST", "/api/v1/calls", 201, json=new)
        async with gateway.http.post("/api/v1/calls", json=new) as response:
            problem = await response.json()
        assert (response.status, problem["code"]) == (status, code)
        assert response.headers["Retry-After"] == retry_after
        assert "trunk small takes" in problem["detail"]
        assert gateway.engine.names() == ["dial"], "no call was made"


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("sips:bob@192.0.2.1", 201),
        ("SIPS:bob@example.com:5061;transport=tcp", 201),
        ("sips:bob@192.0.2.1?Replaces=x", 422),
        ("sip:bob@192.0.2.1\r\nVia: x", 422),
        ("sipss:bob@192.0.2.1", 422),
    ],
)
async def test_what_is_called_may_be_a_sips_uri_and_nothing_more(
    gateway: World, to: str, status: int
) -> None:
    await gateway.json("POST", "/api/v1/calls", status, json={"to": to})
    assert gateway.engine.names() == (["dial"] if status == 201 else [])


async def test_a_transfer_needs_a_call_that_talks_and_a_place_to_go(gateway: World) -> None:
    call = await dial(gateway)
    path = f"/api/v1/calls/{call['id']}/actions/transfer"
    problem = await gateway.json("POST", path, 409, json={"to": "sip:carol@127.0.0.1:5071"})
    assert problem["detail"] == "the call is in no state to be transferred"
    for body in (
        {},
        {"to": ""},
        {"to": "sip:a b@c"},
        {"to": "sip:a@b", "timeout": 1},
        {"to": "sip:a@b", "x": 1},
    ):
        await gateway.json("POST", path, 422, json=body)
    unknown = path.replace(call["id"], str(UNKNOWN))
    await gateway.json("POST", unknown, 404, json={"to": "sip:carol@127.0.0.1:5071"})
