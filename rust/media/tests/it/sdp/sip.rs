//! Offer and answer for SIP legs.

use super::samples::{ASTERISK, BARESIP, CHROMIUM, DESK_PHONE, RFC3264_ALICE, SIPP};
use super::{CODECS, over_the_wire, rtp};
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;
use telephony_media::codec::Codec;
use telephony_media::sdp::{
    Direction, Negotiated, NegotiationError, Params, Peer, RtpPeer, Session, TelephoneEvent, accept, answer,
    offer, parse,
};

const LOCAL: &str = "192.0.2.1:20000";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn answered(text: &str, params: &Params<'_>) -> (Session, Negotiated) {
    let (session, negotiated) = answer(&parse(text).unwrap(), params).unwrap();
    (over_the_wire(&session), negotiated)
}

fn peer(negotiated: &Negotiated) -> RtpPeer {
    match negotiated.peer {
        Peer::Rtp(peer) => peer,
        Peer::WebRtc(_) => panic!("not a SIP peer"),
    }
}

fn event(payload_type: u8) -> Option<TelephoneEvent> {
    let (send_payload_type, receive_payload_type) = (payload_type, payload_type);
    Some(TelephoneEvent { send_payload_type, receive_payload_type, clock_rate: 8_000 })
}

fn no_common(offered: &str, allowed: &str) -> NegotiationError {
    NegotiationError::NoCommonCodec { offered: offered.to_owned(), allowed: allowed.to_owned() }
}

#[test]
fn the_answer_to_asterisk() {
    let (session, negotiated) = answered(ASTERISK, &rtp(LOCAL, &CODECS));
    assert_eq!(
        session.to_string(),
        "v=0\r\no=- 42 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    assert_eq!(
        (negotiated.codec, negotiated.send_payload_type, negotiated.receive_payload_type),
        (Codec::Pcmu, 0, 0)
    );
    assert_eq!(negotiated.telephone_event, event(101));
    assert_eq!(negotiated.ptime, Duration::from_millis(20));
    let (rtp, rtcp) = (Some(at("198.51.100.20:17254")), Some(at("198.51.100.20:17255")));
    assert_eq!(peer(&negotiated), RtpPeer { rtp, rtcp, rtcp_mux: false });
}

#[test]
fn our_order_decides() {
    let codec = |codecs: &[Codec]| answered(BARESIP, &rtp("[2001:db8::1]:20000", codecs)).1;
    assert_eq!(codec(&[Codec::Pcmu, Codec::Opus]).codec, Codec::Pcmu);
    assert_eq!(codec(&[Codec::Pcma]).send_payload_type, 8);
    let opus = codec(&[Codec::Opus, Codec::Pcmu]);
    assert_eq!((opus.codec, opus.send_payload_type), (Codec::Opus, 96));
    assert_eq!(opus.telephone_event, event(97), "8000 beside Opus, as there is no other");
    let (session, negotiated) = answered(BARESIP, &rtp("[2001:db8::1]:20000", &[Codec::Opus]));
    assert!(session.to_string().contains("c=IN IP6 2001:db8::1\r\n"));
    assert!(session.to_string().contains("a=rtcp-mux\r\n"));
    let at_peer = Some(at("[2001:db8::20]:36270"));
    assert_eq!(peer(&negotiated), RtpPeer { rtp: at_peer, rtcp: at_peer, rtcp_mux: true });
    assert_eq!(negotiated.remote_ssrcs, [2_839_192_283]);
}

#[test]
fn sipp_needs_no_rtpmap() {
    let (_, negotiated) = answered(SIPP, &rtp(LOCAL, &CODECS));
    assert_eq!((negotiated.codec, negotiated.telephone_event), (Codec::Pcmu, None));
    assert_eq!(peer(&negotiated).rtp, Some(at("127.0.0.1:6000")));
}

/// RFC 3264 section 10.1: the answer keeps the order and refuses what it has not, here both videos.
#[test]
fn refused_sections_keep_their_place() {
    let (session, negotiated) = answered(RFC3264_ALICE, &rtp(LOCAL, &CODECS));
    let sections: Vec<_> = session.media().iter().map(|media| (media.kind(), media.port())).collect();
    assert_eq!(sections, [("audio", 20_000), ("video", 0), ("video", 0)]);
    assert_eq!(session.media()[1].formats().collect::<Vec<_>>(), ["31"]);
    assert_eq!(peer(&negotiated).rtp, None, "a name; its packets will tell the address");
}

#[test]
fn of_two_audio_sections_the_usable_one_is_taken() {
    let (session, negotiated) = answered(DESK_PHONE, &rtp(LOCAL, &CODECS));
    let sections: Vec<_> = session.media().iter().map(|media| (media.protocol(), media.port())).collect();
    assert_eq!(sections, [("RTP/SAVP", 0), ("RTP/AVP", 20_000), ("udptl", 0)]);
    assert_eq!(peer(&negotiated).rtp, Some(at("192.0.2.30:5060")));
    assert_eq!(negotiated.ptime, Duration::from_millis(30));
}

#[test]
fn errors_say_what_is_wrong() {
    let refuse = |text: &str| answer(&parse(text).unwrap(), &rtp(LOCAL, &[Codec::Pcmu])).unwrap_err();
    let error = refuse(&ASTERISK.replace("17254 RTP/AVP 0 8 9 101", "17254 RTP/AVP 18 8 101"));
    assert_eq!(error, no_common("18, PCMA, telephone-event", "PCMU"));
    assert_eq!(refuse(CHROMIUM), NegotiationError::UnsupportedProtocol("UDP/TLS/RTP/SAVPF".to_owned()));
    assert_eq!(refuse(&ASTERISK.replace("m=audio", "m=video")), NegotiationError::NoAudio);
    assert_eq!(refuse(&ASTERISK.replace("17254", "0")), NegotiationError::NoAudio);
    assert_eq!(refuse("v=0\r\n"), NegotiationError::NoAudio);
    assert_eq!(refuse(&ASTERISK.replace("c=IN IP4 198.51.100.20\r\n", "")), NegotiationError::BadAddress);
}

/// RFC 3264 section 6.1 and 8.4.
#[test]
fn hold_is_mirrored() {
    for (offered, ours) in [
        ("sendrecv", Direction::SendRecv),
        ("sendonly", Direction::RecvOnly),
        ("recvonly", Direction::SendOnly),
        ("inactive", Direction::Inactive),
    ] {
        let (session, negotiated) = answered(&ASTERISK.replace("sendrecv", offered), &rtp(LOCAL, &CODECS));
        assert_eq!(negotiated.direction, ours);
        assert_eq!(session.direction(&session.media()[0]), ours);
    }
    let old_hold = ASTERISK.replace("c=IN IP4 198.51.100.20", "c=IN IP4 0.0.0.0");
    let (_, negotiated) = answered(&old_hold, &rtp(LOCAL, &CODECS));
    assert_eq!((negotiated.direction, peer(&negotiated).rtp), (Direction::RecvOnly, None));
    let silent = Params { direction: Direction::RecvOnly, ..rtp(LOCAL, &CODECS) };
    assert_eq!(answered(ASTERISK, &silent).1.direction, Direction::RecvOnly);
    let session_level =
        ASTERISK.replace("a=sendrecv\r\n", "").replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n");
    assert_eq!(answered(&session_level, &rtp(LOCAL, &CODECS)).1.direction, Direction::Inactive);
}

#[test]
fn rtcp_may_be_elsewhere() {
    let rtcp = |attribute: &str| {
        let text = format!("{ASTERISK}{attribute}");
        peer(&answered(&text, &rtp(LOCAL, &CODECS)).1).rtcp
    };
    assert_eq!(rtcp("a=rtcp:53020\r\n"), Some(at("198.51.100.20:53020")));
    assert_eq!(rtcp("a=rtcp:53020 IN IP4 203.0.113.5\r\n"), Some(at("203.0.113.5:53020")));
    assert_eq!(rtcp("a=rtcp:0\r\n"), None);
    assert_eq!(rtcp("a=rtcp:x\r\n"), None);
}

#[test]
fn our_offer_and_a_telephone_s_answer() {
    let ours = over_the_wire(&offer(&rtp(LOCAL, &[Codec::Opus, Codec::Pcma, Codec::Pcmu])));
    let audio = &ours.media()[0];
    assert_eq!(audio.formats().collect::<Vec<_>>(), ["111", "8", "0", "110", "101"]);
    assert_eq!(audio.fmtp(111), Some("minptime=20;useinbandfec=1;maxplaybackrate=8000;stereo=0"));
    // The peer numbers telephone-event as it likes.
    let theirs = parse(&ASTERISK.replace("101", "96").replace("0 8 9 96", "8 96")).unwrap();
    let negotiated = accept(&ours, &theirs).unwrap();
    assert_eq!((negotiated.codec, negotiated.send_payload_type), (Codec::Pcma, 8));
    let event = negotiated.telephone_event.unwrap();
    assert_eq!((event.send_payload_type, event.receive_payload_type, event.clock_rate), (96, 101, 8_000));
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let ours = offer(&rtp(LOCAL, &[Codec::Pcmu]));
    let refuse = |text: &str| accept(&ours, &parse(text).unwrap()).unwrap_err();
    assert_eq!(refuse("v=0\r\n"), NegotiationError::BadAnswer("another number of media sections"));
    assert_eq!(refuse(RFC3264_ALICE), NegotiationError::BadAnswer("another number of media sections"));
    assert_eq!(refuse(&ASTERISK.replace("17254", "0")), NegotiationError::NoAudio);
    assert_eq!(refuse(CHROMIUM), NegotiationError::UnsupportedProtocol("UDP/TLS/RTP/SAVPF".to_owned()));
    let pcma = ASTERISK.replace("RTP/AVP 0 8 9", "RTP/AVP 8");
    assert_eq!(refuse(&pcma), no_common("PCMA, telephone-event", "PCMU"));
}

fn codecs() -> impl Strategy<Value = Vec<Codec>> {
    prop::sample::subsequence(CODECS.to_vec(), 1..=3).prop_shuffle()
}

fn direction() -> impl Strategy<Value = Direction> {
    let all = [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];
    prop::sample::select(all.to_vec())
}

proptest! {
    #[test]
    fn both_sides_agree(a in codecs(), b in codecs(), of_a in direction(), of_b in direction()) {
        let alice = Params { direction: of_a, ..rtp("192.0.2.1:20000", &a) };
        let bob = Params { direction: of_b, ..rtp("192.0.2.2:30000", &b) };
        let offered = over_the_wire(&offer(&alice));
        match answer(&offered, &bob) {
            Ok((answered, at_bob)) => {
                let at_alice = accept(&offered, &over_the_wire(&answered)).unwrap();
                prop_assert_eq!(at_alice.codec, at_bob.codec);
                prop_assert_eq!(at_alice.send_payload_type, at_bob.receive_payload_type);
                prop_assert_eq!(at_alice.receive_payload_type, at_bob.send_payload_type);
                prop_assert_eq!(at_alice.telephone_event, at_bob.telephone_event);
                prop_assert!(at_alice.telephone_event.is_some());
                prop_assert_eq!(at_alice.direction, at_bob.direction.reversed());
                prop_assert_eq!(peer(&at_alice).rtp, Some(at("192.0.2.2:30000")));
                prop_assert_eq!(peer(&at_bob).rtcp, Some(at("192.0.2.1:20001")));
            }
            Err(error) => {
                let is_no_common = matches!(error, NegotiationError::NoCommonCodec { .. });
                prop_assert!(is_no_common);
                prop_assert!(!a.iter().any(|codec| b.contains(codec)));
            }
        }
    }
}

#[test]
fn a_hostile_offer_costs_no_more_than_a_long_one() {
    // As many formats and as many mappings as a description may have, none of which fits.
    let formats = " 96".repeat(5_000);
    let maps = "a=rtpmap:1 x/8\r\n".repeat(990);
    let text = format!("v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP{formats}\r\n{maps}");
    assert!(text.len() < telephony_media::sdp::MAX_LENGTH, "{}", text.len());
    let offer = parse(&text).unwrap();
    let begun = std::time::Instant::now();
    assert!(answer(&offer, &rtp(LOCAL, &CODECS)).is_err());
    let cost = begun.elapsed();
    assert!(cost < Duration::from_millis(300), "{cost:?}");
}
