//! What a message's body says to offer and answer (RFC 3264, RFC 3261 13.2.1).

use bytes::Bytes;
use telephony_media::codec::Codec;
use telephony_media::sdp::{self, Media};
use telephony_sip::{Body, Message};

/// The media type of session descriptions (RFC 8866 8.1).
pub(super) const SDP: &str = "application/sdp";

/// The body of a message, seen as a session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Description {
    /// There is none.
    None,
    /// There is one.
    Sdp(Bytes),
    /// The body is something else.
    Other,
}

impl Description {
    pub(super) fn of(message: &Message) -> Self {
        if message.body().is_empty() {
            return Self::None;
        }
        let essence = message.content_type().unwrap_or_default().split(';').next().unwrap_or_default();
        match essence.trim().eq_ignore_ascii_case(SDP) {
            true => Self::Sdp(message.body_bytes()),
            false => Self::Other,
        }
    }
}

/// A session description as a body.
pub(super) fn body(sdp: String) -> Body {
    Body { content_type: SDP.into(), bytes: sdp.into() }
}

/// A session description as text. It is UTF-8 (RFC 8866 4.5); where a peer wrote Latin-1 into `s=` the rest still holds.
pub(super) fn text(sdp: &[u8]) -> String {
    String::from_utf8_lossy(sdp).into_owned()
}

/// The encoding names of an offer's audio, in its order; those we know in our spelling. What cannot be read names none.
pub(super) fn codecs(offer: &str) -> Vec<String> {
    let Ok(session) = sdp::parse(offer) else { return Vec::new() };
    let audio = session.media().iter().find(|media| media.kind() == "audio" && media.is_live());
    audio.map(encodings).unwrap_or_default()
}

fn encodings(audio: &Media) -> Vec<String> {
    let encodings = audio.encodings();
    let names = encodings.iter().map(|map| map.encoding);
    names
        .filter(|name| !name.eq_ignore_ascii_case("telephone-event"))
        .map(|name| Codec::parse(name).map_or_else(|| name.to_owned(), |codec| codec.name().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_come_in_the_order_of_the_offer() {
        let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 9 8 101 96 0\r\na=rtpmap:96 OPUS/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";
        assert_eq!(codecs(offer), ["G722", "PCMA", "opus", "PCMU"]);
        assert!(codecs("no description").is_empty());
    }
}
