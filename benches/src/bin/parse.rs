//! Measures the parser: `parse FILE ITERATIONS [sdp]` prints nanoseconds per message.
//!
//! Each round parses the message with full validation down to its routing keys; with `sdp` its body too.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use telephony_media::sdp;
use telephony_sip::{Limits, Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: parse FILE ITERATIONS [sdp]")?;
    let rounds: u32 = arguments.next().unwrap_or_else(|| "1000".to_owned()).parse()?;
    let with_body = arguments.next().is_some();
    let (bytes, limits) = (Bytes::from(std::fs::read(file)?), Limits::default());
    #[allow(clippy::disallowed_methods, reason = "a measurement needs the clock")]
    let now = Instant::now;
    let start = now();
    for _ in 0..rounds {
        let message = Message::parse(black_box(bytes.clone()), &limits)?;
        route(&message);
        if with_body {
            black_box(sdp::parse(std::str::from_utf8(message.body())?)?);
        }
    }
    #[allow(clippy::print_stdout, reason = "the result")]
    {
        println!("{:.1}", start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds.max(1)));
    }
    Ok(())
}

/// Reads every key that a transaction or dialog is looked up by.
fn route(message: &Message) {
    black_box((message.method(), message.status(), message.request_uri(), message.branch()));
    black_box((message.from_tag(), message.to_tag(), message.call_id()));
    black_box((message.cseq_number(), message.cseq_method(), message.contact_uri()));
}
