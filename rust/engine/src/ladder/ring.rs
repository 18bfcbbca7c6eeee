//! Messages one behind the other in one piece of memory, the oldest of which give way.

use std::collections::VecDeque;

/// The number of a message since the start; tells which of two was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

#[derive(Debug)]
struct Entry<T> {
    start: usize,
    length: usize,
    what: T,
}

/// A bounded queue of byte strings with what is known of each. Its memory is asked for once; the system gives it as
/// it is first used.
#[derive(Debug)]
pub(super) struct Ring<T> {
    bytes: Box<[u8]>,
    /// Where the next one goes, if it fits there.
    head: usize,
    entries: VecDeque<Entry<T>>,
    max_entries: usize,
    /// The number of the oldest.
    first: u64,
}

impl<T> Ring<T> {
    /// What an entry takes beside its bytes.
    pub(super) const ENTRY: usize = size_of::<Entry<T>>();

    pub(super) fn new(bytes: usize, max_entries: usize) -> Self {
        let entries = VecDeque::with_capacity(max_entries);
        Self { bytes: vec![0; bytes].into(), head: 0, entries, max_entries, first: 0 }
    }

    /// Whether any was taken out.
    pub(super) fn has_lost(&self) -> bool {
        self.first > 0
    }

    /// Whether one more of this length can be pushed now.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.entries.len() < self.max_entries && self.start_for(length).is_some()
    }

    /// Where one of this length would begin: never around the end, so that each can be read in one piece.
    fn start_for(&self, length: usize) -> Option<usize> {
        let behind = self.bytes.len() - self.head;
        match self.entries.front().map(|oldest| oldest.start) {
            None => (length <= self.bytes.len()).then_some(0),
            // The oldest lies ahead: what is in use goes around the end.
            Some(oldest) if oldest >= self.head => (length <= oldest - self.head).then_some(self.head),
            Some(_) if length <= behind => Some(self.head),
            Some(oldest) => (length <= oldest).then_some(0),
        }
    }

    /// Adds one; `None` where there is no room.
    pub(super) fn push(&mut self, what: T, message: &[u8]) -> Option<Place> {
        let start = self.start_for(message.len())?;
        self.bytes.get_mut(start..start + message.len())?.copy_from_slice(message);
        self.head = start + message.len();
        let place = Place(self.first + self.entries.len() as u64);
        self.entries.push_back(Entry { start, length: message.len(), what });
        Some(place)
    }

    /// Takes the oldest out.
    pub(super) fn pop(&mut self) -> Option<(Place, T, &[u8])> {
        let Entry { start, length, what } = self.entries.pop_front()?;
        let place = Place(self.first);
        self.first += 1;
        Some((place, what, self.bytes.get(start..start + length)?))
    }

    /// One of them, if it is still there.
    pub(super) fn get(&self, place: Place) -> Option<(&T, &[u8])> {
        let index = usize::try_from(place.0.checked_sub(self.first)?).ok()?;
        let Entry { start, length, what } = self.entries.get(index)?;
        Some((what, self.bytes.get(*start..start + length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pushes as the ladder does.
    fn force(ring: &mut Ring<usize>, number: usize, message: &[u8]) -> Option<Place> {
        while !ring.has_room(message.len()) {
            ring.pop()?;
        }
        ring.push(number, message)
    }

    #[test]
    fn the_oldest_give_way() {
        let mut ring = Ring::new(10, 8);
        let places: Vec<_> = ["abcd", "efgh", "ijkl"]
            .into_iter()
            .enumerate()
            .map(|(number, text)| force(&mut ring, number, text.as_bytes()).unwrap())
            .collect();
        assert!(ring.has_lost());
        assert_eq!(ring.get(places[0]), None);
        assert_eq!(ring.get(places[1]), Some((&1, &b"efgh"[..])));
        assert_eq!(ring.get(places[2]), Some((&2, &b"ijkl"[..])));
        assert_eq!(force(&mut ring, 3, &[0; 11]), None);
    }

    #[test]
    fn so_many_and_no_more() {
        let mut ring = Ring::new(1000, 3);
        for number in 0..7 {
            force(&mut ring, number, b"x").unwrap();
        }
        let left: Vec<usize> = std::iter::from_fn(|| ring.pop().map(|(_, number, _)| number)).collect();
        assert_eq!(left, [4, 5, 6]);
    }

    proptest! {
        /// What is still there is whole, in order, and the newest of all.
        #[test]
        fn what_is_there_is_whole(lengths in prop::collection::vec(1..60_usize, 1..200), memory in 60..300_usize) {
            let mut ring = Ring::new(memory, 20);
            let message = |number: usize, length: usize| vec![u8::try_from(number % 251).unwrap(); length];
            let places: Vec<_> = lengths.iter().enumerate()
                .map(|(number, &length)| force(&mut ring, number, &message(number, length)).unwrap())
                .collect();
            let there: Vec<_> = places.iter().map(|&place| ring.get(place)).collect();
            let gone = there.iter().take_while(|one| one.is_none()).count();
            prop_assert!(gone < lengths.len());
            for (number, one) in there.iter().enumerate().skip(gone) {
                let whole = message(number, lengths[number]);
                prop_assert_eq!(*one, Some((&number, whole.as_slice())));
            }
        }
    }
}
