"""A certificate authority of the tests, and holders of its certificates (RFC 8226)."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from telephony_gateway.stir.certificates import TN_AUTH_LIST

SERVICE_PROVIDER = bytes.fromhex("3007a0051603373039")
"""TNAuthList of one service provider code, as RFC 8226 9 writes it."""
DAY = datetime.timedelta(days=1)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """Signs certificates."""

    def __init__(self, common: str = "Test STI-CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name(common)
        now = datetime.datetime.now(datetime.UTC)
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def write(self, file: Path) -> Path:
        file.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return file

    def issue(
        self, *, tn_auth_list: bool = True, days: int = 30, curve: ec.EllipticCurve | None = None
    ) -> "Holder":
        """A service provider's certificate: no name to check, one list of numbers to vouch for."""
        key = ec.generate_private_key(curve or ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("SHAKEN 709J"))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if tn_auth_list:
            extension = x509.UnrecognizedExtension(TN_AUTH_LIST, SERVICE_PROVIDER)
            builder = builder.add_extension(extension, critical=False)
        return Holder(key, builder.sign(self.key, hashes.SHA256()))


class Holder:
    """Has a key and a certificate for it."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.pem = certificate.public_bytes(Encoding.PEM)

    def write_key(self, file: Path) -> Path:
        file.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return file
