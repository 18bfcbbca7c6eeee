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
from telephony_gateway.stir.certificates import MAX_KEPT, Certificates
from telephony_gateway.stir.fetch import HttpsFetch, PublicResolver
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


async def test_a_failure_that_is_kept_does_not_grow(world: World) -> None:
    depths = set()
    for _ in range(4):
        with pytest.raises(Refused, match="404") as refused:
            await world.certificates.key("https://a.carrier.example/x.pem")
        depths.add((refused.value.status, len(refused.traceback)))
    assert len(depths) == 1


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


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1/x.pem",
        "https://certs.example.com:port/x.pem",
        "https://certs.example.com:99999/x.pem",
        "https://certs.example.com/x.pem?a=1",
        "https://certs.example.com/x.pem#a",
        "https://certs.example.com\\@evil.example/x.pem",
        "https://evil.example\\.carrier.example/x.pem",
        "https://certs.example.com/\r\nX: y",
        "https://",
    ],
)
async def test_a_url_that_means_more_than_a_place_is_never_fetched(world: World, url: str) -> None:
    identity = world.signer(certificate_url=url).sign(CALLER, CALLEE) or ""
    verdict = await world.verify(identity)
    assert (verdict.verstat, verdict.status) == ("TN-Validation-Failed", 436), verdict.reason
    assert world.fetched == []


async def test_what_a_library_makes_of_a_strangers_bytes_ends_no_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        """As PyO3 raises it."""

    def panic(*_: object) -> None:
        raise Panic

    monkeypatch.setattr("telephony_gateway.stir.verifier.read_identity", panic)
    verdict = await world.verify("x")
    assert (verdict.verstat, verdict.status) == ("TN-Validation-Failed", 437)


async def test_urls_that_lead_nowhere_crowd_no_certificate_out(world: World) -> None:
    good = world.signer().sign(CALLER, CALLEE) or ""
    await world.verify(good)
    for number in range(MAX_KEPT + 10):
        url = f"https://certs.example.com/{number}.pem"
        await world.verify(world.signer(certificate_url=url).sign(CALLER, CALLEE) or "")
    assert (await world.verify(good)).verstat == "TN-Validation-Passed"
    assert world.fetched.count(URL) == 1
    assert len(world.certificates._failed) == MAX_KEPT


async def test_many_identities_of_silent_hosts_take_no_longer_than_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telephony_gateway.stir.verifier.PATIENCE", 0.05)

    async def silence(url: str) -> tuple[bytes, float]:
        await asyncio.sleep(0.04)
        raise Refused(436, "no answer")

    world.certificates._fetch = silence
    urls = (f"https://certs.example.com/{number}.pem" for number in range(4))
    identities = [world.signer(certificate_url=url).sign(CALLER, CALLEE) or "" for url in urls]
    began = time.monotonic()
    verdict = await world.verify(*identities)
    assert time.monotonic() - began < 0.1
    assert (verdict.status, verdict.verstat) == (436, "TN-Validation-Failed")


class Names:
    """A resolver whose names the test knows."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        return [{"host": address, "port": port} for address in self.addresses]

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("addresses", "left"),
    [
        (("8.8.8.8", "127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1"), ["8.8.8.8"]),
        (("2606:4700::1", "::1", "fd00::1", "fe80::1%eth0", "::ffff:10.0.0.1"), ["2606:4700::1"]),
    ],
)
async def test_names_lead_to_public_addresses_only(addresses: tuple[str, ...], left: list[str]) -> None:
    resolver = PublicResolver(Names(*addresses))  # type: ignore[arg-type]
    assert [found["host"] for found in await resolver.resolve("certs.example.com", 443)] == left
    with pytest.raises(OSError, match="no public address"):
        await PublicResolver(Names(*addresses[1:])).resolve("x", 443)  # type: ignore[arg-type]


async def test_a_name_of_our_own_house_is_not_fetched_from() -> None:
    fetch = HttpsFetch()
    try:
        with pytest.raises(Refused, match="localhost has no public"):
            await fetch("https://localhost:8443/x.pem")
    finally:
        await fetch.close()
