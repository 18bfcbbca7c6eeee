"""The door to STIR/SHAKEN: signers and verifiers by trunk, made when a trunk's settings name them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from telephony_gateway.calls.model import Verification
from telephony_gateway.calls.trunks import Stir as Table
from telephony_gateway.errors import ConfigError

NOT_INSTALLED = "a trunk has `stir` but its libraries are missing; install the extra [stir]"

if TYPE_CHECKING:
    from telephony_gateway.stir.fetch import HttpsFetch
    from telephony_gateway.stir.signer import Signer
    from telephony_gateway.stir.verifier import Verifier


class Stir:
    """Signs and verifies for every trunk that asks for it; `configure` may be called again, live."""

    def __init__(self) -> None:
        self._tables: Mapping[str, Table] = {}
        self._signers: dict[str, Signer] = {}
        self._verifiers: dict[str, Verifier] = {}
        self._fetch: HttpsFetch | None = None

    def configure(self, trunks: Mapping[str, Table], *, anew: bool = False) -> None:
        """Load keys and authorities; `ConfigError` names the file at fault, and nothing has changed."""
        kept = {name for name, stir in trunks.items() if self._tables.get(name) == stir and not anew}
        signers = {
            name: self._signers[name] if name in kept else _signer(name, stir)
            for name, stir in trunks.items()
            if stir.sign
        }
        verifiers = {
            name: self._verifiers[name] if name in kept else self._verifier(stir)
            for name, stir in trunks.items()
            if stir.verify != "off"
        }
        self._tables, self._signers, self._verifiers = dict(trunks), signers, verifiers

    def check(self, trunk: str, stir: Table) -> None:
        """Load what these settings name, and forget it."""
        if stir.sign:
            _signer(trunk, stir)
        if stir.verify != "off":
            self._verifier(stir)

    def sign(self, trunk: str, caller: str, callee: str) -> str | None:
        """The Identity header of a call out by this trunk, if it signs and both are numbers."""
        signer = self._signers.get(trunk)
        return signer.sign(caller, callee) if signer is not None else None

    async def verify(
        self, trunk: str, identities: Sequence[str], caller: str, callees: Sequence[str]
    ) -> Verification | None:
        """The verdict on a call in by this trunk; None if it does not verify. Takes 5 s at most."""
        verifier = self._verifiers.get(trunk)
        return await verifier.verify(identities, caller, callees) if verifier is not None else None

    async def close(self) -> None:
        """Let go of connections."""
        if self._fetch is not None:
            await self._fetch.close()

    def _verifier(self, stir: Table) -> "Verifier":
        try:
            from telephony_gateway.stir.certificates import Certificates
            from telephony_gateway.stir.fetch import HttpsFetch
            from telephony_gateway.stir.verifier import Verifier
        except ImportError as error:
            raise ConfigError("GATEWAY_CONFIG", NOT_INSTALLED) from error
        if self._fetch is None:
            self._fetch = HttpsFetch()
        authorities = Path(stir.ca_file or "")
        return Verifier(Certificates(allow=stir.allow, authorities=authorities, fetch=self._fetch))


def _signer(name: str, stir: Table) -> "Signer":
    try:
        from telephony_gateway.stir.signer import Signer
    except ImportError as error:
        raise ConfigError("GATEWAY_CONFIG", NOT_INSTALLED) from error
    return Signer(
        trunk=name,
        key_file=Path(stir.key_file or ""),
        certificate_url=stir.certificate_url or "",
        attestation=stir.attestation,
    )
