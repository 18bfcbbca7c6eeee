//! The torture messages of RFC 4475 and RFC 5118, where they are at hand. The engine's tests read them by this file too.

use std::path::PathBuf;

/// The corpora, or `None` with a printed note. In CI they must be there.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn corpora() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("SIP_CORPUS_DIR").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no corpora at {}: set SIP_CORPUS_DIR", folder.display());
    println!("skipped: no corpora at {}; set SIP_CORPUS_DIR", folder.display());
    None
}

/// The message as it goes over the wire. The RFC prints its messages with bare LF, and its Content-Lengths fit neither
/// that nor CRLF (ipv6-in-sdp says 268 of about 250), so line ends are CRLF and the length is counted anew.
pub(crate) fn on_the_wire(printed: &str, line_end: &str) -> String {
    let (head, body) = printed.split_once("\n\n").unwrap_or((printed, ""));
    let body = body.replace('\n', line_end);
    let lines = head.lines().map(|line| match line.split_once(": ") {
        Some(("Content-Length", _)) => format!("Content-Length: {}", body.len()),
        _ => line.to_owned(),
    });
    let lines: Vec<_> = lines.chain([String::new(), body.clone()]).collect();
    lines.join(line_end)
}
