//! Any bytes as one SIP message: no panic, and what is sound stays the same when written and read again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use telephony_sip::{Builder, Limits, Message, Name};

const LISTS: [Name; 6] =
    [Name::Via, Name::Contact, Name::RecordRoute, Name::Route, Name::Accept, Name::Other];

/// Everything a reader may ask, so that nothing lazy hides a fault.
fn touch(message: &Message) {
    let counted = LISTS.iter().map(|name| message.values(*name).count() + message.name_addrs(*name).count());
    assert!(counted.sum::<usize>() < usize::MAX);
    let _ = (message.top_via(), message.from(), message.to(), message.cseq(), message.uri(), message.body());
    let _ =
        (message.max_forwards(), message.expires(), message.contact(), message.branch(), message.reason());
    let source = "[2001:db8::1]:5060".parse().expect("an address");
    let answer = Builder::response_to(message, source, 400, "").to_tag("t").build().expect("an answer");
    Message::parse(answer, &Limits::default()).map(drop).unwrap_or_default();
}

fn again(message: &Message) {
    let copy = Message::parse(message.bytes().to_vec().into(), &Limits::default()).expect("sound before");
    let headers = |message: &Message| -> Vec<(String, String)> {
        message.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(headers(&copy), headers(message));
    assert_eq!(copy.body(), message.body());
}

fuzz_target!(|data: &[u8]| {
    match Message::parse(Bytes::copy_from_slice(data), &Limits::default()) {
        Ok(message) => {
            touch(&message);
            again(&message);
        }
        Err(error) => {
            let _ = error.answerable().map(touch);
        }
    }
});
