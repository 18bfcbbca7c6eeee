//! What joins two legs: how the sound of the one becomes the sound of the other.
//!
//! The same codec is relayed, the two laws of G.711 are translated octet by octet, everything else is decoded and
//! encoded anew.

mod transcode;

pub(crate) use transcode::{Frame, Packet, Transcoder};

use crate::codec::{Codec, CodecError, g711};

/// One direction of a bridge.
#[derive(Debug)]
pub(crate) struct Feed {
    from: Codec,
    to: Codec,
    pub(crate) way: Way,
}

/// How payloads cross.
#[derive(Debug)]
pub(crate) enum Way {
    /// As they are.
    Relay,
    /// Octet by octet.
    Translate(fn(&mut [u8])),
    /// Decoded and encoded.
    Transcode(Box<Transcoder>),
}

impl Feed {
    pub(crate) fn new(from: Codec, to: Codec) -> Result<Self, CodecError> {
        let way = match (from, to) {
            (Codec::Pcmu, Codec::Pcma) => Way::Translate(g711::ulaw_to_alaw),
            (Codec::Pcma, Codec::Pcmu) => Way::Translate(g711::alaw_to_ulaw),
            _ if from == to => Way::Relay,
            _ => Way::Transcode(Box::new(Transcoder::new(from, to)?)),
        };
        Ok(Feed { from, to, way })
    }

    pub(crate) fn joins(&self, from: Codec, to: Codec) -> bool {
        self.from == from && self.to == to
    }

    /// What was sent last is no longer followed up: begin anew with the next packet.
    pub(crate) fn interrupt(&mut self) {
        if let Way::Transcode(transcoder) = &mut self.way {
            transcoder.interrupt();
        }
    }
}
