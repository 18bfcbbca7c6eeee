//! A stream cut into portions: the same frames come out, wherever it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telephony_sip::{Frame, Framer, Limits};

/// The frames of a stream that arrives in these portions, and whether it broke.
fn frames<'a>(portions: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let limits = Limits { max_message: 8192, max_head: 4096, ..Limits::default() };
    let (mut framer, mut frames) = (Framer::new(limits), Vec::new());
    for portion in portions {
        framer.push(portion);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((step, stream)) = data.split_first() else { return };
    let whole = frames(std::iter::once(stream));
    let cut = frames(stream.chunks(usize::from(*step % 64) + 1));
    assert_eq!(whole, cut);
});
