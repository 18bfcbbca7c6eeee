//! Offer and answer for browser legs.

use super::samples::{AIORTC, ASTERISK, CHROMIUM, FIREFOX};
use super::{CODECS, Local, over_the_wire};
use telephony_media::codec::Codec;
use telephony_media::dtls::Role;
use telephony_media::sdp::{
    Direction, Negotiated, NegotiationError, Peer, Session, TelephoneEvent, WebRtcPeer, accept, answer,
    offer, parse,
};

fn answered(text: &str, codecs: &[Codec]) -> (Session, Negotiated) {
    let (session, negotiated) = answer(&parse(text).unwrap(), &Local::new().webrtc(codecs)).unwrap();
    (over_the_wire(&session), negotiated)
}

fn refused(text: &str) -> NegotiationError {
    answer(&parse(text).unwrap(), &Local::new().webrtc(&CODECS)).unwrap_err()
}

fn peer(negotiated: &Negotiated) -> &WebRtcPeer {
    match &negotiated.peer {
        Peer::WebRtc(peer) => peer,
        Peer::Rtp(_) => panic!("not a browser"),
    }
}

#[test]
fn the_answer_to_chromium() {
    let (session, negotiated) = answered(CHROMIUM, &[Codec::Opus, Codec::Pcmu]);
    let fingerprint = format!("sha-256 {}", ["AB"; 32].join(":"));
    assert_eq!(
        session.to_string(),
        format!(
            "v=0\r\no=- 42 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
             a=ice-lite\r\na=group:BUNDLE 0\r\n\
             m=audio 4000 UDP/TLS/RTP/SAVPF 111 110\r\n\
             a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=20;useinbandfec=1;maxplaybackrate=8000;stereo=0\r\n\
             a=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-16\r\na=ptime:20\r\na=sendrecv\r\n\
             a=mid:0\r\na=rtcp-mux\r\na=ice-ufrag:ourufrag\r\na=ice-pwd:our-password-of-24-chars\r\n\
             a=fingerprint:{fingerprint}\r\na=setup:passive\r\n\
             a=msid:gateway gateway-audio\r\na=ssrc:305419896 cname:c-name\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host\r\n\
             a=candidate:2 1 udp 2130706175 2001:db8::1 4000 typ host\r\na=end-of-candidates\r\n"
        )
    );
    let peer = peer(&negotiated);
    assert_eq!((peer.role, peer.mid.as_str()), (Role::Server, "0"));
    assert_eq!(peer.ice.credentials.ufrag, "8hhY");
    assert_eq!(peer.ice.candidates.len(), 2);
    assert_eq!(negotiated.direction, Direction::SendRecv, "0.0.0.0 means trickle here, not hold");
    assert_eq!(negotiated.remote_ssrcs, [3_570_614_608]);
    let expected = TelephoneEvent { send_payload_type: 110, receive_payload_type: 110, clock_rate: 48_000 };
    assert_eq!(negotiated.telephone_event, Some(expected));
}

#[test]
fn telephone_event_follows_the_codec_s_clock() {
    let (_, negotiated) = answered(CHROMIUM, &[Codec::Pcma]);
    let event = negotiated.telephone_event.unwrap();
    assert_eq!((event.send_payload_type, event.clock_rate), (126, 8_000));
    let (_, negotiated) = answered(FIREFOX, &[Codec::Opus]);
    assert_eq!(negotiated.telephone_event.unwrap().clock_rate, 8_000, "Firefox has no other");
    assert_eq!(answered(AIORTC, &CODECS).1.telephone_event, None);
}

#[test]
fn video_and_data_are_refused_and_left_out_of_the_bundle() {
    let (session, negotiated) = answered(FIREFOX, &CODECS);
    assert_eq!(session.attribute("group"), Some("BUNDLE 0"));
    let sections: Vec<_> = session.media().iter().map(|m| (m.kind(), m.port(), m.mid())).collect();
    let expected = [("audio", 4_000, Some("0")), ("video", 0, Some("1")), ("application", 0, Some("2"))];
    assert_eq!(sections, expected);
    assert_eq!(session.media()[2].formats().collect::<Vec<_>>(), ["webrtc-datachannel"]);
    assert_eq!(peer(&negotiated).fingerprints.len(), 1, "sha-1 is not taken");
}

#[test]
fn audio_behind_video_borrows_the_transport_of_its_bundle() {
    let text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:active\r\na=fingerprint:sha-256 "
        .to_owned()
        + &["01"; 32].join(":")
        + "\r\nm=audio 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=bundle-only\r\na=mid:a\r\na=rtcp-mux\r\n";
    let (session, negotiated) = answered(&text, &CODECS);
    assert_eq!(session.attribute("group"), Some("BUNDLE a"));
    assert_eq!((session.media()[0].port(), session.media()[1].port()), (0, 4_000));
    let peer = peer(&negotiated);
    assert_eq!((peer.ice.credentials.ufrag.as_str(), peer.role), ("abcd", Role::Server));
}

#[test]
fn aiortc_may_show_any_of_its_fingerprints() {
    let (_, negotiated) = answered(AIORTC, &CODECS);
    assert_eq!(peer(&negotiated).fingerprints.len(), 2);
}

#[test]
fn an_offer_without_bundle_gets_none() {
    let (session, _) = answered(&CHROMIUM.replace("a=group:BUNDLE 0\r\n", ""), &CODECS);
    assert_eq!(session.attribute("group"), None);
}

#[test]
fn roles_are_mirrored() {
    let role = |setup: &str| {
        let (session, negotiated) = answered(&CHROMIUM.replace("a=setup:actpass\r\n", setup), &CODECS);
        (session.media()[0].attribute("setup").unwrap().to_owned(), peer(&negotiated).role)
    };
    assert_eq!(role("a=setup:active\r\n"), ("passive".to_owned(), Role::Server));
    assert_eq!(role("a=setup:passive\r\n"), ("active".to_owned(), Role::Client));
    assert_eq!(role(""), ("passive".to_owned(), Role::Server));
    for bad in ["a=setup:holdconn\r\n", "a=setup:later\r\n"] {
        assert_eq!(refused(&CHROMIUM.replace("a=setup:actpass\r\n", bad)), NegotiationError::BadSetup);
    }
}

#[test]
fn errors_say_what_is_missing() {
    let without = |name: &str| {
        let lines = CHROMIUM.split_inclusive("\r\n").filter(|line| !line.starts_with(&format!("a={name}")));
        refused(&lines.collect::<String>())
    };
    assert_eq!(without("fingerprint"), NegotiationError::MissingFingerprint);
    assert_eq!(without("ice-ufrag"), NegotiationError::MissingIce);
    assert_eq!(without("ice-pwd"), NegotiationError::MissingIce);
    assert_eq!(without("rtcp-mux"), NegotiationError::MissingRtcpMux);
    let guessable = CHROMIUM.replace("asd88fgpdd777uzjYhagZgNb", "short");
    assert_eq!(refused(&guessable), NegotiationError::MissingIce);
    let old_hash = CHROMIUM.replace("sha-256", "sha-1");
    assert_eq!(refused(&old_hash), NegotiationError::MissingFingerprint);
    let lite = CHROMIUM.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n");
    assert_eq!(refused(&lite), NegotiationError::BothIceLite);
    assert_eq!(refused(ASTERISK), NegotiationError::UnsupportedProtocol("RTP/AVP".to_owned()));
    assert_eq!(refused(&CHROMIUM.replace("m=audio", "m=video")), NegotiationError::NoAudio);
    let nothing = answer(
        &parse(&CHROMIUM.replace("SAVPF 111 63 9 0 8 13", "SAVPF 63 9")).unwrap(),
        &Local::new().webrtc(&CODECS),
    );
    let names = "red, G722, telephone-event, telephone-event";
    let error = nothing.unwrap_err();
    assert!(matches!(error, NegotiationError::NoCommonCodec { offered, .. } if offered == names));
}

#[test]
fn hold_of_a_browser() {
    let (session, negotiated) = answered(&CHROMIUM.replace("a=sendrecv", "a=inactive"), &CODECS);
    assert_eq!(negotiated.direction, Direction::Inactive);
    assert_eq!(session.direction(&session.media()[0]), Direction::Inactive);
}

#[test]
fn our_offer_and_a_browser_s_answer() {
    let local = Local::new();
    let ours = over_the_wire(&offer(&local.webrtc(&[Codec::Pcmu, Codec::Opus])));
    assert_eq!(ours.attribute("group"), Some("BUNDLE 0"));
    assert_eq!(ours.attribute("ice-lite"), Some(""));
    let audio = &ours.media()[0];
    assert_eq!((audio.protocol(), audio.port()), ("UDP/TLS/RTP/SAVPF", 4_000));
    assert_eq!(audio.attribute("setup"), Some("actpass"));
    assert_eq!(audio.formats().collect::<Vec<_>>(), ["0", "111", "110", "101"]);
    let theirs = CHROMIUM
        .replace("setup:actpass", "setup:active")
        .replace("SAVPF 111 63 9 0 8 13 110 126", "SAVPF 0 101");
    let theirs = theirs.replace("a=rtpmap:126 ", "a=rtpmap:101 ");
    let negotiated = accept(&ours, &parse(&theirs).unwrap()).unwrap();
    assert_eq!((negotiated.codec, peer(&negotiated).role), (Codec::Pcmu, Role::Server));
    assert_eq!(negotiated.telephone_event.unwrap().send_payload_type, 101);
    let passive = theirs.replace("setup:active", "setup:passive");
    assert_eq!(peer(&accept(&ours, &parse(&passive).unwrap()).unwrap()).role, Role::Client);
    let undecided = theirs.replace("setup:active", "setup:actpass");
    assert_eq!(accept(&ours, &parse(&undecided).unwrap()), Err(NegotiationError::BadSetup));
}
