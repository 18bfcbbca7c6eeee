//! Any text as the value of every header with a grammar of its own: no panic, and the parts lie inside the value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telephony_sip::{Cseq, NameAddr, Params, ReferTo, Replaces, Via};

fuzz_target!(|data: &str| {
    if let Ok(address) = NameAddr::parse(data) {
        let _ = (address.display(), address.tag(), address.params.value("q"));
        let printed = address.to_string();
        let again = NameAddr::parse(&printed).expect("sound before");
        assert_eq!(again.uri, address.uri, "{printed}");
    }
    if let Ok(via) = Via::parse(data) {
        let _ = (via.branch(), via.received(), via.host.to_string());
        let source = "192.0.2.1:5060".parse().expect("an address");
        Via::parse(&via.noting(source)).expect("noting the source keeps a Via sound");
    }
    if let Ok(params) = Params::parse(data) {
        let _ = (params.value("branch"), params.has("lr"));
    }
    let _ = Cseq::parse(data);
    let _ = Replaces::parse(data);
    if let Ok(refer_to) = ReferTo::parse(data) {
        assert!(refer_to.headers.len() <= 16, "{data}");
    }
});
