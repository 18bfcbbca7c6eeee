"""What every request passes, outermost first. The order is the security policy, so it stands in one place."""

from aiohttp.typedefs import Middleware

from telephony_gateway.api.auth import Keys
from telephony_gateway.api.context import Context
from telephony_gateway.api.middleware.authenticate import authenticate
from telephony_gateway.api.middleware.compress import compress
from telephony_gateway.api.middleware.errors import translate_errors
from telephony_gateway.api.middleware.observe import observe
from telephony_gateway.api.middleware.origins import Origins, guard_origins
from telephony_gateway.api.middleware.rate import RateLimit, limit_rate

__all__ = ["Origins", "RateLimit", "middlewares"]


def middlewares(context: Context, keys: Keys, origins: Origins, rate: RateLimit) -> list[Middleware]:
    """List them: refusals (origin, rate, key) come inside the translation and before any body is read."""
    return [
        observe(context.telemetry),
        compress,
        translate_errors,
        guard_origins(origins),
        limit_rate(rate),
        authenticate(keys),
    ]
