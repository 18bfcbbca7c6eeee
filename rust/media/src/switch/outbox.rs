//! The datagrams that wait to be sent: one buffer for all of them, so that a packet costs no allocation.

use super::{Path, Transmit};
use std::net::SocketAddr;

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    path: Path,
    to: SocketAddr,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Appends what `build` writes behind the given offset as one datagram, unless it says no.
    pub(crate) fn write(
        &mut self,
        path: Path,
        to: SocketAddr,
        build: impl FnOnce(&mut Vec<u8>, usize) -> Option<()>,
    ) -> bool {
        let start = self.bytes.len();
        let built = build(&mut self.bytes, start).is_some();
        if built {
            self.entries.push(Entry { path, to, start, end: self.bytes.len() });
        } else {
            self.bytes.truncate(start);
        }
        built
    }

    /// Appends a datagram that exists already.
    pub(crate) fn push(&mut self, path: Path, to: SocketAddr, payload: &[u8]) {
        self.write(path, to, |bytes, _| {
            bytes.extend_from_slice(payload);
            Some(())
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Transmit<'_>> {
        self.entries.iter().map(|entry| Transmit {
            path: entry.path,
            to: entry.to,
            payload: self.bytes.get(entry.start..entry.end).unwrap_or_default(),
        })
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
    }
}
