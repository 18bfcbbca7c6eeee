//! Whether a server is who its URI says (RFC 5922 7).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use telephony_sip::{Scheme, Uri};
use webpki::EndEntityCert;

/// Asks for a certificate of a known authority that names the domain: as `sip:` URI, as DNS name, or as address.
#[derive(Debug)]
pub(super) struct DomainVerifier {
    /// `None` takes any certificate.
    roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
}

impl DomainVerifier {
    pub(super) fn new(roots: Option<Arc<RootCertStore>>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, provider }
    }
}

impl ServerCertVerifier for DomainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        verify_identity(end_entity, &certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `sip:` URIs of the certificate are its identities; only where there is none its DNS names are (RFC 5922 7.1).
/// Unlike 7.2 a wildcard counts, by the rules of RFC 9525 6.3: carriers use them. Addresses are asked for as such.
fn verify_identity(
    end_entity: &CertificateDer<'_>,
    certificate: &ParsedCertificate<'_>,
    name: &ServerName<'_>,
) -> Result<(), Error> {
    let ServerName::DnsName(domain) = name else { return verify_server_name(certificate, name) };
    let names = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
    let mut identities = names.valid_uri_names().filter_map(sip_identity).peekable();
    if identities.peek().is_none() {
        return verify_server_name(certificate, name);
    }
    match identities.any(|identity| identity.eq_ignore_ascii_case(domain.as_ref())) {
        true => Ok(()),
        false => {
            let presented = names.valid_uri_names().map(str::to_owned).collect();
            let expected = name.to_owned();
            Err(CertificateError::NotValidForNameContext { expected, presented }.into())
        }
    }
}

/// The domain that a URI in a certificate names; one with a user names no domain.
fn sip_identity(uri: &str) -> Option<String> {
    let uri = Uri::parse(uri).ok().filter(|uri| uri.scheme() == Scheme::Sip && uri.user().is_none())?;
    uri.host().map(|host| host.to_string())
}
