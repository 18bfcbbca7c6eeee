"""`/ws`: the signalling of browsers. A frame in, a call of the manager, a frame out, in the order they came.

Whatever a client says that cannot be obeyed gets an `error` frame and the socket stays open; it is closed
only for a broken WebSocket protocol, a flood, a peer that does not read, or one that never says who it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import UNSET

from telephony_gateway.api import frames
from telephony_gateway.api.auth import Keys, presented
from telephony_gateway.api.context import CONTEXT
from telephony_gateway.api.middleware.observe import OBSERVATION
from telephony_gateway.api.middleware.rate import client_of
from telephony_gateway.api.problems import RequestError
from telephony_gateway.api.socket import FrameBudget, Socket
from telephony_gateway.calls.manager import Manager
from telephony_gateway.errors import GatewayError, Overloaded, RateLimited, Unauthorized, WrongState

log = structlog.get_logger(__name__)

MAX_FRAME = 128 * 1024
"""Bytes of one message; more closes the socket with 1009 (RFC 6455, 7.4.1)."""

HEARTBEAT = 20.0
"""Seconds between pings; half of it without a pong, and the browser is gone."""

FRAME_TIMEOUT = 20.0
"""Seconds that obeying one frame may take before the client is told so."""

INTRODUCTION_TIMEOUT = 30.0
"""Seconds for a stranger (where keys are required) to authenticate or to join with a token."""

MAX_SOCKETS = 4096
MAX_STRANGERS = 64
"""Sockets of one address that have not said yet who they are."""

MAX_NAMES = 32
"""Names that one socket may register."""

MAX_WRONG_KEYS = 5
"""Guesses of one socket; its next try costs a new connection, which the rate limit counts."""


class Sockets:
    """All open sockets: the handler of `/ws`, and what closes them at the end."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._open: dict[str, _Conversation] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket from its upgrade to its end."""
        authenticated = self._authenticate(request)
        client = client_of(request)
        self._admit(client, authenticated)
        response = web.WebSocketResponse(
            heartbeat=HEARTBEAT, max_msg_size=MAX_FRAME, compress=False, autoclose=True, timeout=3.0
        )
        if not response.can_prepare(request):
            raise RequestError(426, "upgrade_required", "this is a WebSocket: connect with an upgrade")
        await response.prepare(request)
        request[OBSERVATION].finish(response.status)
        socket = Socket(response, request, authenticated=authenticated)
        conversation = _Conversation(socket, response, self._keys, request.app[CONTEXT].manager, client)
        self._open[socket.id] = conversation
        try:
            await conversation.run()
        finally:
            del self._open[socket.id]
        return response

    def _authenticate(self, request: web.Request) -> bool:
        if not self._keys.required:
            return True
        if presented(request.headers) is None:
            return False
        # Who shows a key means it: a wrong one is refused here and now.
        self._keys.check(request.headers)
        return True

    def _admit(self, client: str, authenticated: bool) -> None:
        if len(self._open) >= MAX_SOCKETS:
            raise Overloaded("too many WebSockets are open", retry_after=5.0)
        strangers = sum(c.stranger and c.client == client for c in self._open.values())
        if not authenticated and strangers >= MAX_STRANGERS:
            raise RateLimited("too many strangers from this address", retry_after=INTRODUCTION_TIMEOUT)

    async def close(self, _app: web.Application) -> None:
        """Tell every client that the gateway goes away (1001)."""
        conversations = list(self._open.values())
        await asyncio.gather(*(conversation.dismiss() for conversation in conversations))


class _Conversation:
    """One socket's frames, one after the other: a candidate never overtakes its offer."""

    def __init__(
        self, socket: Socket, response: web.WebSocketResponse, keys: Keys, manager: Manager, client: str
    ) -> None:
        self.client = client
        self._socket = socket
        self._response = response
        self._keys = keys
        self._manager = manager
        self._budget = FrameBudget()
        self._wrong_keys = 0
        self._known = socket.authenticated

    @property
    def stranger(self) -> bool:
        """Whether the client has neither shown a key nor joined with a token."""
        return not self._known

    async def run(self) -> None:
        self._socket.start()
        self._manager.connect(self._socket)
        deadline = self._expect_introduction()
        log.info("websocket_opened", socket=self._socket.id, client=self.client)
        try:
            async for message in self._response:
                await self._receive(message.type, message.data)
                if self._socket.closing:
                    break
        finally:
            if deadline is not None:
                deadline.cancel()
            self._manager.disconnect(self._socket)
            await self._socket.finish()
            log.info("websocket_closed", socket=self._socket.id, code=self._response.close_code)

    async def dismiss(self) -> None:
        self._socket.close(WSCloseCode.GOING_AWAY, b"the gateway shuts down")
        await self._socket.finish()

    def _expect_introduction(self) -> asyncio.TimerHandle | None:
        if self._known:
            return None
        return asyncio.get_running_loop().call_later(INTRODUCTION_TIMEOUT, self._dismiss_stranger)

    def _dismiss_stranger(self) -> None:
        if self.stranger:
            self._socket.close(WSCloseCode.POLICY_VIOLATION, b"authenticate or join with a token first")

    async def _receive(self, kind: WSMsgType, data: Any) -> None:
        if not self._budget.spend():
            self._refuse_flood()
            # A flood arrives in one piece: others, and our own writer, get their turn in between.
            await asyncio.sleep(0)
        elif kind is WSMsgType.TEXT:
            await self._obey(data)
        elif kind is WSMsgType.BINARY:
            self._complain(frames.FrameError("binary_frame", "frames are JSON text"))

    def _refuse_flood(self) -> None:
        if self._budget.exhausted:
            self._socket.close(WSCloseCode.POLICY_VIOLATION, b"too many frames")
        else:
            self._complain(RateLimited("too many frames", retry_after=round(self._budget.wait, 3)))

    def _complain(self, error: GatewayError, request_id: frames.RequestId | Any = UNSET) -> None:
        self._socket.send(frames.error_reply(error, request_id))

    async def _obey(self, text: str) -> None:
        try:
            frame = frames.decode(text)
        except GatewayError as error:
            self._complain(error, frames.request_id_of(text))
            return
        request_id = UNSET if frame.request_id is None else frame.request_id
        try:
            async with asyncio.timeout(FRAME_TIMEOUT):
                await _ACTIONS[type(frame)](self, frame, request_id)
        except GatewayError as error:
            self._complain(error, request_id)
        except TimeoutError:
            self._complain(frames.FrameError("timeout", "the gateway took too long"), request_id)
        except Exception:
            log.exception("websocket_frame_failed", socket=self._socket.id, type=type(frame).__name__)
            self._complain(frames.FrameError("internal", "an error inside the gateway"), request_id)

    async def authenticate(self, frame: frames.Authenticate, request_id: Any) -> None:
        if self._keys.required and not self._keys.match(frame.api_key):
            self._wrong_keys += 1
            if self._wrong_keys >= MAX_WRONG_KEYS:
                self._socket.close(WSCloseCode.POLICY_VIOLATION, b"too many wrong keys")
            raise Unauthorized("this API key is not known")
        self._known = True
        if not self._socket.authenticated:
            self._socket.authenticated = True
            self._manager.connect(self._socket)
        self._socket.send(frames.Authenticated(request_id=request_id))

    async def register(self, frame: frames.Register, request_id: Any) -> None:
        if not self._socket.authenticated:
            raise Unauthorized("authenticate first")
        if len(self._socket.names) >= MAX_NAMES and frame.browser not in self._socket.names:
            raise WrongState(f"a socket can register {MAX_NAMES} names")
        self._socket.names |= {frame.browser}
        self._socket.send(frames.Registered(request_id=request_id, browser=frame.browser))
        self._manager.connect(self._socket)

    async def join(self, frame: frames.JoinCall, request_id: Any) -> None:
        joined = await self._manager.join(self._socket, frame.call_id, frame.token)
        self._known = True
        self._socket.send(
            frames.JoinedCall(
                request_id=request_id,
                call_id=joined.call.id,
                session_id=joined.session.id,
                ice_servers=joined.session.ice_servers,
                call=joined.call,
            )
        )
        if frame.offer:
            sdp = await self._manager.create_offer(self._socket, frame.call_id)
            self._socket.send(frames.OfferPush(call_id=frame.call_id, sdp=sdp))

    async def leave(self, frame: frames.LeaveCall, request_id: Any) -> None:
        await self._manager.leave(self._socket, frame.call_id)
        if request_id is not UNSET:
            self._socket.send(frames.LeftCall(request_id=request_id, call_id=frame.call_id))

    async def offer(self, frame: frames.Offer, request_id: Any) -> None:
        sdp = await self._manager.offer(self._socket, frame.call_id, frame.sdp)
        self._socket.send(frames.AnswerReply(request_id=request_id, call_id=frame.call_id, sdp=sdp))

    async def answer(self, frame: frames.Answer, _request_id: Any) -> None:
        await self._manager.answer(self._socket, frame.call_id, frame.sdp)

    async def candidate(self, frame: frames.IceCandidate, _request_id: Any) -> None:
        # An empty candidate means the same as null: there are no more (RFC 8838, 14).
        line = frame.candidate.candidate if frame.candidate is not None else ""
        self._manager.candidate(self._socket, frame.call_id, line or None)

    async def dtmf(self, frame: frames.Dtmf, _request_id: Any) -> None:
        self._manager.send_digits(self._socket, frame.call_id, frame.digits)


_Action = Callable[[_Conversation, Any, Any], Awaitable[None]]

_ACTIONS: dict[type[frames.AnyClientFrame], _Action] = {
    frames.Authenticate: _Conversation.authenticate,
    frames.Register: _Conversation.register,
    frames.JoinCall: _Conversation.join,
    frames.LeaveCall: _Conversation.leave,
    frames.Offer: _Conversation.offer,
    frames.Answer: _Conversation.answer,
    frames.IceCandidate: _Conversation.candidate,
    frames.Dtmf: _Conversation.dtmf,
}
