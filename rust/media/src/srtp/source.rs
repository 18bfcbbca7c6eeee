//! Per-source state: rollover counter and replay windows (RFC 3711 section 3.2.3).

use super::{MAX_SOURCES, SrtpError};

/// The highest index so far and which of the 64 before it were seen (RFC 3711 section 3.3.2).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// None before the first packet.
    top: Option<u64>,
    /// Bit n: `top - n` was seen.
    seen: u64,
}

impl Window {
    /// The packet index of a sequence number: the one nearest to the highest so far (RFC 3711 section 3.3.1).
    pub(super) fn estimate(&self, sequence: u16) -> Result<u64, SrtpError> {
        let Some(top) = self.top else { return Ok(u64::from(sequence)) };
        let ahead = sequence.wrapping_sub((top & 0xffff) as u16).cast_signed();
        // Below zero means a packet from before the first one that we know of.
        let index = top.checked_add_signed(i64::from(ahead)).ok_or(SrtpError::Replayed)?;
        if index >> 48 == 0 { Ok(index) } else { Err(SrtpError::KeyExhausted) }
    }

    /// The index of the next packet to send where we count ourselves (SRTCP).
    pub(super) fn next(&self) -> u64 {
        self.top.map_or(0, |top| top + 1)
    }

    /// Fails if the packet was seen before or is too old to tell.
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        let Some(behind) = self.top.and_then(|top| top.checked_sub(index)) else { return Ok(()) };
        if behind < 64 && self.seen >> behind & 1 == 0 { Ok(()) } else { Err(SrtpError::Replayed) }
    }

    /// Remembers a packet; for received ones only after authentication.
    pub(super) fn mark(&mut self, index: u64) {
        match self.top.map(|top| (index.checked_sub(top), top.saturating_sub(index))) {
            Some((None, behind)) => self.seen |= 1_u64.unbounded_shl(narrow(behind)),
            Some((Some(ahead), _)) => self.advance(index, narrow(ahead)),
            None => self.advance(index, 64),
        }
    }

    fn advance(&mut self, index: u64, by: u32) {
        self.seen = self.seen.unbounded_shl(by) | 1;
        self.top = Some(index);
    }
}

/// A shift distance; whatever is longer than the window shifts everything out.
fn narrow(distance: u64) -> u32 {
    u32::try_from(distance).unwrap_or(u32::MAX)
}

/// One SSRC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    ssrc: u32,
    pub(super) rtp: Window,
    pub(super) rtcp: Window,
}

/// The sources of a context. A call has one or two, so a list beats a map.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// The source's state, or a fresh one that [`Sources::store`] may still add.
    pub(super) fn find(&self, ssrc: u32) -> Result<Source, SrtpError> {
        match self.0.iter().find(|source| source.ssrc == ssrc) {
            Some(source) => Ok(*source),
            None if self.0.len() >= MAX_SOURCES => Err(SrtpError::TooManySources),
            None => Ok(Source { ssrc, rtp: Window::default(), rtcp: Window::default() }),
        }
    }

    pub(super) fn store(&mut self, source: Source) {
        match self.0.iter_mut().find(|known| known.ssrc == source.ssrc) {
            Some(known) => *known = source,
            None => self.0.push(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(indices: &[u64]) -> Window {
        let mut window = Window::default();
        for &index in indices {
            window.check(index).unwrap();
            window.mark(index);
        }
        window
    }

    #[test]
    fn rollover_is_estimated_both_ways() {
        let window = seen(&[65_534]);
        assert_eq!(window.estimate(65_535), Ok(65_535));
        assert_eq!(window.estimate(1), Ok(65_537));
        let window = seen(&[65_534, 65_537]);
        assert_eq!(window.estimate(65_535), Ok(65_535), "late packet of the time before the rollover");
        assert_eq!(seen(&[1]).estimate(65_535), Err(SrtpError::Replayed), "before the beginning");
    }

    #[test]
    fn an_index_beyond_48_bits_needs_a_new_key() {
        assert_eq!(seen(&[(1 << 48) - 1]).estimate(0), Err(SrtpError::KeyExhausted));
    }

    #[test]
    fn the_window_is_64_packets_wide() {
        let window = seen(&[100, 163]);
        assert_eq!(window.check(100), Err(SrtpError::Replayed), "seen");
        assert_eq!(window.check(101), Ok(()));
        assert_eq!(window.check(99), Err(SrtpError::Replayed), "too old");
        let window = seen(&[100, 1_000, 999]);
        assert_eq!(window.check(999), Err(SrtpError::Replayed));
        assert_eq!(window.check(998), Ok(()));
    }
}
