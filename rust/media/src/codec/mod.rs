//! The codecs a leg can speak, and their way to and from samples of 8 kHz.

mod conceal;
pub mod g711;
#[cfg(feature = "opus")]
pub mod opus;

/// Samples are always mono at the telephone's rate.
pub const SAMPLE_RATE: i32 = 8_000;

/// Samples of one 20 ms frame, the unit in which every codec here is encoded.
pub const FRAME: usize = 160;

/// The most samples that one packet may hold: 120 ms, Opus' limit, and more than any G.711 phone sends.
pub const MAX_PACKET_SAMPLES: usize = 960;

/// The longest payload an encoder makes here.
pub const MAX_FRAME_BYTES: usize = 400;

/// An audio codec, named as in its media type (RFC 3551, RFC 7587).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// G.711 mu-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
    /// Opus (RFC 6716, RFC 7587).
    Opus,
}

impl Codec {
    /// Every codec we know.
    pub const ALL: [Self; 3] = [Self::Pcmu, Self::Pcma, Self::Opus];

    /// The encoding name, spelt as in `a=rtpmap`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::Opus => "opus",
        }
    }

    /// The codec of an encoding name; encoding names are case-insensitive (RFC 4855 section 3).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// The RTP clock rate; Opus always says 48000 (RFC 7587 section 4.1).
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// The channels written in `a=rtpmap`; Opus always says 2 (RFC 7587 section 7).
    #[must_use]
    pub const fn channels(self) -> u8 {
        match self {
            Self::Pcmu | Self::Pcma => 1,
            Self::Opus => 2,
        }
    }

    /// The static payload type (RFC 3551 section 6), if the codec has one.
    #[must_use]
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::Opus => None,
        }
    }
}

/// Why a codec did not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It could not be started, or is not built in.
    #[error("the codec cannot be started")]
    Start,
    /// The payload is not what the codec makes.
    #[error("the payload cannot be decoded")]
    Payload,
    /// The frame's length is none that the codec knows, or the output has no room.
    #[error("the frame does not fit the codec")]
    Frame,
}

/// From payloads to samples.
#[derive(Debug)]
pub struct Decoder(DecoderKind);

#[derive(Debug)]
enum DecoderKind {
    G711(fn(&[u8], &mut [i16]), Box<conceal::Concealer>),
    #[cfg(feature = "opus")]
    Opus(opus::Decoder),
}

/// From frames of samples to payloads.
#[derive(Debug)]
pub enum Encoder {
    /// Mu-law.
    Ulaw,
    /// A-law.
    Alaw,
    /// Opus.
    #[cfg(feature = "opus")]
    Opus(opus::Encoder),
}

impl Decoder {
    /// A decoder of a codec.
    ///
    /// # Errors
    /// If the codec is not built in or has no memory.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        match codec {
            Codec::Pcmu => Ok(Self(DecoderKind::G711(g711::decode_ulaw, Box::default()))),
            Codec::Pcma => Ok(Self(DecoderKind::G711(g711::decode_alaw, Box::default()))),
            #[cfg(feature = "opus")]
            Codec::Opus => opus::Decoder::new().map(|decoder| Self(DecoderKind::Opus(decoder))),
            #[cfg(not(feature = "opus"))]
            Codec::Opus => Err(CodecError::Start),
        }
    }

    /// Decodes one packet's payload and returns how many samples it held.
    ///
    /// # Errors
    /// If the payload is broken or holds more samples than there is room for.
    pub fn decode(&mut self, payload: &[u8], samples: &mut [i16]) -> Result<usize, CodecError> {
        match &mut self.0 {
            DecoderKind::G711(decode, concealer) => {
                let samples = samples.get_mut(..payload.len()).ok_or(CodecError::Payload)?;
                decode(payload, samples);
                concealer.remember(samples);
                Ok(payload.len())
            }
            #[cfg(feature = "opus")]
            DecoderKind::Opus(decoder) => decoder.decode(payload, samples),
        }
    }

    /// Makes up `samples.len()` samples of a lost packet; `next` is the packet after it, if that is at hand.
    ///
    /// # Errors
    /// If the codec cannot conceal that many samples.
    pub fn conceal(&mut self, next: Option<&[u8]>, samples: &mut [i16]) -> Result<usize, CodecError> {
        match (&mut self.0, next) {
            (DecoderKind::G711(_, concealer), _) => {
                concealer.conceal(samples);
                Ok(samples.len())
            }
            #[cfg(feature = "opus")]
            (DecoderKind::Opus(decoder), Some(next)) => decoder.recover(next, samples),
            #[cfg(feature = "opus")]
            (DecoderKind::Opus(decoder), None) => decoder.conceal(samples),
        }
    }
}

impl Encoder {
    /// An encoder of a codec.
    ///
    /// # Errors
    /// If the codec is not built in or has no memory.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        match codec {
            Codec::Pcmu => Ok(Self::Ulaw),
            Codec::Pcma => Ok(Self::Alaw),
            #[cfg(feature = "opus")]
            Codec::Opus => opus::Encoder::new().map(Self::Opus),
            #[cfg(not(feature = "opus"))]
            Codec::Opus => Err(CodecError::Start),
        }
    }

    /// Encodes one 20 ms frame and returns the payload's length.
    ///
    /// # Errors
    /// If the payload finds no room.
    pub fn encode(&mut self, samples: &[i16; FRAME], payload: &mut [u8]) -> Result<usize, CodecError> {
        match self {
            Self::Ulaw | Self::Alaw if payload.len() < FRAME => return Err(CodecError::Frame),
            Self::Ulaw => g711::encode_ulaw(samples, payload),
            Self::Alaw => g711::encode_alaw(samples, payload),
            #[cfg(feature = "opus")]
            Self::Opus(encoder) => return encoder.encode(samples, payload),
        }
        Ok(FRAME)
    }
}
