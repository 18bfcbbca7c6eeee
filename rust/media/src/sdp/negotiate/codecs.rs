//! Which codec, under which payload types.

use super::{Encoding, Negotiated, NegotiationError};
use crate::codec::Codec;
use crate::sdp::attribute::payload_type_of;
use crate::sdp::{Media, RtpMap};

const TELEPHONE_EVENT: &str = "telephone-event";

/// telephone-event under one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) payload_type: u8,
    pub(super) clock_rate: u32,
}

/// A codec and the telephone-event beside it, as one side numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    pub(super) telephone_event: Option<Event>,
}

/// One format of ours, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    pub(super) rtpmap: String,
    pub(super) fmtp: Option<&'static str>,
}

impl Format {
    pub(super) fn of_codec(codec: Codec, payload_type: u8) -> Self {
        let channels = if codec.channels() > 1 { format!("/{}", codec.channels()) } else { String::new() };
        let rtpmap = format!("{}/{}{channels}", codec.name(), codec.clock_rate());
        // RFC 7587 section 6.1: the telephone side has 8 kHz and one channel, and one packet holds 20 ms.
        let fmtp =
            (codec == Codec::Opus).then_some("minptime=20;useinbandfec=1;maxplaybackrate=8000;stereo=0");
        Self { payload_type, rtpmap, fmtp }
    }

    pub(super) fn of_event(event: Event) -> Self {
        let rtpmap = format!("{TELEPHONE_EVENT}/{}", event.clock_rate);
        // RFC 4733 section 2.4.1: digits, *, #, A to D and flash.
        Self { payload_type: event.payload_type, rtpmap, fmtp: Some("0-16") }
    }
}

/// Payload types that may be given out (RFC 3551 section 6).
const DYNAMIC: std::ops::RangeInclusive<u8> = 96..=127;

/// The formats of our offer: the codecs, then telephone-event once per clock (RFC 4733 section 2.1). What stands keeps
/// its number, and no other format gets that (RFC 3264 section 8.3.2).
pub(super) fn offered(codecs: &[Codec], keys: bool, standing: Option<&Negotiated>) -> Vec<Format> {
    let spoken = standing.map(|standing| (standing.codec, standing.receive_payload_type));
    let keyed = standing.and_then(|standing| standing.telephone_event);
    let keyed = keyed.map(|event| (event.clock_rate, event.receive_payload_type));
    let taken = [spoken.map(|(_, taken)| taken), keyed.map(|(_, taken)| taken)];
    let mut formats: Vec<Format> = Vec::new();
    for &codec in codecs {
        let known = spoken.filter(|&(spoken, _)| spoken == codec).map(|(_, known)| known);
        let known = known.or(codec.static_payload_type());
        formats.push(Format::of_codec(codec, known.unwrap_or_else(|| free(111, taken))));
    }
    for (clock_rate, usual) in [(48_000, 110), (8_000, 101)] {
        if keys && codecs.iter().any(|codec| codec.clock_rate() == clock_rate) {
            let known = keyed.filter(|&(clock, _)| clock == clock_rate).map(|(_, known)| known);
            let payload_type = known.unwrap_or_else(|| free(usual, taken));
            formats.push(Format::of_event(Event { payload_type, clock_rate }));
        }
    }
    formats
}

/// The usual number, or another if that is taken; 111, 110 and 101 never move onto each other's.
fn free(usual: u8, taken: [Option<u8>; 2]) -> u8 {
    let others = DYNAMIC.filter(|number| number % 4 == usual % 4);
    let mut numbers = std::iter::once(usual).chain(others);
    numbers.find(|number| !taken.contains(&Some(*number))).unwrap_or(usual)
}

/// The first of our codecs that the section has.
pub(super) fn choose(media: &Media, ours: &[Codec]) -> Result<Choice, NegotiationError> {
    let maps = media.encodings();
    let found =
        ours.iter().find_map(|&codec| Some((codec, *maps.iter().find(|map| codec_of(map) == Some(codec))?)));
    let refusal = || NegotiationError::NoCommonCodec { offered: names(media), allowed: in_words(ours) };
    let (codec, map) = found.ok_or_else(refusal)?;
    Ok(Choice { codec, payload_type: map.payload_type, telephone_event: event_beside(codec, &maps) })
}

/// The first codec of an answer, as (ours, theirs).
pub(super) fn answered(ours: &Media, theirs: &Media) -> Result<(Choice, Choice), NegotiationError> {
    let offered: Vec<Codec> = ours.encodings().iter().filter_map(codec_of).collect();
    let answered: Vec<Codec> = theirs.encodings().iter().filter_map(codec_of).collect();
    let codec = answered.into_iter().find(|codec| offered.contains(codec));
    let refusal = || NegotiationError::NoCommonCodec { offered: names(theirs), allowed: in_words(&offered) };
    let codec = codec.ok_or_else(refusal)?;
    let (mut mine, mut peer) = (choose(ours, &[codec])?, choose(theirs, &[codec])?);
    // Both have to mean the same clock.
    let clock_rate = peer.telephone_event.map(|event| event.clock_rate);
    mine.telephone_event = clock_rate.and_then(|clock_rate| event_at(clock_rate, &ours.encodings()));
    peer.telephone_event = peer.telephone_event.filter(|_| mine.telephone_event.is_some());
    Ok((mine, peer))
}

/// What both sections have besides the choice, as we number it: the peer may change to that at any time.
pub(super) fn others(ours: &Media, theirs: &Media, chosen: Choice) -> Vec<(u8, Encoding)> {
    let theirs: Vec<Encoding> = theirs.encodings().iter().filter_map(encoding_of).collect();
    let in_use = [Some(chosen.payload_type), chosen.telephone_event.map(|event| event.payload_type)];
    let ours = ours.encodings().into_iter().filter(|map| !in_use.contains(&Some(map.payload_type)));
    let mapped = ours.filter_map(|map| Some((map.payload_type, encoding_of(&map)?)));
    mapped.filter(|(_, encoding)| theirs.contains(encoding)).collect()
}

fn encoding_of(map: &RtpMap<'_>) -> Option<Encoding> {
    let is_event = map.encoding.eq_ignore_ascii_case(TELEPHONE_EVENT);
    let event = is_event.then_some(Encoding::TelephoneEvent(map.clock_rate));
    event.or_else(|| codec_of(map).map(Encoding::Audio))
}

/// The codec of a mapping. Channels are not compared: some peers write opus/48000 without its /2.
fn codec_of(map: &RtpMap<'_>) -> Option<Codec> {
    Codec::parse(map.encoding).filter(|codec| codec.clock_rate() == map.clock_rate)
}

/// telephone-event with the codec's clock. Beside Opus the one with 8000 will do: it is all that many peers have.
fn event_beside(codec: Codec, maps: &[RtpMap<'_>]) -> Option<Event> {
    event_at(codec.clock_rate(), maps).or_else(|| event_at(8_000, maps).filter(|_| codec == Codec::Opus))
}

fn event_at(clock_rate: u32, maps: &[RtpMap<'_>]) -> Option<Event> {
    let is_event = |map: &&RtpMap<'_>| {
        map.encoding.eq_ignore_ascii_case(TELEPHONE_EVENT) && map.clock_rate == clock_rate
    };
    maps.iter().find(is_event).map(|map| Event { payload_type: map.payload_type, clock_rate })
}

fn in_words(codecs: &[Codec]) -> String {
    codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(", ")
}

/// What a section offers, for the error message.
fn names(media: &Media) -> String {
    let name = |format: &str| {
        let map = payload_type_of(format).and_then(|format| media.rtpmap(format));
        map.map_or_else(|| format.to_owned(), |map| map.encoding.to_owned())
    };
    let names: Vec<String> = media.formats().take(16).map(name).collect();
    names.join(", ")
}
