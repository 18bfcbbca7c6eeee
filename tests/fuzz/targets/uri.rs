//! Any text as a URI: no panic, and what is sound is equal to itself when printed and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telephony_sip::{Host, Uri};

fuzz_target!(|data: &str| {
    let _ = Host::parse(data).map(|host| host.to_string());
    let Ok(uri) = Uri::parse(data) else { return };
    let printed = uri.to_string();
    let again = Uri::parse(&printed).expect("sound before");
    assert_eq!(again, uri, "{printed}");
    let _ = (uri.user_unescaped(), uri.password(), uri.host(), uri.port(), uri.params().value("transport"));
    let _ = uri.is_loose_router();
});
