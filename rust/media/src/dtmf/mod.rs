//! Digits as telephone-events (RFC 4733).

mod receive;
mod send;

pub use receive::{Digit, DigitReceiver};
pub use send::{DigitSender, EventPacket};

/// The most digits one command may send.
pub const MAX_DIGITS: usize = 64;

/// The payload of a telephone-event packet (RFC 4733 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// The event: 0 to 15 are the keys.
    pub event: u8,
    /// The key is up again.
    pub end: bool,
    /// The power level in -dBm0, 0 to 63.
    pub volume: u8,
    /// How long the event has lasted, in timestamp units.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Octets of one event.
    pub const LENGTH: usize = 4;

    /// Reads the first event of a payload.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &[event, second, high, low, ..] = payload else { return None };
        let duration = u16::from_be_bytes([high, low]);
        Some(TelephoneEvent { event, end: second & 0x80 != 0, volume: second & 0x3f, duration })
    }

    /// The payload.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, u8::from(self.end) << 7 | (self.volume & 0x3f), high, low]
    }

    /// The same event on another clock; a duration that no longer fits stays at the longest one that does.
    #[must_use]
    pub fn scaled(self, from_clock: u32, to_clock: u32) -> Self {
        let units = u64::from(self.duration) * u64::from(to_clock) / u64::from(from_clock.max(1));
        TelephoneEvent { duration: u16::try_from(units).unwrap_or(u16::MAX), ..self }
    }
}

/// The keys in the order of their event numbers (RFC 4733 3.2).
const KEYS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

/// The key of an event number.
#[must_use]
pub fn key(event: u8) -> Option<char> {
    KEYS.get(usize::from(event)).copied()
}

/// The event number of a key; letters in either case.
#[must_use]
pub fn event(key: char) -> Option<u8> {
    (0u8..).zip(KEYS).find_map(|(number, known)| (known == key.to_ascii_uppercase()).then_some(number))
}
