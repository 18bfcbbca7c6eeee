//! DTLS 1.2 and 1.3 for SRTP keys (RFC 5763, RFC 5764, RFC 8842), around the crate `dimpl`; no other file names it.
//!
//! The peer's certificate is checked against the fingerprints of its SDP before any key leaves this file. There is no
//! cookie exchange: datagrams reach us only from addresses that ICE has authenticated, which proves as much.
//!
//! Our certificate is made from a seed of the caller. The handshake's own randomness (nonces, ephemeral keys) the
//! crate takes from the operating system: secrets of that kind are never an argument.

use crate::sdp::{Fingerprint, HashFunction};
use crate::srtp::{KeyMaterial, Profile};
use dimpl::{Config, DtlsCertificate, Output, SrtpProfile};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use x509_cert::builder::{Builder, CertificateBuilder, Profile as CertificateProfile};
use x509_cert::der::asn1::GeneralizedTime;
use x509_cert::der::{Decode, Encode};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// When a flight is resent first; each further time takes twice as long. RFC 9147 section 5.8.2 lets real-time
/// applications begin below its one second: a caller is listening to silence meanwhile.
const FIRST_RESEND: Duration = Duration::from_millis(250);

/// Longer datagrams are dropped unread; handshakes are cut to the path's MTU.
const MAX_DATAGRAM: usize = 4_096;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// DTLS could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DTLS: {0}")]
pub struct DtlsError(String);

impl DtlsError {
    fn new(what: &str, error: impl fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// Our certificate and its private key; one serves every leg of a process.
#[derive(Clone)]
pub struct Certificate {
    pair: DtlsCertificate,
    fingerprint: Fingerprint,
    /// Shared, as the library tests its ciphers whenever one is built.
    config: Arc<Config>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint.to_string())
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// A self-signed ECDSA P-256 certificate, valid for a year; `since_epoch` is the time since 1970.
    ///
    /// The seed must come from a cryptographic random source: it becomes the private key.
    ///
    /// # Errors
    /// If the certificate cannot be encoded.
    pub fn generate(seed: [u8; 32], since_epoch: Duration) -> Result<Self, DtlsError> {
        let key = signing_key(&seed)?;
        let der = self_signed(&key, &seed, since_epoch)?;
        let private_key = key.to_pkcs8_der().map_err(|error| DtlsError::new("private key", error))?;
        let config = Config::builder()
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .flight_start_rto(FIRST_RESEND)
            .flight_retries(8)
            .use_server_cookie(false)
            .require_client_certificate(true)
            .build()
            .map_err(|error| DtlsError::new("configuration", error))?;
        let fingerprint =
            Fingerprint { hash: HashFunction::Sha256, digest: digest(HashFunction::Sha256, &der) };
        let pair = DtlsCertificate { certificate: der, private_key: private_key.as_bytes().to_vec() };
        Ok(Self { pair, fingerprint, config: Arc::new(config) })
    }

    /// Its SHA-256 fingerprint, for `a=fingerprint` (RFC 8122 section 5).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.pair.certificate
    }
}

/// One of several independent values out of one seed.
fn derive(seed: &[u8; 32], purpose: &str, round: u8) -> [u8; 32] {
    Sha256::new().chain_update(seed).chain_update(purpose).chain_update([round]).finalize().into()
}

fn signing_key(seed: &[u8; 32]) -> Result<SigningKey, DtlsError> {
    // Nearly every 32 bytes are a key; those above the group's order are not.
    (0..=u8::MAX)
        .find_map(|round| SigningKey::from_slice(&derive(seed, "dtls key", round)).ok())
        .ok_or_else(|| DtlsError("no private key from this seed".to_owned()))
}

fn self_signed(key: &SigningKey, seed: &[u8; 32], since_epoch: Duration) -> Result<Vec<u8>, DtlsError> {
    let encoding = |error: x509_cert::der::Error| DtlsError::new("certificate", error);
    let building = |error: x509_cert::builder::Error| DtlsError::new("certificate", error);
    let name = Name::from_str("CN=WebRTC").map_err(encoding)?;
    let public_key =
        key.verifying_key().to_public_key_der().map_err(|error| DtlsError::new("public key", error))?;
    let public_key = SubjectPublicKeyInfoOwned::from_der(public_key.as_bytes()).map_err(encoding)?;
    let profile = CertificateProfile::Leaf {
        issuer: name.clone(),
        enable_key_agreement: false,
        enable_key_encipherment: false,
    };
    let (serial, validity) = (serial(seed).map_err(encoding)?, validity(since_epoch).map_err(encoding)?);
    let builder =
        CertificateBuilder::new(profile, serial, validity, name, public_key, key).map_err(building)?;
    builder.build::<DerSignature>().map_err(building)?.to_der().map_err(encoding)
}

/// Firefox keeps certificates by issuer and serial, so no two may share one.
fn serial(seed: &[u8; 32]) -> x509_cert::der::Result<SerialNumber> {
    let [first, rest @ ..] = derive(seed, "serial", 0);
    // Positive and without leading zeros (RFC 5280 section 4.1.2.2).
    let mut serial = vec![first & 0x3f | 0x40];
    serial.extend(rest.iter().take(15));
    SerialNumber::new(&serial)
}

/// From a day before, for peers whose clocks are slow.
fn validity(since_epoch: Duration) -> x509_cert::der::Result<Validity> {
    let time = |at| GeneralizedTime::from_unix_duration(at).map(Time::GeneralTime);
    Ok(Validity {
        not_before: time(since_epoch.saturating_sub(DAY))?,
        not_after: time(since_epoch.saturating_add(DAY * 365))?,
    })
}

fn digest(hash: HashFunction, certificate: &[u8]) -> Vec<u8> {
    match hash {
        HashFunction::Sha256 => Sha256::digest(certificate).to_vec(),
        HashFunction::Sha384 => Sha384::digest(certificate).to_vec(),
        HashFunction::Sha512 => Sha512::digest(certificate).to_vec(),
    }
}

/// Which side begins the handshake (RFC 8842 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `setup:active`: we are the client.
    Client,
    /// `setup:passive`: we are the server.
    Server,
}

/// What happened to the association.
#[derive(Debug)]
pub enum Event {
    /// The handshake is done and the peer's fingerprint matched.
    Connected(KeyMaterial),
    /// The handshake failed; nothing follows.
    Failed(String),
    /// The peer said close_notify; nothing follows.
    Closed,
}

/// One DTLS association.
pub struct Dtls {
    /// None once it has failed or closed.
    engine: Option<dimpl::Dtls>,
    role: Role,
    peer: Vec<Fingerprint>,
    /// The peer's certificate is the one its SDP announced.
    verified: bool,
    /// The handshake is complete, and whether keys came with it.
    connected: bool,
    keyed: bool,
    /// The engine's timers have run out after that and mean nothing more.
    settled: bool,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    timeout: Option<Instant>,
    /// The end of our patience; the engine has none while it waits for a first answer. None once connected.
    deadline: Option<Instant>,
}

impl fmt::Debug for Dtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dtls")
            .field("role", &self.role)
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl Dtls {
    /// A new association. `peer` are the fingerprints of the peer's SDP; one of them must match its certificate.
    ///
    /// # Errors
    /// If there is no fingerprint to check against.
    pub fn new(
        certificate: &Certificate,
        role: Role,
        peer: &[Fingerprint],
        now: Instant,
    ) -> Result<Self, DtlsError> {
        if peer.is_empty() {
            return Err(DtlsError("no fingerprint to check the peer against".to_owned()));
        }
        let mut engine =
            dimpl::Dtls::new_auto(Arc::clone(&certificate.config), certificate.pair.clone(), now);
        engine.set_active(role == Role::Client);
        let mut dtls = Self {
            engine: Some(engine),
            role,
            peer: peer.to_vec(),
            verified: false,
            connected: false,
            keyed: false,
            settled: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            timeout: None,
            deadline: Some(now + HANDSHAKE_TIMEOUT),
        };
        dtls.handle_timeout(now);
        Ok(dtls)
    }

    /// Our role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A datagram of the peer.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        // The engine takes its time from the last timeout.
        self.handle_timeout(now);
        if datagram.len() > MAX_DATAGRAM || self.is_premature(datagram) {
            return;
        }
        let Some(engine) = &mut self.engine else { return };
        // A new flight's timer is armed only when time passes, be it by nothing.
        let result = engine.handle_packet(datagram).and_then(|()| engine.handle_timeout(now));
        self.go_on(result);
    }

    /// What the engine made of a datagram or of the time. A client of DTLS 1.3 leaves the timer of its handshake
    /// running when that is done; once there are keys, nothing that it waits for matters any more.
    fn go_on(&mut self, result: Result<(), dimpl::Error>) {
        match result {
            Ok(()) => self.drain(),
            Err(dimpl::Error::Timeout(_)) if self.keyed => {
                self.settled = true;
                self.drain();
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    /// Before a client knows the version, anything but a server's hello would end the handshake; datagrams do come in
    /// another order, and the peer resends.
    fn is_premature(&self, datagram: &[u8]) -> bool {
        let undecided = self.engine.as_ref().is_some_and(|engine| engine.protocol_version().is_none());
        let is_hello = datagram.first() == Some(&22) && matches!(datagram.get(13), Some(2 | 3));
        self.role == Role::Client && undecided && !is_hello
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.fail("the handshake timed out".to_owned());
        }
        let Some(engine) = &mut self.engine else { return };
        let result = engine.handle_timeout(now);
        self.go_on(result);
    }

    /// Says close_notify; drain [`Dtls::poll_transmit`] afterwards. No event follows.
    pub fn close(&mut self, now: Instant) {
        self.handle_timeout(now);
        // Without a handshake there is nobody to tell.
        if self.engine.as_mut().is_some_and(|engine| engine.close().is_ok()) {
            self.drain();
        }
        self.engine = None;
        (self.timeout, self.deadline) = (None, None);
        self.events.clear();
    }

    fn drain(&mut self) {
        let mut buffer = vec![0; 2_048];
        while let Some(engine) = &mut self.engine {
            match engine.poll_output(&mut buffer) {
                Output::Timeout(at) => {
                    self.timeout = (!self.settled).then_some(at);
                    break;
                }
                Output::Packet(datagram) => self.transmits.push_back(datagram.to_vec()),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::PeerCert(der) => {
                    let matches = is_announced(&self.peer, der);
                    self.on_certificate(matches);
                }
                Output::Connected => self.connected = true,
                Output::KeyingMaterial(keys, profile) => self.on_keys(&keys, profile),
                Output::CloseNotify => self.finish(Event::Closed),
                // Data channels are refused in SDP; whoever sends on one anyway talks to nobody.
                _ => {}
            }
        }
        if self.connected && !self.keyed && self.engine.is_some() {
            self.fail("the peer did not agree to SRTP".to_owned());
        }
    }

    fn on_certificate(&mut self, matches: bool) {
        self.verified = matches;
        if !matches {
            self.fail("the peer's certificate does not match its fingerprint".to_owned());
        }
    }

    fn on_keys(&mut self, keys: &[u8], profile: SrtpProfile) {
        if !self.verified {
            self.fail("the peer showed no certificate".to_owned());
            return;
        }
        let material = profile_of(profile).and_then(|profile| KeyMaterial::new(profile, keys.to_vec()).ok());
        match material {
            Some(material) => {
                self.keyed = true;
                self.deadline = None;
                self.events.push_back(Event::Connected(material));
            }
            None => self.fail(format!("unusable SRTP profile {profile}")),
        }
    }

    fn fail(&mut self, reason: String) {
        self.finish(Event::Failed(reason));
    }

    fn finish(&mut self, event: Event) {
        self.engine = None;
        (self.timeout, self.deadline) = (None, None);
        self.events.push_back(event);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// When to call [`Dtls::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout.into_iter().chain(self.deadline).min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// RFC 8122 section 5: of several fingerprints with one hash function any may match.
fn is_announced(announced: &[Fingerprint], der: &[u8]) -> bool {
    announced.iter().any(|fingerprint| digest(fingerprint.hash, der).ct_eq(&fingerprint.digest).into())
}

fn profile_of(profile: SrtpProfile) -> Option<Profile> {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmSha1_80),
        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        _ => None,
    }
}

/// Whether a datagram on a shared port is DTLS (RFC 7983 section 7: first byte 20..=63).
#[must_use]
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}
