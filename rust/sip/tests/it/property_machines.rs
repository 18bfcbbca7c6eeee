//! Whatever comes in whatever order: nothing panics, all we send is sound, every leg ends exactly once, and nothing is
//! left behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use telephony_sip::digest::{Credentials, Secret};
use telephony_sip::{
    Dial, Event, Flow, LegId, Message, Method, Name, Profile, SessionTimer, Support, Target,
};

use crate::wire::{CONTACT, LONG, NOTHING, Solo, Wire, assert_each_ended_once, dial, request, response, sdp};

/// One thing that happens; the numbers choose among what there is at that moment.
type Step = (u8, u16, u16);

/// An endpoint with the traces a script can use: what it sent and what it told.
struct Script {
    solo: Solo,
    sent: Vec<Message>,
    events: Vec<Event>,
    received: Vec<Bytes>,
    dialled: u64,
}

const OFFER: &str = "Content-Type: application/sdp\n\nv=0";
const TIMED: &str =
    "Supported: timer\nSession-Expires: 95;refresher=uas\nContent-Type: application/sdp\n\nv=0";
const RELIABLE: &str = "Supported: 100rel\nContent-Type: application/sdp\n\nv=0";
const METHODS: [&str; 13] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "INFO",
    "UPDATE",
    "PRACK",
    "REGISTER",
    "DANCE",
    "REFER",
    "NOTIFY",
    "SUBSCRIBE",
];
const TRANSFERS: [&str; 5] = [
    "",
    "Refer-To: <sip:carol@192.0.2.7>\n",
    "Refer-To: <sip:carol@192.0.2.7>\nRefer-Sub: false\n",
    "Event: refer\nSubscription-State: terminated\n",
    "Event: refer\nExpires: 0\n",
];
const STATUSES: [u16; 16] = [100, 180, 183, 199, 200, 202, 302, 401, 408, 422, 481, 486, 487, 491, 503, 603];

fn pick<T>(all: &[T], number: u16) -> Option<&T> {
    all.get(usize::from(number) % all.len().max(1))
}

impl Script {
    fn new(kind: u8) -> Self {
        let reliable = [Support::Off, Support::Supported, Support::Required][usize::from(kind % 3)];
        let support = [Support::Off, Support::Supported, Support::Required][usize::from(kind / 3 % 3)];
        let session = SessionTimer { support, ..SessionTimer::default() };
        let credentials = Credentials {
            username: "alice".into(),
            secret: Secret::Password("wonderland".into()),
            realm: "carrier".into(),
            networks: Vec::new(),
        };
        let credentials = kind.is_multiple_of(2).then(|| Arc::new(credentials));
        let solo = Solo::of(Profile { credentials, reliable, session, ..Profile::default() });
        Self { solo, sent: Vec::new(), events: Vec::new(), received: Vec::new(), dialled: 0 }
    }

    fn drain(&mut self) {
        self.sent.extend(self.solo.sent());
        self.events.extend(self.solo.events());
    }

    fn step(&mut self, (what, one, two): Step) {
        match what % 16 {
            0 => self.dial(one),
            1..=3 => self.fresh_request(one, two),
            4..=5 => self.request_in_dialog(one, two),
            6..=8 => self.respond(one, two),
            9 => self.repeat(one),
            10 => self.damage(one, two),
            11..=13 => self.command(one, two),
            14 => self.wait(one),
            _ => self.disturb(one),
        }
        self.drain();
    }

    /// A call to one target, or to up to three.
    fn dial(&mut self, one: u16) {
        self.dialled += 1;
        let flow = self.solo.flow;
        let other = |port| Target {
            flow: Flow { remote: (flow.remote.ip(), port).into(), ..flow },
            contact: "x".into(),
        };
        let others = (0..one % 3).map(|number| other(6000 + number)).collect();
        let (elsewhere, profile) = (one.is_multiple_of(4), Arc::clone(&self.solo.profile));
        let dial = Dial { others, elsewhere, profile, ..dial(flow) };
        self.solo.endpoint.dial(self.solo.now, LegId(self.dialled), dial).unwrap();
    }

    fn receive(&mut self, text: &str) {
        self.received.push(Bytes::from(text.replace('\n', "\r\n")));
        self.solo.receive(text);
    }

    fn fresh_request(&mut self, one: u16, two: u16) {
        let method = if one.is_multiple_of(2) { "INVITE" } else { pick(&METHODS, one).unwrap() };
        let extra =
            ["", OFFER, "Expires: 3", "Require: x", "Require: 100rel", RELIABLE, TIMED][usize::from(two % 7)];
        let text = request(method, &format!("f{}", two % 20), u32::from(one % 4), "", extra);
        self.receive(&text.replace("solo@", &format!("call{}@", two % 6)));
    }

    /// A request of the peer inside a dialog that some message of ours belongs to.
    fn request_in_dialog(&mut self, one: u16, two: u16) {
        let Some(ours) = pick(&self.sent, one) else { return };
        let (theirs, mine) = match ours.is_request() {
            true => ("bob", ours.from_tag()),
            false => (ours.from_tag().unwrap_or("x"), ours.to_tag()),
        };
        let method = pick(&METHODS, two).unwrap();
        let extra = if two.is_multiple_of(3) { OFFER } else { "" };
        let branch = format!("d{}", two % 50);
        let rseq = ours.header(Name::RSeq).unwrap_or("1");
        let transfer = pick(&TRANSFERS, two / 13).unwrap();
        let extra = format!("RAck: {rseq} {} INVITE\n{transfer}{extra}", ours.cseq_number());
        let text = request(method, &branch, u32::from(two % 7), mine.unwrap_or_default(), &extra)
            .replace("tag=peer", &format!("tag={theirs}"))
            .replace("solo@example.org", ours.call_id());
        self.receive(&text);
    }

    fn respond(&mut self, one: u16, two: u16) {
        let requests: Vec<_> =
            self.sent.iter().rev().filter(|message| message.is_request()).take(12).collect();
        let Some(ours) = pick(&requests, one) else { return };
        let tag = ["", "bob", "carol", "dave"][usize::from(two % 4)];
        let reliable = format!("Require: 100rel\nRSeq: {}\n{CONTACT}", one % 3);
        let timed = format!("Session-Expires: {};refresher=uac\nMin-SE: {one}\n{CONTACT}", one % 100);
        let extra = ["", CONTACT, &timed, &reliable, &reliable][usize::from(two % 5)];
        let challenge = format!("WWW-Authenticate: Digest realm=\"carrier\", nonce=\"{one}\", stale=true");
        let extra = if pick(&STATUSES, two) == Some(&401) { &challenge } else { extra };
        let text = response(ours, *pick(&STATUSES, two).unwrap(), tag, extra);
        let offer = "Content-Type: application/sdp\nContent-Length: 3\n\nv=0";
        self.receive(&if one.is_multiple_of(3) {
            text.replace("Content-Length: 0\n\n", offer)
        } else {
            text
        });
    }

    fn repeat(&mut self, one: u16) {
        if let Some(datagram) = pick(&self.received, one).cloned() {
            self.solo.endpoint.handle_message(self.solo.now, datagram, self.solo.flow, &self.solo.profile);
        }
    }

    fn damage(&mut self, one: u16, two: u16) {
        let Some(datagram) = pick(&self.received, one) else { return };
        let mut bytes = datagram.to_vec();
        let at = usize::from(two) % bytes.len().max(1);
        match two % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] = one.to_le_bytes()[0],
            _ => bytes.insert(at, two.to_le_bytes()[1]),
        }
        self.solo.endpoint.handle_message(self.solo.now, bytes.into(), self.solo.flow, &self.solo.profile);
    }

    fn command(&mut self, one: u16, two: u16) {
        let legs: Vec<LegId> =
            self.events.iter().map(Event::leg).chain((1..=self.dialled).map(LegId)).collect();
        let Some(leg) = pick(&legs, one).copied() else { return };
        let (endpoint, now) = (&mut self.solo.endpoint, self.solo.now);
        // Wrong commands are part of the game; what they return does not matter here.
        let _ = match two % 15 {
            0 => endpoint.provisional(now, leg, 180, sdp("v=0").filter(|_| one.is_multiple_of(2))),
            1 | 2 => endpoint.answer(now, leg, sdp("v=0")),
            3 => endpoint.reject(now, leg, 486, Some("No"), &[]),
            4 => endpoint.hangup(now, leg, None),
            5 => endpoint.answer_reoffer(now, leg, sdp("v=0")),
            6 => endpoint.reject_reoffer(now, leg, 488, &[]),
            7 => endpoint.reoffer(now, leg, sdp("v=0"), Method::Invite),
            8 => endpoint.reoffer(now, leg, None, Method::Invite),
            9 => endpoint.reoffer(now, leg, sdp("v=0").filter(|_| one.is_multiple_of(2)), Method::Update),
            10 if one.is_multiple_of(2) => endpoint.acknowledge(now, leg, sdp("v=0")),
            10 => {
                endpoint.withdraw_reoffer(now, leg);
                Ok(())
            }
            11 => endpoint.refer(now, leg, "sip:carol@192.0.2.7", None),
            12 => endpoint.accept_refer(now, leg, u32::from(one % 7)),
            13 => endpoint.notify_refer(now, leg, u32::from(one % 7), 100 + one % 200, ""),
            _ => endpoint.hangup(now, leg, Some("Q.850;cause=16")),
        };
    }

    fn wait(&mut self, one: u16) {
        self.solo.now += Duration::from_millis(u64::from(one));
        self.solo.endpoint.handle_timeout(self.solo.now);
    }

    fn disturb(&mut self, one: u16) {
        match one % 8 {
            0 => self.solo.endpoint.handle_transport_error(self.solo.now, self.solo.flow),
            1 => self.solo.endpoint.refuse_new(Some(1..=5)),
            2 => self.solo.endpoint.handle_message(
                self.solo.now,
                Bytes::from_static(b"\x16\x03\x01 noise"),
                self.solo.flow,
                &self.solo.profile,
            ),
            _ => self.solo.endpoint.refuse_new(None),
        }
    }

    /// Hangs everything up and lets all timers run out.
    fn finish(mut self) {
        for leg in (1..=self.dialled).map(LegId).chain(self.events.iter().map(Event::leg)) {
            self.solo.endpoint.hangup(self.solo.now, leg, None).unwrap();
        }
        self.drain();
        self.solo.advance(LONG);
        self.drain();
        assert_eq!(self.solo.alive(), NOTHING, "something is left");
        assert_eq!(self.solo.endpoint.poll_timeout(), None);
        assert_each_ended_once(&self.events);
    }
}

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<Step>(), 1..longest)
}

/// Commands for two endpoints that talk to each other over a bad line.
fn converse(seed: u8, steps: &[Step]) {
    let mut wire = Wire::new(seed);
    let reliable = if seed.is_multiple_of(2) { Support::Supported } else { Support::Off };
    wire.profile = Arc::new(Profile { reliable, ..Profile::default() });
    (wire.loss, wire.doubled, wire.jitter) = (150, 100, Duration::from_millis(300));
    for (what, one, two) in steps {
        let side = usize::from(one % 2);
        let mut legs: Vec<LegId> = wire.peers[side].events.iter().map(Event::leg).collect();
        legs.dedup();
        let (leg, now) = (pick(&legs, *two).copied().unwrap_or(LegId(0)), wire.now);
        let refer = last_refer(&wire.peers[side].events, leg);
        let endpoint = &mut wire.peers[side].endpoint;
        let _ = match what % 15 {
            0 => {
                wire.dial(
                    side,
                    u64::from(*what) * 1000 + u64::from(*one) % 1000 + (1 << 32) * wire.log.len() as u64,
                );
                Ok(())
            }
            1 => endpoint.provisional(now, leg, 183, sdp("v=0").filter(|_| two.is_multiple_of(2))),
            2 | 3 => endpoint.answer(now, leg, sdp("v=0")),
            4 => endpoint.hangup(now, leg, None),
            5 => endpoint.reject(now, leg, 603, None, &[]),
            6 => endpoint.reoffer(now, leg, sdp("v=0"), Method::Invite),
            7 => endpoint.reoffer(now, leg, sdp("v=0").filter(|_| two.is_multiple_of(2)), Method::Update),
            8 => endpoint.reoffer(now, leg, None, Method::Invite),
            9 => endpoint.answer_reoffer(now, leg, sdp("v=0")),
            10 if two.is_multiple_of(2) => endpoint.acknowledge(now, leg, sdp("v=0")),
            11 => endpoint.refer(now, leg, "sip:carol@192.0.2.7", None),
            12 => endpoint.accept_refer(now, leg, refer),
            13 => endpoint.notify_refer(now, leg, refer, if two.is_multiple_of(2) { 180 } else { 200 }, ""),
            _ => {
                wire.run(Duration::from_millis(u64::from(*two % 4000)));
                Ok(())
            }
        };
        wire.pump();
    }
    finish_wire(wire);
}

/// The number of the last REFER that came in for a leg.
fn last_refer(events: &[Event], leg: LegId) -> u32 {
    let number = |event: &Event| match event {
        Event::Refer { leg: of, id, .. } if *of == leg => Some(*id),
        _ => None,
    };
    events.iter().rev().find_map(number).unwrap_or_default()
}

fn finish_wire(mut wire: Wire) {
    for side in 0..2 {
        let legs: Vec<LegId> = wire.peers[side].events.iter().map(Event::leg).collect();
        for leg in legs {
            wire.peers[side].endpoint.hangup(wire.now, leg, None).unwrap();
        }
    }
    // Calls that still ring over there end by the caller's patience; incoming ones by the caller's CANCEL.
    wire.run(LONG);
    for side in 0..2 {
        let legs: Vec<LegId> = wire.peers[side].events.iter().map(Event::leg).collect();
        for leg in legs {
            wire.peers[side].endpoint.hangup(wire.now, leg, None).unwrap();
        }
    }
    wire.run(LONG);
    wire.assert_empty();
    for peer in &wire.peers {
        assert_each_ended_once(&peer.events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_ends_cleanly(kind in any::<u8>(), steps in steps(120)) {
        let mut script = Script::new(kind);
        for step in steps {
            script.step(step);
        }
        script.finish();
    }

    #[test]
    fn two_endpoints_on_a_bad_line_end_cleanly(seed in any::<u8>(), steps in steps(60)) {
        converse(seed, &steps);
    }
}
