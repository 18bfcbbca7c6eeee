"""STIR/SHAKEN end to end but for the network: what one signs the other verifies, and nothing else passes."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from telephony_gateway.calls.model import Verification
from telephony_gateway.errors import ConfigError
from telephony_gateway.stir.certificates import Certificates
from telephony_gateway.stir.passport import Refused, number_of, read_identity, write_identity
from telephony_gateway.stir.signer import Signer
from telephony_gateway.stir.verifier import Verifier
from tests.unit.stir.authority import Authority, Holder

URL = "https://certs.example.com/709J.pem"
CALLER, CALLEE = "+12155551212", "+14045551313"


class World:
    """An authority, a holder, and a web that serves his certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.holder = self.authority.issue()
        self.served: dict[str, bytes] = {URL: self.holder.pem}
        self.fetched: list[str] = []
        self.now = time.time()
        self.certificates = Certificates(
            allow=["certs.example.com", "*.carrier.example"],
            authorities=self.authority.write(folder / "ca.pem"),
            fetch=self.fetch,
            clock=lambda: self.now,
        )

    async def fetch(self, url: str) -> tuple[bytes, float]:
        self.fetched.append(url)
        await asyncio.sleep(0)
        if url not in self.served:
            raise Refused(436, "the certificate's host answered 404")
        return self.served[url], 600.0

    def signer(self, holder: Holder | None = None, **settings: object) -> Signer:
        key_file = (holder or self.holder).write_key(self.folder / "key.pem")
        arguments = {"certificate_url": URL, "clock": lambda: self.now, **settings}
        return Signer(trunk="carrier", key_file=key_file, **arguments)  # type: ignore[arg-type]

    async def verify(
        self, *identities: str, caller: str = CALLER, callees: tuple[str, ...] = (CALLEE,)
    ) -> Verification:
        return await Verifier(self.certificates, clock=lambda: self.now).verify(identities, caller, callees)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_is_signed_verifies(world: World) -> None:
    identity = world.signer(attestation="B", origid="a-b-c").sign(CALLER, CALLEE)
    assert identity is not None
    assert identity.endswith(f";info=<{URL}>;alg=ES256;ppt=shaken")
    verdict = await world.verify(identity, caller="+1 (215) 555-1212")
    assert verdict == Verification(verstat="TN-Validation-Passed", attestation="B", origid="a-b-c")


async def test_no_identity_is_428(world: World) -> None:
    verdict = await world.verify()
    assert (verdict.verstat, verdict.status) == ("No-TN-Validation", 428)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda w: w.signer().sign("+12155559999", CALLEE), 438),
        (lambda w: w.signer().sign(CALLER, "+14045559999"), 438),
        (lambda w: w.signer(clock=lambda: w.now - 61).sign(CALLER, CALLEE), 403),
        (lambda w: w.signer(clock=lambda: w.now + 61).sign(CALLER, CALLEE), 403),
        (lambda w: w.signer(w.authority.issue()).sign(CALLER, CALLEE), 438),
        (lambda w: w.signer(certificate_url="https://evil.example/x.pem").sign(CALLER, CALLEE), 436),
        (lambda w: w.signer(certificate_url="https://certs.example.com/none.pem").sign(CALLER, CALLEE), 436),
        (
            lambda w: (
                w.signer().sign(CALLER, CALLEE).replace("info=<https://certs", "info=<https://x.carrier")
            ),
            436,
        ),
        (lambda w: w.signer().sign(CALLER, CALLEE).replace("ppt=shaken", "ppt=div"), 437),
        (lambda w: "..;info=<https://certs.example.com/709J.pem>", 438),
        (lambda w: "x" * 5000, 438),
    ],
)
async def test_what_does_not_hold_is_refused(
    world: World, change: Callable[[World], str], status: int
) -> None:
    verdict = await world.verify(change(world))
    assert (verdict.verstat, verdict.status) == ("TN-Validation-Failed", status), verdict.reason


@pytest.mark.parametrize(("algorithm", "status"), [("none", 438), ("HS256", 437)])
async def test_only_es256_counts(world: World, algorithm: str, status: int) -> None:
    """The classic holes of JWT: no signature, or one made with the public key as a secret."""
    orig, dest = {"tn": "12155551212"}, {"tn": ["14045551313"]}
    claims = {"attest": "A", "dest": dest, "iat": int(world.now), "orig": orig, "origid": "x"}
    key = None if algorithm == "none" else "k" * 32
    token = jwt.encode(claims, key, algorithm, headers={"ppt": "shaken", "typ": "passport", "x5u": URL})
    verdict = await world.verify(write_identity(token, URL))
    assert (verdict.verstat, verdict.status) == ("TN-Validation-Failed", status)


async def test_one_good_identity_of_several_is_enough(world: World) -> None:
    good = world.signer().sign(CALLER, CALLEE)
    assert good is not None
    assert (await world.verify("rubbish", good)).verstat == "TN-Validation-Passed"


@pytest.mark.parametrize("kind", ["stranger", "no list", "expired", "other curve", "rubbish"])
async def test_certificates_that_may_not_vouch(world: World, kind: str) -> None:
    holder = {
        "stranger": lambda: Authority("Other CA").issue(),
        "no list": lambda: world.authority.issue(tn_auth_list=False),
        "expired": lambda: world.authority.issue(days=-1),
        "other curve": lambda: world.authority.issue(curve=ec.SECP384R1()),
        "rubbish": lambda: world.holder,
    }[kind]()
    world.served[URL] = b"rubbish" if kind == "rubbish" else holder.pem
    identity = world.signer().sign(CALLER, CALLEE)
    verdict = await world.verify(identity or "")
    assert verdict.status == (436 if kind == "rubbish" else 437), verdict.reason


async def test_a_certificate_is_fetched_once_and_again_when_it_is_old(world: World) -> None:
    identity = world.signer().sign(CALLER, CALLEE) or ""
    verdicts = await asyncio.gather(*(world.verify(identity) for _ in range(20)))
    assert {verdict.verstat for verdict in verdicts} == {"TN-Validation-Passed"}
    assert len(world.fetched) == 1
    world.now += 601
    await world.verify(world.signer().sign(CALLER, CALLEE) or "")
    assert len(world.fetched) == 2


async def test_a_failed_fetch_is_not_repeated_at_once(world: World) -> None:
    identity = world.signer(certificate_url="https://a.carrier.example/x.pem").sign(CALLER, CALLEE) or ""
    for _ in range(5):
        await world.verify(identity)
    assert len(world.fetched) == 1


@pytest.mark.parametrize(
    "url",
    ["http://certs.example.com/x.pem", "https://certs.example.com:22/x", "https://u@certs.example.com/"],
)
async def test_only_https_on_usual_ports_is_fetched(world: World, url: str) -> None:
    with pytest.raises(Refused):
        await world.certificates.key(url)
    assert world.fetched == []


def test_only_numbers_are_vouched_for(world: World) -> None:
    assert world.signer().sign("alice", CALLEE) is None
    users = ("+1-215.555 1212", "1215;phone-context=x", "%2B7495", "bob", "")
    assert [number_of(user) for user in users] == ["12155551212", "1215", "7495", None, None]


def test_a_key_that_cannot_sign_is_a_config_error(world: World, tmp_path: Path) -> None:
    for file in (
        tmp_path / "none.pem",
        world.authority.issue(curve=ec.SECP384R1()).write_key(tmp_path / "k.pem"),
    ):
        with pytest.raises(ConfigError, match="key_file"):
            Signer(trunk="carrier", key_file=file, certificate_url=URL)


def test_the_identity_header_is_read_in_any_spelling() -> None:
    with pytest.raises(Refused):
        read_identity("a.b.c;info=<https://x>")
