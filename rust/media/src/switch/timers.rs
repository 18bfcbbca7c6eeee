//! When which leg wants to be woken: a heap with entries that may be outdated, so that moving a timer costs little.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The heap; a leg is named by its slot.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, usize)>>);

impl Timers {
    pub(crate) fn add(&mut self, at: Instant, slot: usize) {
        self.0.push(Reverse((at, slot)));
    }

    /// The earliest entry.
    pub(crate) fn first(&self) -> Option<(Instant, usize)> {
        self.0.peek().map(|&Reverse(entry)| entry)
    }

    /// Takes the earliest entry away.
    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }
}
