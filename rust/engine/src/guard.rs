//! A fault of ours costs one message or one call, not the process.

use crate::stats::Losses;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work`; a panic is counted and becomes `None`. The panic hook has logged it by then.
///
/// What `work` touched may be half changed, so the caller ends the leg that the work was about.
pub(crate) fn guard<T>(losses: &Losses, work: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    if result.is_err() {
        losses.panics.add(1);
    }
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_and_contained() {
        let losses = Losses::default();
        assert_eq!(guard(&losses, || 5), Some(5));
        assert_eq!(guard(&losses, || panic!("a fault of ours")), None::<()>);
        assert_eq!(losses.panics.read(), 1);
    }
}
