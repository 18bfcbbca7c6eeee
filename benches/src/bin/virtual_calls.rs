//! Complete calls between two endpoints in virtual time: INVITE, 100, 180, 200, ACK, BYE, 200.
//!
//! `cargo run --release -p telephony-benches --bin virtual_calls -- [calls] [calls per virtual second]`
//!
//! Every message is written, carried and read by the other side; transactions live as long as their timers say, so at
//! 1,000 calls a virtual second some 100,000 of them are alive at any moment.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures and prints")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed call is a failed measurement")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use telephony_sip::{Body, Config, Dial, Endpoint, Event, Flow, LegId, Profile};

struct Wire {
    profile: Arc<Profile>,
    caller: Endpoint,
    callee: Endpoint,
    out: Flow,
    back: Flow,
    now: Instant,
}

fn endpoint(seed: u8) -> Endpoint {
    let mut next = u64::from(seed) << 48;
    let next_leg = move || {
        next += 1;
        LegId(next)
    };
    Endpoint::new(Config::default(), [seed; 32], Box::new(next_leg))
}

fn body() -> Body {
    let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 8 101\r\n\
               a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n";
    Body { content_type: "application/sdp".to_owned(), bytes: Bytes::from_static(sdp.as_bytes()) }
}

impl Wire {
    fn new() -> Self {
        let (a, b): (SocketAddr, SocketAddr) =
            ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
        let flow = Flow::udp;
        Self {
            caller: endpoint(1),
            callee: endpoint(2),
            out: flow(a, b),
            back: flow(b, a),
            profile: Arc::default(),
            now: Instant::now(),
        }
    }

    /// Carries messages both ways until none is left.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(sent) = self.caller.poll_transmit() {
                self.callee.handle_message(self.now, sent.payload, self.back, &self.profile);
                quiet = false;
            }
            while let Some(sent) = self.callee.poll_transmit() {
                self.caller.handle_message(self.now, sent.payload, self.out, &self.profile);
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    fn call(&mut self, leg: LegId) {
        let dial = Dial {
            flow: self.out,
            contact: "192.0.2.1:5060".to_owned(),
            others: Vec::new(),
            elsewhere: false,
            request_uri: "sip:+74951234567@192.0.2.2:5060".to_owned(),
            from: "\"Alice\" <sip:+74957654321@example.com>".to_owned(),
            to: "<sip:+74951234567@example.com>".to_owned(),
            headers: Vec::new(),
            body: Some(body()),
            timeout: Duration::from_secs(60),
            profile: Arc::clone(&self.profile),
        };
        self.caller.dial(self.now, leg, dial).unwrap();
        self.settle();
        let Some(Event::Incoming { leg: called, .. }) = self.callee.poll_event() else { panic!("no call") };
        self.callee.provisional(self.now, called, 180, None).unwrap();
        self.callee.answer(self.now, called, Some(body())).unwrap();
        self.settle();
        self.caller.hangup(self.now, leg, None).unwrap();
        self.settle();
        let ended = |events: &mut Endpoint| {
            std::iter::from_fn(|| events.poll_event())
                .filter(|event| matches!(event, Event::Ended { .. }))
                .count()
        };
        assert_eq!((ended(&mut self.caller), ended(&mut self.callee)), (1, 1));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.caller.handle_timeout(self.now);
        self.callee.handle_timeout(self.now);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>().unwrap());
    let (calls, rate) = (arguments.next().unwrap_or(200_000), arguments.next().unwrap_or(1_000));
    let mut wire = Wire::new();
    let started = Instant::now();
    for call in 0..calls {
        wire.call(LegId(call.into()));
        wire.pass(Duration::from_secs(1) / rate);
    }
    let taken = started.elapsed();
    let alive = wire.caller.stats().client_transactions + wire.callee.stats().server_transactions;
    wire.pass(Duration::from_secs(600));
    let stats = wire.caller.stats();
    assert_eq!(stats.retransmissions_out, 0, "a timer fired that should have been stopped");
    assert_eq!((stats.client_transactions, stats.dialogs, stats.legs, stats.timers), (0, 0, 0, 0));
    println!(
        r#"{{"figure": "sip.virtual_call", "calls": {calls}, "calls_per_s": {:.0}, "us": {:.2}, "alive": {alive}}}"#,
        f64::from(calls) / taken.as_secs_f64(),
        taken.as_secs_f64() * 1e6 / f64::from(calls),
    );
}
