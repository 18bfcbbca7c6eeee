"""SIGHUP reads gateway.toml anew: routes, trunks and users, while calls go on."""

import asyncio
import signal
import socket
from pathlib import Path

from tests.interop.gateway import Gateway, eventually, gateway

ROUTE = '[[routes]]\nname = "all"\ntarget = {{ reject = {status} }}\n'
USER = '[[users]]\nname = "alice"\npassword_env = "ALICE"\n'
INVITE = (
    "INVITE sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{number};rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag={number}\r\nTo: <sip:100@127.0.0.1>\r\n"
    "Call-ID: {number}@reread\r\nCSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.1:{port}>\r\n"
    "Content-Length: 0\r\n\r\n"
)


async def refusal(running: Gateway, number: int) -> int:
    """The status that a caller is refused with."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind(("127.0.0.1", 0))
        caller.setblocking(False)
        caller.sendto(INVITE.format(port=caller.getsockname()[1], number=number).encode(), running.sip)
        async with asyncio.timeout(5):
            while (answer := await loop.sock_recv(caller, 65536)).startswith(b"SIP/2.0 1"):
                pass
    return int(answer[8:11])


async def test_sighup_reads_the_file_anew_and_refuses_a_bad_one(tmp_path: Path) -> None:
    plan = tmp_path / "gateway.toml"
    plan.write_text(ROUTE.format(status=486))
    async with gateway(tmp_path, GATEWAY_CONFIG=str(plan)) as running:
        assert await refusal(running, 1) == 486
        plan.write_text(ROUTE.format(status=404) + USER)
        (tmp_path / ".env").write_text("ALICE=wonderland\n")
        running.process.send_signal(signal.SIGHUP)

        async def users() -> list[dict[str, str]]:
            return list((await running.get("/api/v1/users"))["items"])

        assert [user["name"] for user in await eventually(users, "the file's users")] == ["alice"]
        assert await refusal(running, 2) == 404
        plan.write_text(ROUTE.format(status=999))
        running.process.send_signal(signal.SIGHUP)

        async def told() -> bool:
            return "the plan before stays" in running.log.read_text()

        await eventually(told, "the reasons in the log")
        assert "target.reject" in running.log.read_text()
        assert await refusal(running, 3) == 404
    assert "wonderland" not in running.log.read_text()
