//! Certificates, keys and authorities in files, and noticing when they change.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

/// What tells one version of a file from another.
type Stamp = Option<(SystemTime, u64)>;

type Load<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// Something made from files, made anew when they change.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    current: RwLock<Arc<T>>,
    stamps: Mutex<Vec<Stamp>>,
}

impl<T> Reloading<T> {
    /// Loads for the first time.
    pub(super) fn new(files: Vec<PathBuf>, load: Load<T>) -> Result<Self, String> {
        let stamps = Mutex::new(files.iter().map(|file| stamp(file)).collect());
        let current = RwLock::new(Arc::new(load()?));
        Ok(Self { files, load, current, stamps })
    }

    /// What the files held last.
    pub(super) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads again if a file has changed. A failure is told once for each change: a key may follow its certificate.
    pub(super) fn refresh(&self) -> Result<(), String> {
        let found: Vec<Stamp> = self.files.iter().map(|file| stamp(file)).collect();
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *stamps == found {
            return Ok(());
        }
        *stamps = found;
        let fresh = Arc::new((self.load)()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn stamp(file: &Path) -> Stamp {
    let meta = fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// The certificates of a PEM file.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let all = CertificateDer::pem_file_iter(file).map_err(|error| fault(&error))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|error| fault(&error))?;
    if all.is_empty() { Err(fault(&"holds no certificate")) } else { Ok(all) }
}

/// The private key of a PEM file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// The authorities of a PEM file, or the system's.
pub(super) fn roots(file: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    let all = match file {
        Some(file) => certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (_, useless) = store.add_parsable_certificates(all);
    match (file, store.is_empty()) {
        (Some(file), _) if useless > 0 || store.is_empty() => {
            Err(format!("{}: holds what is no authority's certificate", file.display()))
        }
        // Without any authority no server can prove anything; the handshake says so.
        _ => Ok(Arc::new(store)),
    }
}
