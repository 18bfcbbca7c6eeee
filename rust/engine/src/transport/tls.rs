//! TLS of streams: whom we prove to be, whom peers have to prove to be (RFC 5922), and certificate files that change.
//!
//! New connections use what the files held last; [`Store::refresh`] looks whether they changed, from a thread that
//! carries no messages.

mod files;
mod verify;

use crate::EngineError;
use crate::stats::Counter;
use files::{Reloading, certificates, key, roots};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, ServerConfig, ServerConnection};
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use telephony_sip::Identity;
use verify::DomainVerifier;

/// Names that peers were asked to prove; beyond, the oldest is forgotten, for any peer can name ever new ones.
const MAX_IDENTITIES: usize = 16_384;

/// The files of our own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Authorities that clients' certificates must come from; `None` asks for no certificate.
    pub client_authority: Option<PathBuf>,
}

/// How we prove ourselves to servers, and they to us.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClientFiles {
    /// Authorities; the system's if absent.
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// Whether anything is asked of servers at all.
    verify: bool,
}

impl Default for ClientFiles {
    fn default() -> Self {
        Self { ca_file: None, cert_file: None, key_file: None, verify: true }
    }
}

/// All that TLS needs: our certificate, and a client configuration for each set of files that trunks name.
pub(crate) struct Store {
    server: Option<Reloading<ServerConfig>>,
    /// What a client has whose trunk names no files.
    plain: OnceLock<Arc<Reloading<ClientConfig>>>,
    /// Our own certificate, which clients show where no other is named.
    own: Option<ServerFiles>,
    clients: Mutex<HashMap<ClientFiles, Arc<Reloading<ClientConfig>>>>,
    identities: Mutex<Identities>,
    /// Files that could not be used once they had changed.
    pub(crate) stale: Counter,
}

/// A name, and with which files it is to be proved.
type Wanted = (ClientFiles, ServerName<'static>);

#[derive(Default)]
struct Identities {
    all: HashMap<Identity, (ServerName<'static>, Arc<Reloading<ClientConfig>>)>,
    by_name: HashMap<Wanted, Identity>,
    /// The oldest first.
    order: VecDeque<Wanted>,
    last: u32,
}

impl Identities {
    /// Numbers a new name; a number is never used again.
    fn add(&mut self, wanted: Wanted, client: Arc<Reloading<ClientConfig>>) -> Result<Identity, String> {
        if self.order.len() >= MAX_IDENTITIES
            && let Some(oldest) = self.order.pop_front().and_then(|oldest| self.by_name.remove(&oldest))
        {
            self.all.remove(&oldest);
        }
        self.last = self.last.checked_add(1).ok_or("too many names")?;
        let identity = Identity(self.last);
        self.all.insert(identity, (wanted.1.clone(), client));
        self.by_name.insert(wanted.clone(), identity);
        self.order.push_back(wanted);
        Ok(identity)
    }
}

impl Store {
    /// Reads our certificate, if there is one.
    pub(crate) fn new(server: Option<&ServerFiles>) -> Result<Self, EngineError> {
        let own = server.cloned();
        let server = match server.cloned() {
            Some(files) => {
                let paths = [
                    Some(files.certificate.clone()),
                    Some(files.key.clone()),
                    files.client_authority.clone(),
                ];
                let load = move || server_config(&files);
                Some(Reloading::new(paths.into_iter().flatten().collect(), Box::new(load)).map_err(setting)?)
            }
            None => None,
        };
        Ok(Self {
            server,
            plain: OnceLock::new(),
            own,
            clients: Mutex::default(),
            identities: Mutex::default(),
            stale: Counter::default(),
        })
    }

    /// A server's side of a new connection; `None` without a certificate.
    pub(super) fn accept(&self) -> Option<Box<Session>> {
        let connection = ServerConnection::new(self.server.as_ref()?.current()).ok()?;
        Some(Session::new(connection.into()))
    }

    /// A client's side. Whoever has no name has to prove the address.
    pub(super) fn connect(&self, identity: Option<Identity>, address: IpAddr) -> io::Result<Box<Session>> {
        let (name, client) = match identity {
            Some(identity) => {
                let known = lock(&self.identities).all.get(&identity).cloned();
                known.ok_or_else(|| io::Error::other("nobody knows any more who the peer has to be"))?
            }
            None => {
                (ServerName::from(address), self.client(&ClientFiles::default()).map_err(io::Error::other)?)
            }
        };
        let connection = ClientConnection::new(client.current(), name).map_err(io::Error::other)?;
        Ok(Session::new(connection.into()))
    }

    /// Reads the files that a trunk names, so that what is wrong shows when they are named.
    pub(crate) fn client(&self, files: &ClientFiles) -> Result<Arc<Reloading<ClientConfig>>, String> {
        if *files == ClientFiles::default()
            && let Some(plain) = self.plain.get()
        {
            return Ok(Arc::clone(plain));
        }
        if let Some(client) = lock(&self.clients).get(files) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.load_client(files)?);
        if *files == ClientFiles::default() {
            return Ok(Arc::clone(self.plain.get_or_init(|| client)));
        }
        lock(&self.clients).insert(files.clone(), Arc::clone(&client));
        Ok(client)
    }

    fn load_client(&self, files: &ClientFiles) -> Result<Reloading<ClientConfig>, String> {
        let mut files = files.clone();
        if let (None, None, Some(own)) = (&files.cert_file, &files.key_file, &self.own) {
            (files.cert_file, files.key_file) = (Some(own.certificate.clone()), Some(own.key.clone()));
        }
        let paths = [files.ca_file.clone(), files.cert_file.clone(), files.key_file.clone()];
        Reloading::new(paths.into_iter().flatten().collect(), Box::new(move || client_config(&files)))
    }

    /// The number of a name to be proved to a client with these files.
    pub(crate) fn identity(&self, files: &ClientFiles, host: &str) -> Result<Identity, String> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host} is no name for TLS"))?;
        let place = (files.clone(), name);
        if let Some(known) = lock(&self.identities).by_name.get(&place) {
            return Ok(*known);
        }
        let client = self.client(files)?;
        lock(&self.identities).add(place, client)
    }

    /// Looks whether files have changed. One that is no good any more leaves what was there before in force.
    pub(crate) fn refresh(&self) {
        let clients: Vec<_> =
            lock(&self.clients).values().cloned().chain(self.plain.get().cloned()).collect();
        let server = self.server.as_ref().map(Reloading::refresh).into_iter();
        let failed =
            server.chain(clients.iter().map(|client| client.refresh())).filter(Result::is_err).count();
        self.stale.add(failed as u64);
    }
}

fn setting(why: String) -> EngineError {
    EngineError::setting("SIP_TLS_CERTIFICATE", why)
}

fn server_config(files: &ServerFiles) -> Result<ServerConfig, String> {
    let builder = with_versions(ServerConfig::builder_with_provider(provider()))?;
    let builder = match &files.client_authority {
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(Some(authority))?, provider());
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
        None => builder.with_no_client_auth(),
    };
    let fault = |error| format!("{} and {}: {error}", files.certificate.display(), files.key.display());
    builder.with_single_cert(certificates(&files.certificate)?, key(&files.key)?).map_err(fault)
}

fn client_config(files: &ClientFiles) -> Result<ClientConfig, String> {
    let verifier = match files.verify {
        true => DomainVerifier::new(Some(roots(files.ca_file.as_deref())?), provider()),
        false => DomainVerifier::new(None, provider()),
    };
    let builder = with_versions(ClientConfig::builder_with_provider(provider()))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    match (&files.cert_file, &files.key_file) {
        (Some(file), Some(key_file)) => {
            let fault = |error| format!("{} and {}: {error}", file.display(), key_file.display());
            builder.with_client_auth_cert(certificates(file)?, key(key_file)?).map_err(fault)
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("tls: cert_file and key_file go together".into()),
    }
}

fn with_versions<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> Result<ConfigBuilder<S, rustls::WantsVerifier>, String> {
    builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's TLS.
pub(super) struct Session(rustls::Connection);

impl Session {
    fn new(mut connection: rustls::Connection) -> Box<Self> {
        // What waits is bounded by the stream, one message at a time.
        connection.set_buffer_limit(None);
        Box::new(Self(connection))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    /// What came, decrypted; zero at the end. `WouldBlock` until there is anything, `InvalidData` if it is not TLS or
    /// the peer is not who it should be.
    pub(super) fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        if self.0.read_tls(socket)? == 0 {
            return Ok(0);
        }
        self.0.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.0.reader().read(buffer)
    }

    /// Adds a message to what [`Self::flush`] sends.
    pub(super) fn encrypt(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.writer().write_all(message)
    }

    /// Says that nothing more follows, as far as the socket takes it.
    pub(super) fn close(&mut self, socket: &mut TcpStream) {
        self.0.send_close_notify();
        let _ = self.flush(socket);
    }

    /// Sends what waits; `WouldBlock` if the socket takes no more.
    pub(super) fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(&mut Plain(socket))?;
        }
        Ok(())
    }
}

/// A socket without `writev`, which would raise SIGPIPE where `send` does not.
struct Plain<'a>(&'a mut TcpStream);

impl Write for Plain<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_fill_no_memory_and_stop_nobody() {
        let store = Store::new(None).unwrap();
        let files = ClientFiles { verify: false, ..ClientFiles::default() };
        let first = store.identity(&files, "carrier.example").unwrap();
        assert_eq!(store.identity(&files, "carrier.example"), Ok(first));
        for number in 0..=MAX_IDENTITIES {
            store.identity(&files, &format!("x{number}.example")).unwrap();
        }
        let identities = lock(&store.identities);
        assert_eq!(
            [identities.all.len(), identities.by_name.len(), identities.order.len()],
            [MAX_IDENTITIES; 3]
        );
        drop(identities);
        let address = "192.0.2.1".parse().unwrap();
        assert!(store.connect(Some(first), address).is_err(), "whoever it is proves nothing");
        let again = store.identity(&files, "carrier.example").unwrap();
        assert!(again != first && store.connect(Some(again), address).is_ok());
    }
}
