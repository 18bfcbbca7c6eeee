//! Datagrams, commands and time for a running endpoint: no panic, nothing unsound is sent, and once all is hung up and
//! time has passed nothing is left behind.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use telephony_sip::{Config, Endpoint, Event, Flow, LegId, Limits, Message, Profile};

/// Takes what the endpoint says; returns the legs that it names.
fn drain(endpoint: &mut Endpoint) -> Vec<LegId> {
    while let Some(sent) = endpoint.poll_transmit() {
        if sent.payload.starts_with(b"SIP/2.0") {
            continue;
        }
        Message::parse(sent.payload, &Limits::default()).expect("what we ask is sound");
    }
    std::iter::from_fn(|| endpoint.poll_event()).map(|event: Event| event.leg()).collect()
}

fuzz_target!(|data: &[u8]| {
    let mut next = 0;
    let next_leg = move || {
        next += 1;
        LegId(next)
    };
    let mut endpoint = Endpoint::new(Config::default(), [7; 32], Box::new(next_leg));
    let flow = Flow::udp("192.0.2.1:5060".parse().expect("ours"), "192.0.2.9:5060".parse().expect("theirs"));
    let (mut now, profile) = (Instant::now(), Arc::new(Profile::default()));
    let mut legs = Vec::new();
    // Messages lie behind one another, each after a byte that says what happens first.
    for part in data.split(|byte| *byte == 0xff) {
        let Some((deed, message)) = part.split_first() else { continue };
        let leg = legs.last().copied().unwrap_or(LegId(1));
        match deed % 8 {
            0 => now += Duration::from_millis(500),
            1 => drop(endpoint.provisional(now, leg, 180, None)),
            2 => drop(endpoint.answer(now, leg, None)),
            3 => drop(endpoint.reject(now, leg, 486, None, &[])),
            4 => drop(endpoint.hangup(now, leg, None)),
            5 => endpoint.handle_transport_error(now, flow),
            _ => {}
        }
        endpoint.handle_timeout(now);
        endpoint.handle_message(now, message.to_vec().into(), flow, &profile);
        legs.extend(drain(&mut endpoint));
    }
    for leg in legs {
        drop(endpoint.hangup(now, leg, None));
    }
    for _ in 0..200 {
        now += Duration::from_secs(5);
        endpoint.handle_timeout(now);
        drain(&mut endpoint);
    }
    let stats = endpoint.stats();
    assert_eq!(
        (stats.legs, stats.dialogs, stats.client_transactions, stats.server_transactions),
        (0, 0, 0, 0)
    );
});
