//! Our own media ports, as all switches of a process know them, and where a packet goes that enters by one.
//!
//! Peers may name them, and so join our legs to each other. A port is one leg's at a time in the whole process, so what
//! is known of it is one word: no switch asks another, nor waits for it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::{PoisonError, RwLock};

/// Nobody's port.
const CLOSED: u16 = 0;
/// A leg's port; what enters there leaves to no port of ours.
const OUT: u16 = 1;
/// Longer chains of our own legs are taken for rings.
const LONGEST: usize = 16;

/// The ports and addresses of one process.
pub struct OwnPorts {
    /// By port: the one of ours that a packet which enters there leaves to.
    leads: Box<[AtomicU16]>,
    addresses: RwLock<Vec<IpAddr>>,
}

impl Default for OwnPorts {
    fn default() -> Self {
        let leads = (0..=u16::MAX).map(|_| AtomicU16::new(CLOSED)).collect();
        OwnPorts { leads, addresses: RwLock::default() }
    }
}

impl fmt::Debug for OwnPorts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OwnPorts").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl OwnPorts {
    /// Our legs are reached at this address, whether peers are told of it or not.
    pub fn add_address(&self, address: IpAddr) {
        let address = address.to_canonical();
        if !self.has(address) {
            self.addresses.write().unwrap_or_else(PoisonError::into_inner).push(address);
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    pub(crate) fn open(&self, port: u16) {
        self.set(port, OUT);
    }

    pub(crate) fn close(&self, port: u16) {
        self.set(port, CLOSED);
    }

    /// What enters by `port` leaves to `to`, if that is a port of ours.
    pub(crate) fn lead(&self, port: u16, to: Option<u16>) {
        self.set(port, to.unwrap_or(OUT));
    }

    /// The port of ours that an address is, whether a leg has it now or may have it later.
    pub(crate) fn port_at(&self, address: SocketAddr) -> Option<u16> {
        self.has(address.ip().to_canonical()).then_some(address.port())
    }

    /// Whether a leg of ours has this port.
    pub(crate) fn is_open(&self, port: u16) -> bool {
        self.get(port) != CLOSED
    }

    /// Whether what enters by `port` would enter there again.
    pub(crate) fn comes_back(&self, port: u16) -> bool {
        let mut enters = port;
        for _ in 0..LONGEST {
            enters = self.get(enters);
            if matches!(enters, CLOSED | OUT) {
                return false;
            }
            if enters == port {
                return true;
            }
        }
        true
    }

    fn get(&self, port: u16) -> u16 {
        self.leads.get(usize::from(port)).map_or(CLOSED, |lead| lead.load(SeqCst))
    }

    fn set(&self, port: u16, value: u16) {
        // Who closes a ring stores before he follows it: of two who close it at once, one at the least sees it.
        if let Some(lead) = self.leads.get(usize::from(port)) {
            lead.store(value, SeqCst);
        }
    }
}
