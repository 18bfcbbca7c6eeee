//! What one relayed packet costs, between two plain legs and between a plain and a WebRTC leg, either way.
//!
//! `cargo run --release -p telephony-benches --bin relay -- [case] [packets]`; cases: rtp-rtp, rtp-srtp, srtp-rtp,
//! law-law (PCMU to PCMA). One JSON line a case.
#![allow(dead_code, clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a measuring tool")]

#[path = "../../../rust/media/tests/it/browser.rs"]
mod browser;
#[path = "../../../rust/media/tests/it/wire.rs"]
mod wire;

use std::time::Instant;
use telephony_media::Component;
use telephony_media::codec::Codec;
use wire::{Bench, TICK, WEBRTC, address};

/// Packets between two drains, as a worker gets them from one recvmmsg.
const BATCH: usize = 32;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let chosen = arguments.next();
    let packets = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    for case in ["rtp-rtp", "law-law", "rtp-srtp", "srtp-rtp"] {
        if chosen.as_deref().is_none_or(|chosen| chosen == case || chosen == "all") {
            measure(case, packets);
        }
    }
}

fn measure(case: &str, packets: usize) {
    let (mut bench, mut phone, mut browser) = match case {
        "rtp-srtp" | "srtp-rtp" => {
            let (bench, phone, browser) = browser::phone_and_browser(Codec::Pcmu, Codec::Pcmu);
            (bench, phone, Some(browser))
        }
        "law-law" => {
            let (bench, phone, _) = Bench::bridged(Codec::Pcmu, Codec::Pcma);
            (bench, phone, None)
        }
        _ => {
            let (bench, phone, _) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
            (bench, phone, None)
        }
    };
    let mut batch = Vec::with_capacity(BATCH);
    let mut spent = std::time::Duration::ZERO;
    let (server, mut sent) = (address(WEBRTC), 0usize);
    for _ in 0..packets / BATCH {
        batch.clear();
        for _ in 0..BATCH {
            batch.push(match &mut browser {
                Some(browser) if case == "srtp-rtp" => browser.sound(),
                _ => phone.sound(),
            });
        }
        let begin = Instant::now();
        for datagram in &mut batch {
            match &browser {
                Some(browser) if case == "srtp-rtp" => {
                    bench.switch.handle_webrtc(bench.now, server, browser.address, datagram);
                }
                _ => bench.switch.handle_rtp(bench.now, phone.id, Component::Rtp, phone.address, datagram),
            }
        }
        sent += bench.switch.transmits().count();
        bench.switch.clear_transmits();
        spent += begin.elapsed();
        bench.now += TICK;
    }
    assert!(sent >= packets / BATCH * BATCH, "{sent} sent");
    let each = spent.as_nanos() as f64 / (packets / BATCH * BATCH) as f64;
    println!(r#"{{"figure": "media.relay.{case}", "unit": "ns/packet", "value": {each:.1}}}"#);
}
