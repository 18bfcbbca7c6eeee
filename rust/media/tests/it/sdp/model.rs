//! Reading and printing.

use super::samples::{self, ASTERISK, CHROMIUM, FIREFOX};
use proptest::prelude::*;
use telephony_media::sdp::{
    Connection, Direction, Fingerprint, HashFunction, Line, MAX_LENGTH, RtpMap, SdpError, Setup, parse,
};

#[test]
fn what_is_read_is_printed_byte_for_byte() {
    for sample in samples::ALL {
        assert_eq!(parse(sample).unwrap().to_string(), sample);
        let bare = sample.replace("\r\n", "\n");
        assert_eq!(parse(&bare).unwrap().to_string(), bare, "LF alone");
        assert_eq!(parse(bare.trim_end()).unwrap().to_string(), bare.trim_end(), "no last line break");
        let blank = format!("{sample}\r\n\r\n");
        assert_eq!(parse(&blank).unwrap().to_string(), blank, "blank lines at the end");
    }
}

#[test]
fn a_sip_section_is_understood() {
    let session = parse(ASTERISK).unwrap();
    let [audio] = session.media() else { panic!("one section") };
    assert_eq!((audio.kind(), audio.port(), audio.protocol()), ("audio", 17_254, "RTP/AVP"));
    assert_eq!(audio.formats().collect::<Vec<_>>(), ["0", "8", "9", "101"]);
    let event = RtpMap { payload_type: 101, encoding: "telephone-event", clock_rate: 8_000, channels: 1 };
    assert_eq!(audio.rtpmap(101), Some(event));
    assert_eq!(audio.fmtp(101), Some("0-16"));
    assert_eq!(session.connection(audio), Some(Connection::Address("198.51.100.20".parse().unwrap())));
    assert_eq!(session.direction(audio), Direction::SendRecv);
    assert_eq!(audio.attribute("maxptime"), Some("150"));
}

#[test]
fn a_browser_section_is_understood() {
    let session = parse(CHROMIUM).unwrap();
    let audio = &session.media()[0];
    assert_eq!(audio.mid(), Some("0"));
    assert_eq!(session.bundle_of("0"), Some(vec!["0"]));
    assert_eq!(session.transport_attributes(audio, "ice-ufrag"), ["8hhY"]);
    assert_eq!(audio.attributes("candidate").count(), 2);
    assert_eq!(session.setup(audio), Some(Some(Setup::ActPass)));
    assert_eq!(audio.rtpmap(111).map(|map| (map.encoding, map.channels)), Some(("opus", 2)));
    assert_eq!(session.fingerprints(audio)[0].digest[..2], [0x3a, 0x96]);
}

#[test]
fn session_attributes_serve_every_section_and_broken_hashes_are_left_out() {
    let session = parse(FIREFOX).unwrap();
    let fingerprints = session.fingerprints(&session.media()[1]);
    assert_eq!(fingerprints.iter().map(|f| f.hash).collect::<Vec<_>>(), [HashFunction::Sha256]);
    // The data channel's section leaves its transport to the one it is bundled with.
    assert_eq!(session.transport_attributes(&session.media()[2], "ice-ufrag"), ["9b4f2c81"]);
    assert!(session.media()[2].is_live());
}

#[test]
fn static_payload_types_need_no_map_but_a_map_wins() {
    let session = parse("v=0\r\nm=audio 1 RTP/AVP 0 8 9 18\r\na=rtpmap:8 opus/48000/2\r\n").unwrap();
    let media = &session.media()[0];
    let encodings: Vec<_> = [0, 8, 9, 18].map(|pt| media.rtpmap(pt).map(|map| map.encoding)).into();
    assert_eq!(encodings, [Some("PCMU"), Some("opus"), Some("G722"), None]);
}

#[test]
fn malformed_texts_are_refused_with_the_line() {
    for (text, error) in [
        ("", SdpError::Version),
        ("\r\n", SdpError::Version),
        ("o=- 1 1 IN IP4 127.0.0.1\r\n", SdpError::Version),
        ("v=1\r\n", SdpError::Version),
        ("v=0\r\nhello\r\n", SdpError::Line(2)),
        ("v=0\r\nA=upper\r\n", SdpError::Line(2)),
        ("v=0\r\n a=folded\r\n", SdpError::Line(2)),
        ("v=0\r\ns=a\rb=c\r\n", SdpError::Line(2)),
        ("v=0\r\ns=nul\0\r\n", SdpError::Line(2)),
        ("v=0\r\nm=audio\r\n", SdpError::MediaLine(2)),
        ("v=0\r\nm=audio x RTP/AVP 0\r\n", SdpError::MediaLine(2)),
        ("v=0\r\nm=audio 70000 RTP/AVP 0\r\n", SdpError::MediaLine(2)),
        ("v=0\r\nm=audio 1 RTP/AVP\r\n", SdpError::MediaLine(2)),
    ] {
        assert_eq!(parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn size_and_number_of_lines_are_bounded() {
    assert_eq!(parse(&format!("v=0\r\ns={}\r\n", "x".repeat(MAX_LENGTH))), Err(SdpError::TooLong));
    assert_eq!(parse(&format!("v=0\r\n{}", "a=x\r\n".repeat(1_000))), Err(SdpError::TooManyLines));
    assert_eq!(
        parse(&format!("v=0\r\n{}", "m=audio 1 RTP/AVP 0\r\n".repeat(40))),
        Err(SdpError::TooManyLines)
    );
}

#[test]
fn a_value_of_ours_cannot_begin_a_line() {
    assert_eq!(Line::new('a', "cname:evil\r\na=x\0").to_string(), "a=cname:evil??a=x?\r\n");
}

#[test]
fn fingerprints_are_read_strictly() {
    let good = format!("sha-256 {}", ["AB"; 32].join(":"));
    assert_eq!(Fingerprint::parse(&good).unwrap().to_string(), good);
    assert!(Fingerprint::parse(&good.to_lowercase()).is_some());
    for bad in [
        "sha-256",
        "sha-256 ",
        "sha-256 AB:CD",
        &good.replace("sha-256", "sha-512"),
        &good.replace("sha-256", "sha-1"),
        &good.replace("AB:AB", "AB:+B"),
        &good.replace("AB:AB", "AB:B"),
        &good.replace("AB:AB", "ABAB"),
    ] {
        assert_eq!(Fingerprint::parse(bad), None, "{bad}");
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]=[^\r\n\0]{0,40}",
        "a=(rtpmap|fmtp|candidate|ssrc|fingerprint|setup|rtcp|group|mid|ptime)(:[ -~]{0,40})?",
        "m=(audio|video) [0-9]{1,5} (RTP/AVP|UDP/TLS/RTP/SAVPF)( [0-9]{1,3}){1,4}",
        "c=IN IP[46] [0-9a-f.:]{0,20}",
        Just(String::new()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let lines = prop::collection::vec((line(), prop_oneof![Just("\r\n"), Just("\n")]), 0..30);
    lines.prop_map(|lines| {
        let lines: Vec<String> = lines.into_iter().map(|(line, end)| format!("{line}{end}")).collect();
        format!("v=0\r\n{}", lines.concat())
    })
}

proptest! {
    #[test]
    fn parse_and_print_are_inverse(text in text()) {
        if let Ok(session) = parse(&text) {
            prop_assert_eq!(session.to_string(), text);
        }
    }

    #[test]
    fn random_text_never_panics(text in any::<String>()) {
        if let Ok(session) = parse(&text) {
            prop_assert_eq!(session.to_string(), text);
        }
    }

    #[test]
    fn random_descriptions_never_panic_in_negotiation(text in text(), cut in any::<prop::sample::Index>()) {
        let mut text = text;
        text.push_str(samples::CHROMIUM.get(cut.index(samples::CHROMIUM.len())..).unwrap_or_default());
        if let Ok(session) = parse(&text) {
            let local = super::Local::new();
            for params in [local.webrtc(&super::CODECS), super::rtp("192.0.2.1:20000", &super::CODECS)] {
                let offer = telephony_media::sdp::offer(&params);
                let _ = telephony_media::sdp::accept(&offer, &session);
                if let Ok((answer, _)) = telephony_media::sdp::answer(&session, &params) {
                    super::over_the_wire(&answer);
                    prop_assert_eq!(answer.media().len(), session.media().len());
                }
            }
        }
    }
}
