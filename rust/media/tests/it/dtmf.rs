//! Keys as telephone-events: received once, relayed, and sent.

use crate::wire::{A, ALL, B, Bench, Heard, Phone, TICK, heard};
use std::time::Duration;
use telephony_media::codec::Codec;
use telephony_media::dtmf::TelephoneEvent;
use telephony_media::{Error, Event, LegId};

fn event(event: u8, end: bool, duration: u16) -> [u8; 4] {
    TelephoneEvent { event, end, volume: 10, duration }.to_bytes()
}

/// A key as a phone sends it: an update every 20 ms, three ends; `lose` says which packets get lost.
fn press(
    bench: &mut Bench,
    phone: &mut Phone,
    key: u8,
    updates: u16,
    lose: impl Fn(u16) -> bool,
) -> Vec<Heard> {
    let unit = u16::try_from(phone.codec.clock_rate() / 50).expect("small");
    let mut out = Vec::new();
    let timestamp = phone.timestamp;
    for index in 0..updates + 2 {
        let end = index + 1 >= updates;
        let payload = event(key, end, unit * (index + 1).min(updates));
        let packet = phone.at(101, index == 0, timestamp, &payload);
        if !lose(index) {
            out.extend(heard(&bench.rtp(phone, packet)));
        }
        bench.advance(TICK);
    }
    phone.timestamp = timestamp.wrapping_add(u32::from(unit) * u32::from(updates + 2));
    out
}

fn events(packets: &[Heard]) -> Vec<TelephoneEvent> {
    packets.iter().map(|packet| TelephoneEvent::parse(&packet.payload).expect("event")).collect()
}

#[test]
fn a_key_is_reported_once_with_its_duration() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    press(&mut bench, &mut a, 5, 6, |_| false);
    press(&mut bench, &mut a, 11, 4, |index| index == 3 || index == 4);
    let milliseconds: Vec<_> = bench.digits().iter().map(|(_, key, long)| (*key, long.as_millis())).collect();
    assert_eq!(milliseconds, [('5', 120), ('#', 80)]);
    assert_eq!(bench.stats(A).digits_in, 2);
}

#[test]
fn a_key_without_any_end_is_reported_when_it_falls_silent_or_the_next_comes() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    press(&mut bench, &mut a, 1, 5, |index| index >= 4);
    press(&mut bench, &mut a, 2, 5, |index| index >= 4);
    assert_eq!(bench.digits().len(), 1);
    bench.advance(Duration::from_millis(400));
    let keys: Vec<_> = bench.digits().iter().map(|(_, key, _)| *key).collect();
    assert_eq!(keys, ['1', '2']);
}

#[test]
fn a_key_of_an_unbridged_leg_is_reported_too() {
    let mut bench = Bench::new();
    let mut a = bench.phone(A, 2, Codec::Pcmu);
    assert!(press(&mut bench, &mut a, 0, 3, |_| false).is_empty());
    assert_eq!(bench.digits(), [(A, '0', Duration::from_millis(60))]);
}

#[test]
fn keys_cross_a_relay_in_their_own_sequence_and_time() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let packet = a.sound();
    let before = heard(&bench.rtp(&a, packet)).remove(0);
    bench.advance(TICK);
    let key = press(&mut bench, &mut a, 7, 5, |_| false);
    let packet = a.sound();
    let after = heard(&bench.rtp(&a, packet)).remove(0);
    assert_eq!(key.len(), 7);
    assert!(key[0].marker && key[1..].iter().all(|packet| !packet.marker));
    assert!(key.iter().all(|packet| packet.payload_type == 101));
    assert!(key.iter().all(|packet| packet.timestamp == before.timestamp.wrapping_add(160)));
    let durations: Vec<_> = events(&key).iter().map(|event| event.duration).collect();
    assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
    assert_eq!(after.sequence, before.sequence.wrapping_add(8));
    assert_eq!(after.timestamp, before.timestamp.wrapping_add(160 * 8));
}

#[test]
fn keys_cross_a_transcoder_with_their_clock_mapped() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Opus);
    let packet = a.sound();
    let before = heard(&bench.rtp(&a, packet)).remove(0);
    bench.advance(TICK);
    let key = press(&mut bench, &mut a, 7, 5, |_| false);
    let durations: Vec<_> = events(&key).iter().map(|event| event.duration).collect();
    assert_eq!(durations, [960, 1_920, 2_880, 3_840, 4_800, 4_800, 4_800]);
    assert!(key.iter().all(|packet| packet.timestamp == before.timestamp.wrapping_add(960)));
    let sequences: Vec<_> = key.iter().map(|packet| packet.sequence.wrapping_sub(before.sequence)).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7]);
    let packet = a.sound();
    let after = heard(&bench.rtp(&a, packet)).remove(0);
    assert_eq!(after.sequence, before.sequence.wrapping_add(8));
    assert_eq!(after.timestamp, before.timestamp.wrapping_add(960 * 8));

    let back = press(&mut bench, &mut b, 3, 5, |_| false);
    assert_eq!(events(&back)[4].duration, 800);
    assert_eq!(bench.digits()[1], (B, '3', Duration::from_millis(100)));
}

#[test]
fn digits_are_sent_as_whole_trains_and_silence_the_bridge() {
    let (mut bench, _a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let packet = b.sound();
    let before = heard(&bench.rtp(&b, packet)).remove(0);
    bench.advance(TICK);
    bench.switch.send_digits(bench.now, A, "1#", Duration::from_millis(120)).expect("digits");
    let mut out = Vec::new();
    for _ in 0..40 {
        out.extend(heard(&bench.advance(TICK)));
        let packet = b.sound();
        out.extend(heard(&bench.rtp(&b, packet)));
    }
    let (keys, sound): (Vec<_>, Vec<_>) = out.iter().cloned().partition(|packet| packet.payload_type == 101);
    let said: Vec<_> = events(&keys).iter().map(|event| (event.event, event.end, event.duration)).collect();
    let train = |key| {
        [
            (key, false, 160),
            (key, false, 400),
            (key, false, 800),
            (key, true, 960),
            (key, true, 960),
            (key, true, 960),
        ]
    };
    assert_eq!(said, [train(1), train(11)].concat());
    let markers: Vec<_> = keys.iter().map(|packet| packet.marker).collect();
    assert_eq!(markers, [true, false, false, false, false, false].repeat(2));
    assert_ne!(keys[0].timestamp, keys[6].timestamp);
    assert!(keys[..6].iter().all(|packet| packet.timestamp == keys[0].timestamp));
    let resumed = out.iter().position(|packet| packet.payload_type == 0).expect("sound");
    assert_eq!(resumed, 12, "no sound between the keys");
    assert!(out[resumed].marker);
    assert!((18..24).contains(&sound.len()), "{}", sound.len());
    let mut last = before;
    for packet in &out {
        assert_eq!(packet.sequence, last.sequence.wrapping_add(1));
        assert!(packet.timestamp.wrapping_sub(last.timestamp) < 2_000, "{last:?} {packet:?}");
        last = packet.clone();
    }
    assert_eq!(bench.stats(A).digits_out, 2);
}

#[test]
fn digits_that_cannot_be_sent_are_refused() {
    let (mut bench, _a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let (now, long) = (bench.now, Duration::from_millis(100));
    assert_eq!(bench.switch.send_digits(now, A, "12x", long), Err(Error::BadDigits));
    assert_eq!(bench.switch.send_digits(now, A, &"1".repeat(65), long), Err(Error::BadDigits));
    assert_eq!(bench.switch.send_digits(now, LegId(9), "1", long), Err(Error::UnknownLeg));
    assert_eq!(bench.switch.send_digits(now, A, "", long), Ok(()));
    assert!(heard(&bench.advance(Duration::from_secs(1))).is_empty());
    let plain =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    bench.switch.accept_offer(now, A, plain, &ALL).expect("answer");
    assert_eq!(bench.switch.send_digits(now, A, "1", long), Err(Error::NoTelephoneEvents));
}

#[test]
fn a_very_long_key_fits_the_field_of_a_fast_clock() {
    let (mut bench, _a, _b) = Bench::bridged(Codec::Opus, Codec::Pcmu);
    bench.switch.send_digits(bench.now, A, "d", Duration::from_secs(9)).expect("digits");
    let sent = heard(&bench.advance(Duration::from_secs(10)));
    let keys: Vec<_> = sent.into_iter().filter(|packet| packet.payload_type == 101).collect();
    let durations: Vec<_> = events(&keys).iter().map(|event| event.duration).collect();
    assert!(durations.windows(2).all(|pair| pair[0] <= pair[1]));
    assert!(*durations.last().expect("keys") > 65_400);
    assert!(events(&keys).iter().all(|event| event.event == 15));
}

#[test]
fn keys_that_a_new_agreement_forbids_are_given_up() {
    let (mut bench, mut a, b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    bench.switch.send_digits(bench.now, B, "123", Duration::from_millis(200)).expect("digits");
    bench.advance(TICK);
    let without = b.sdp("sendrecv").replace("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n", "");
    bench.switch.accept_offer(bench.now, B, &without.replace(" 101\r\n", "\r\n"), &ALL).expect("answer");
    // A timer that is due for ever would keep the worker from everything else.
    let due = bench.now + Duration::from_secs(1);
    bench.now = due;
    bench.switch.handle_timeout(due);
    assert!(bench.switch.poll_timeout().is_none_or(|at| at > due));
    let packet = a.sound();
    assert_eq!(bench.rtp(&a, packet).len(), 1, "the bridge is heard again");
}

#[test]
fn keys_of_a_new_source_count_whatever_its_clock_says() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    a.timestamp = 3_000_000_000;
    press(&mut bench, &mut a, 1, 4, |_| false);
    // The call goes on at another machine of the carrier.
    (a.ssrc, a.timestamp, a.sequence) = (77, 2_000_000_000, 9);
    press(&mut bench, &mut a, 2, 4, |_| false);
    let keys: Vec<_> = bench.digits().iter().map(|(_, key, _)| *key).collect();
    assert_eq!(keys, ['1', '2']);
}

/// A bridged pair whose second phone's keys go by signalling.
fn signalled() -> (Bench, Phone, Phone) {
    let mut bench = Bench::new();
    let a = bench.phone(A, 2, Codec::Pcmu);
    let local = std::net::SocketAddr::from(([192, 0, 2, 1], 20_100));
    bench.switch.add_rtp_leg(bench.now, B, local).expect("leg");
    bench.switch.signal_keys(B);
    let b = Phone::new(B, ([10, 0, 0, 3], 4_000).into(), Codec::Pcmu);
    let answer = bench.switch.accept_offer(bench.now, B, &b.sdp("sendrecv"), &ALL).expect("answer");
    assert!(b.sdp("sendrecv").contains("telephone-event") && !answer.contains("telephone-event"));
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    (bench, a, b)
}

fn signals(bench: &Bench) -> Vec<(LegId, char, u128)> {
    let key = |(_, event): &(Duration, Event)| match event {
        Event::Key { leg, digit, duration } => Some((*leg, *digit, duration.as_millis())),
        _ => None,
    };
    bench.events.iter().filter_map(key).collect()
}

#[test]
fn keys_in_rtp_become_signals_and_nothing_else() {
    let (mut bench, mut a, _b) = signalled();
    let sound = a.sound();
    assert_eq!(heard(&bench.rtp(&a, sound)).len(), 1);
    assert!(press(&mut bench, &mut a, 5, 6, |_| false).is_empty());
    assert!(press(&mut bench, &mut a, 11, 4, |index| index > 2).is_empty());
    bench.advance(Duration::from_millis(400));
    assert_eq!(signals(&bench), [(B, '5', 120), (B, '#', 60)], "a lost end, too");
    assert_eq!(bench.digits().len(), 2, "the application hears of them once");
    assert_eq!((bench.dropped("dtmf.unsupported"), bench.stats(B).digits_out), (0, 2));
}

#[test]
fn signalled_keys_become_events_and_commands_become_signals() {
    let (mut bench, ..) = signalled();
    bench.switch.pressed(bench.now, B, '7', Duration::from_millis(160));
    let sent: Vec<Heard> = heard(&bench.advance(Duration::from_millis(400)));
    let keys = events(&sent);
    assert!(keys.iter().all(|key| key.event == 7) && sent[0].marker);
    assert_eq!(keys.iter().filter(|key| key.end && key.duration == 1_280).count(), 3);
    assert_eq!(bench.digits(), [(B, '7', Duration::from_millis(160))]);
    assert!(signals(&bench).is_empty());
    bench.switch.send_digits(bench.now, B, "1d", Duration::from_millis(90)).expect("digits");
    assert!(bench.advance(Duration::from_millis(400)).is_empty());
    assert_eq!(signals(&bench), [(B, '1', 90), (B, 'D', 90)]);
    let wrong = bench.switch.send_digits(bench.now, B, "1x", Duration::from_millis(90));
    assert_eq!(wrong, Err(Error::BadDigits));
}

#[test]
fn signals_cross_to_signals_and_offers_have_no_events() {
    let mut bench = Bench::new();
    for (id, port) in [(A, 20_004), (B, 20_006)] {
        let local = std::net::SocketAddr::from(([192, 0, 2, 1], port));
        bench.switch.add_rtp_leg(bench.now, id, local).expect("leg");
        bench.switch.signal_keys(id);
        let offer = bench.switch.create_offer(bench.now, id, &ALL).expect("offer");
        assert!(offer.contains("PCMU") && !offer.contains("telephone-event"), "{offer}");
    }
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    bench.switch.pressed(bench.now, A, '9', Duration::from_millis(100));
    bench.advance(TICK);
    assert_eq!((bench.digits().len(), signals(&bench)), (1, vec![(B, '9', 100)]));
}
