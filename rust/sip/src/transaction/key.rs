//! What transactions and dialogs are found by.
//!
//! Keys are 128-bit SipHash fingerprints under a secret key: nothing is copied to store or look up, and nobody
//! without the key can make two requests collide or a table degenerate.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::header::Via;
use crate::ident::letters;
use crate::{Host, Message, Method, Name};

/// The identity of a transaction or dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u64, u64);

/// A table keyed by fingerprints, which are hashes already.
///
/// It has room for twice what is in it, so that its size follows the most that was ever there at once. A table of
/// which more than half is in use doubles when the traces of entries that came and went have used the rest up, and that
/// is long after the load began.
#[derive(Debug)]
pub(crate) struct Index<V> {
    table: HashMap<Fingerprint, V, BuildHasherDefault<Finished>>,
    /// Half of what it has room for.
    room: usize,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        Self { table: HashMap::default(), room: 0 }
    }
}

impl<V> Index<V> {
    pub(crate) fn get(&self, print: &Fingerprint) -> Option<&V> {
        self.table.get(print)
    }

    pub(crate) fn contains_key(&self, print: &Fingerprint) -> bool {
        self.table.contains_key(print)
    }

    pub(crate) fn insert(&mut self, print: Fingerprint, value: V) {
        if self.table.len() >= self.room {
            self.room = self.room.saturating_mul(2).max(8);
            self.table.reserve(self.room.saturating_mul(2).saturating_sub(self.table.len()));
        }
        self.table.insert(print, value);
    }

    pub(crate) fn remove(&mut self, print: &Fingerprint) -> Option<V> {
        self.table.remove(print)
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many there is room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.table.capacity()
    }
}

/// Takes half of a fingerprint for the hash it already is.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Finished(u64);

impl Hasher for Finished {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 ^= value;
    }
}

/// Makes fingerprints.
#[derive(Debug, Clone)]
pub(crate) struct Fingerprints {
    key: [u8; 16],
}

/// What kind of thing a fingerprint stands for; kinds never meet.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Client,
    Server,
    Server2543,
    Merged,
    Dialog,
    Tag,
    User,
}

/// The parts of a fingerprint one after the other; most fit the buffer and are hashed in one go.
struct Print {
    hasher: SipHasher13,
    buffer: [u8; 192],
    filled: usize,
}

/// Ends a part of text: no header value holds a line end, so that neighbours stay apart.
const END: u8 = b'\n';

impl Print {
    /// Adds one part of text.
    #[inline]
    fn part(&mut self, text: &str) -> &mut Self {
        let end = self.filled.saturating_add(text.len());
        match self.buffer.get_mut(self.filled..=end).and_then(<[u8]>::split_last_mut) {
            Some((last, place)) => {
                place.copy_from_slice(text.as_bytes());
                *last = END;
                self.filled = end.saturating_add(1);
            }
            None => self.overflow(text),
        }
        self
    }

    /// A part too long for the buffer.
    #[cold]
    fn overflow(&mut self, text: &str) {
        self.flush();
        self.hasher.write(text.as_bytes());
        self.hasher.write_u8(END);
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.fixed(&number.to_le_bytes())
    }

    /// A host compares without regard to case (RFC 3261 19.1.4). Its kind comes first, which tells its length.
    fn host(&mut self, host: Host<'_>) -> &mut Self {
        match host {
            Host::Name(name) => self.fixed(b"n").part(&name.to_ascii_lowercase()),
            Host::V4(address) => self.fixed(b"4").fixed(&address.octets()),
            Host::V6(address) => self.fixed(b"6").fixed(&address.octets()),
        }
    }

    /// Adds a few bytes whose number is known.
    fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.filled.saturating_add(bytes.len());
        match self.buffer.get_mut(self.filled..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.filled = end;
            }
            None => {
                self.flush();
                self.hasher.write(bytes);
            }
        }
        self
    }

    fn flush(&mut self) {
        self.hasher.write(self.buffer.get(..self.filled).unwrap_or_default());
        self.filled = 0;
    }

    fn finish(&mut self) -> Fingerprint {
        self.flush();
        let hash = self.hasher.finish128();
        Fingerprint(hash.h1, hash.h2)
    }
}

impl Fingerprints {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    fn start(&self, kind: Kind) -> Print {
        let mut buffer = [0; 192];
        buffer[0] = kind as u8;
        Print { hasher: SipHasher13::new_with_key(&self.key), buffer, filled: 1 }
    }

    /// A client transaction: the branch we made and the method of CSeq, since CANCEL shares its INVITE's branch
    /// (RFC 3261 17.1.3).
    pub(crate) fn client(&self, branch: &str, method: &str) -> Fingerprint {
        self.start(Kind::Client).part(branch).part(method).finish()
    }

    /// The server transaction of a request: branch, sent-by and method (17.2.3). ACK and CANCEL look for `method`
    /// INVITE. `None` without a readable top Via.
    pub(crate) fn server(
        &self,
        request: &Message,
        host: Host<'_>,
        port: Option<u16>,
        method: &str,
    ) -> Option<Fingerprint> {
        match request.branch().filter(|branch| Via::is_unique(branch)) {
            Some(branch) => Some(
                self.start(Kind::Server)
                    .part(branch)
                    .host(host)
                    .number(port.map_or(0, u32::from))
                    .part(method)
                    .finish(),
            ),
            None => Some(self.server_2543(request, &request.top_via().ok()?, method)),
        }
    }

    /// The same for peers of RFC 2543: Request-URI, From tag, Call-ID, CSeq number and top Via (17.2.3). The To tag
    /// is left out, so that an ACK finds its INVITE whichever of our responses it answers.
    fn server_2543(&self, request: &Message, via: &Via<'_>, method: &str) -> Fingerprint {
        self.start(Kind::Server2543)
            .part(request.request_uri().unwrap_or_default())
            .part(request.from_tag().unwrap_or_default())
            .part(request.call_id())
            .number(request.cseq_number())
            .host(via.host)
            .part(via.params.as_str())
            .part(method)
            .finish()
    }

    /// What a request has in common with its copies that came by other ways: From tag, Call-ID, CSeq (8.2.2.2).
    pub(crate) fn merged(&self, request: &Message) -> Fingerprint {
        self.start(Kind::Merged)
            .part(request.from_tag().unwrap_or_default())
            .part(request.call_id())
            .part(request.header(Name::Cseq).unwrap_or_default())
            .finish()
    }

    /// A dialog: Call-ID, our tag, the peer's tag (12).
    pub(crate) fn dialog(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> Fingerprint {
        self.start(Kind::Dialog).part(call_id).part(local_tag).part(remote_tag).finish()
    }

    /// The name of a user.
    pub(crate) fn user(&self, name: &str) -> u64 {
        self.start(Kind::User).part(name).finish().0
    }

    /// A To tag for an answer without state: the same for every retransmission of the request (8.2.7).
    pub(crate) fn tag(&self, request: &Message) -> String {
        let Fingerprint(bits, _) = self
            .start(Kind::Tag)
            .part(request.branch().unwrap_or_default())
            .part(request.from_tag().unwrap_or_default())
            .part(request.call_id())
            .finish();
        letters(String::with_capacity(13), bits, 13)
    }
}

/// The method under which a request's own transaction is filed: an ACK belongs to its INVITE.
pub(crate) fn filed_under(request: &Message) -> &str {
    match request.method() {
        Some(Method::Ack) => Method::Invite.as_str(),
        _ => request.method_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_come_and_go_do_not_make_a_table_grow() {
        let mut index = Index::default();
        let print = |number: u64| Fingerprint(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number);
        let living = 1000;
        (0..living).for_each(|number| index.insert(print(number), number));
        let full = index.capacity();
        for number in living..100 * living {
            assert_eq!(index.remove(&print(number - living)), Some(number - living));
            index.insert(print(number), number);
            assert!(index.capacity() <= full, "{} at {number}", index.capacity());
        }
        assert_eq!(index.len(), 1000);
        assert_eq!(index.get(&print(100 * living - 1)), Some(&(100 * living - 1)));
    }
}
