//! Where the header lines of a message are.

use crate::header::Name;

/// A range of bytes in the header section, which never exceeds 65,535. Both ends share a word, so that a span is
/// stored and read back in one piece: a processor waits where it reads more than one store has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span(u32);

impl Span {
    const EMPTY: Self = Self(0);

    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self(u32::from(short(start)) | u32::from(short(end)) << 16)
    }

    /// Where `part` lies in `whole`; empty when it does not.
    pub(crate) fn of(part: &str, whole: &str) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        if start > whole.len() { Self::default() } else { Self::new(start, start + part.len()) }
    }

    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start()..self.end()
    }

    #[inline]
    pub(crate) fn start(self) -> usize {
        usize::from(short(self.0 as usize))
    }

    #[inline]
    pub(crate) fn end(self) -> usize {
        (self.0 >> 16) as usize
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.start() >= self.end()
    }
}

/// The low half: the scan never looks further than 65,535 bytes.
#[inline]
fn short(offset: usize) -> u16 {
    let [low, high, ..] = offset.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// One header line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: Name,
    pub(crate) name_text: Span,
    pub(crate) value: Span,
}

/// How many lines are kept in place: enough for what carriers send.
const INLINE: usize = 28;

const BLANK: Slot = Slot { name: Name::Other, name_text: Span::EMPTY, value: Span::EMPTY };

/// The header lines in order. They are kept in place until there are too many of them, then all move to the heap.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    inline: [Slot; INLINE],
    count: usize,
    moved: Vec<Slot>,
}

impl Slots {
    pub(crate) const fn new() -> Self {
        Self { inline: [BLANK; INLINE], count: 0, moved: Vec::new() }
    }

    #[inline]
    pub(crate) fn push(&mut self, slot: Slot) {
        match self.inline.get_mut(self.count) {
            Some(place) => {
                place.name = slot.name;
                place.name_text = slot.name_text;
                place.value = slot.value;
            }
            None => self.push_moved(slot),
        }
        self.count = self.count.wrapping_add(1);
    }

    #[cold]
    fn push_moved(&mut self, slot: Slot) {
        if self.moved.is_empty() {
            self.moved.extend_from_slice(&self.inline);
        }
        self.moved.push(slot);
    }

    /// Forgets all lines.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.moved.clear();
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[Slot] {
        self.inline.get(..self.count).unwrap_or(&self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order_when_they_move() {
        let mut slots = Slots::new();
        for line in 0..3 * INLINE {
            slots.push(Slot { value: Span::new(line, line), ..BLANK });
            assert_eq!(slots.len(), line + 1);
            let starts = slots.as_slice().iter().map(|slot| slot.value.range().start);
            assert!(starts.eq(0..=line));
        }
    }
}
