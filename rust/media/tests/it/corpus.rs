//! Files that the tests read but the repository does not hold.

use std::path::PathBuf;

/// The text of a corpus file. A missing corpus is a skip on a desk and a failure in continuous integration.
pub(crate) fn text(name: &str) -> Option<String> {
    let root = std::env::var_os("SIP_CORPUS_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        PathBuf::from,
    );
    let path = root.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "corpus {} is missing: {error}", path.display());
            eprintln!("skipped: corpus {} is missing: {error}", path.display());
            None
        }
    }
}

/// The bytes of hexadecimal digits; everything else between them is ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}
