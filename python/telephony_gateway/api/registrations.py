"""The REST resource `registrations`, and the phones of one of `users`."""

from aiohttp import web

from telephony_gateway.api.calls import answer
from telephony_gateway.api.context import CONTEXT
from telephony_gateway.calls.registrations import RegistrationList, UserPhones
from telephony_gateway.errors import NotFound


async def list_registrations(request: web.Request) -> web.Response:
    """`GET /api/v1/registrations`."""
    own = request.app[CONTEXT].registrations.own
    return answer(RegistrationList(items=[own[name] for name in sorted(own)]))


async def find_user(request: web.Request) -> web.Response:
    """`GET /api/v1/users/{name}`."""
    context, name = request.app[CONTEXT], request.match_info["name"]
    user = next((user for user in context.provisioning.users if user.name == name), None)
    if user is None:
        raise NotFound(f"no user is named {name[:64]!r}")
    bindings = context.registrations.phones(name)
    shown = UserPhones(name=name, display=user.display, max_contacts=user.max_contacts, bindings=bindings)
    return answer(shown)
