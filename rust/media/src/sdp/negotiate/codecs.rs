//! Which codec, under which payload types.

use super::NegotiationError;
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

/// The payload type under which we offer a codec.
fn offered_payload_type(codec: Codec) -> u8 {
    codec.static_payload_type().unwrap_or(111)
}

/// The formats of our offer: the codecs, then telephone-event once per clock (RFC 4733 section 2.1).
pub(super) fn offered(codecs: &[Codec]) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for &codec in codecs {
        formats.push(Format::of_codec(codec, offered_payload_type(codec)));
    }
    for (clock_rate, payload_type) in [(48_000, 110), (8_000, 101)] {
        if codecs.iter().any(|codec| codec.clock_rate() == clock_rate) {
            formats.push(Format::of_event(Event { payload_type, clock_rate }));
        }
    }
    formats
}

/// The first of our codecs that the section has.
pub(super) fn choose(media: &Media, ours: &[Codec]) -> Result<Choice, NegotiationError> {
    let maps = media.encodings();
    let found =
        ours.iter().find_map(|&codec| Some((codec, *maps.iter().find(|map| codec_of(map) == Some(codec))?)));
    let (codec, map) = found.ok_or_else(|| NegotiationError::NoCommonCodec(names(media)))?;
    Ok(Choice { codec, payload_type: map.payload_type, telephone_event: event_beside(codec, &maps) })
}

/// The first codec of an answer, as (ours, theirs).
pub(super) fn answered(ours: &Media, theirs: &Media) -> Result<(Choice, Choice), NegotiationError> {
    let offered: Vec<Codec> = ours.encodings().iter().filter_map(codec_of).collect();
    let answered: Vec<Codec> = theirs.encodings().iter().filter_map(codec_of).collect();
    let codec = answered.into_iter().find(|codec| offered.contains(codec));
    let codec = codec.ok_or_else(|| NegotiationError::NoCommonCodec(names(theirs)))?;
    let (mut mine, mut peer) = (choose(ours, &[codec])?, choose(theirs, &[codec])?);
    // Both have to mean the same clock.
    let clock_rate = peer.telephone_event.map(|event| event.clock_rate);
    mine.telephone_event = clock_rate.and_then(|clock_rate| event_at(clock_rate, &ours.encodings()));
    peer.telephone_event = peer.telephone_event.filter(|_| mine.telephone_event.is_some());
    Ok((mine, peer))
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

/// What a section offers, for the error message.
fn names(media: &Media) -> String {
    let name = |format: &str| {
        let map = payload_type_of(format).and_then(|format| media.rtpmap(format));
        map.map_or_else(|| format.to_owned(), |map| map.encoding.to_owned())
    };
    let names: Vec<String> = media.formats().take(16).map(name).collect();
    names.join(", ")
}
