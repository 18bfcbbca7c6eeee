"""Judging who calls: the Identity header of a call in (RFC 8224 6.2, RFC 8588)."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import jwt
import structlog
from jwt.types import Options

from telephony_gateway.calls.containment import PASS_ON
from telephony_gateway.calls.model import Verification
from telephony_gateway.stir.certificates import Certificates
from telephony_gateway.stir.passport import Refused, check_claims, read_claims, read_identity

FRESHNESS: Final = 60.0
"""Seconds that a PASSporT may be old (RFC 8224 6.2.2)."""
MAX_IDENTITIES: Final = 4
PATIENCE: Final = 5.0
"""Seconds for all Identity headers of a call: its caller waits, where the trunk says `require`."""

log = structlog.get_logger(__name__)

UNSIGNED: Final = Verification(
    verstat="No-TN-Validation", status=428, reason="the call has no Identity header"
)


class Verifier:
    """Verifies with one trunk's authorities. Never raises: what goes wrong is part of the verdict."""

    def __init__(self, certificates: Certificates, *, clock: Callable[[], float] = time.time) -> None:
        self._certificates = certificates
        self._clock = clock

    async def verify(self, identities: Sequence[str], caller: str, callees: Sequence[str]) -> Verification:
        """The verdict on a call; of several Identity headers one that holds is enough (RFC 8224 6.2)."""
        verdict = UNSIGNED
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for value in identities[:MAX_IDENTITIES]:
                    verdict = await self._judge(value, caller, callees)
                    if verdict.verstat == "TN-Validation-Passed":
                        return verdict
            return verdict
        return _failed(Refused(436, f"the certificates were not fetched within {PATIENCE:g} s"))

    async def _judge(self, value: str, caller: str, callees: Sequence[str]) -> Verification:
        try:
            return await self._verify(value, caller, callees)
        except Refused as fault:
            return _failed(fault)
        except PASS_ON:
            raise
        except BaseException as error:
            # What a stranger wrote must not end a call, whatever a library makes of it.
            log.error("an Identity header was not judged", exc_info=error)
            return _failed(Refused(437, "the PASSporT or its certificate cannot be read"))

    async def _verify(self, value: str, caller: str, callees: Sequence[str]) -> Verification:
        identity = read_identity(value)
        key = await self._certificates.key(identity.info)
        claims = read_claims(_payload(identity.token, key))
        check_claims(claims, caller, callees, self._clock(), FRESHNESS)
        return Verification(verstat="TN-Validation-Passed", attestation=claims.attest, origid=claims.origid)


def _failed(fault: Refused) -> Verification:
    return Verification(verstat="TN-Validation-Failed", status=fault.status, reason=fault.reason)


def _payload(token: str, key: Any) -> Any:
    # Times are checked by `check_claims`, which knows how old a PASSporT may be.
    times: Options = {"verify_iat": False, "verify_exp": False, "verify_nbf": False, "verify_aud": False}
    try:
        return jwt.decode(token, key, algorithms=["ES256"], options=times)
    except jwt.PyJWTError as error:
        raise Refused(438, f"the signature does not hold: {error}") from None
