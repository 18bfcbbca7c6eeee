//! Opus (RFC 6716) at the telephone's rate, over libopus: the only unsafe code of this crate.
//!
//! Mono at 8 kHz whatever the peer sends: libopus decodes any stream straight to that rate, and encoding narrowband
//! at complexity 5 costs a third of what a fullband stream costs, for a sound that ends in G.711 anyway.
#![allow(unsafe_code, reason = "libopus is C; every call is wrapped here once")]

use super::{CodecError, SAMPLE_RATE};
use opusic_sys as ffi;
use std::ffi::c_int;
use std::ptr::NonNull;

/// The most samples of one packet: 120 ms (RFC 6716 2.1.4).
pub const MAX_SAMPLES: usize = 960;

/// Enough for a narrowband voice; with in-band FEC libopus takes its share out of it.
const BITRATE: c_int = 20_000;
const COMPLEXITY: c_int = 5;
/// In-band FEC is only written for a loss above zero.
const EXPECTED_LOSS_PERCENT: c_int = 5;
const MONO: c_int = 1;

/// One stream towards a peer.
#[derive(Debug)]
pub struct Encoder(NonNull<ffi::OpusEncoder>);

/// One stream from a peer.
#[derive(Debug)]
pub struct Decoder(NonNull<ffi::OpusDecoder>);

// SAFETY: the state is plain memory that only its owner reaches; libopus keeps no thread-local or global state.
unsafe impl Send for Encoder {}
// SAFETY: as for the encoder.
unsafe impl Send for Decoder {}

impl Encoder {
    /// An encoder for speech over a lossy way.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> Result<Self, CodecError> {
        let mut code: c_int = 0;
        // SAFETY: the rate, channel count and application are among those libopus documents; `code` outlives the call.
        let state =
            unsafe { ffi::opus_encoder_create(SAMPLE_RATE, MONO, ffi::OPUS_APPLICATION_VOIP, &raw mut code) };
        let mut encoder = Encoder(NonNull::new(state).ok_or(CodecError::Start)?);
        encoder.set(ffi::OPUS_SET_COMPLEXITY_REQUEST, COMPLEXITY)?;
        encoder.set(ffi::OPUS_SET_SIGNAL_REQUEST, ffi::OPUS_SIGNAL_VOICE)?;
        encoder.set(ffi::OPUS_SET_BITRATE_REQUEST, BITRATE)?;
        encoder.set(ffi::OPUS_SET_INBAND_FEC_REQUEST, 1)?;
        encoder.set(ffi::OPUS_SET_PACKET_LOSS_PERC_REQUEST, EXPECTED_LOSS_PERCENT)?;
        Ok(encoder)
    }

    fn set(&mut self, request: c_int, value: c_int) -> Result<(), CodecError> {
        // SAFETY: the pointer is a live encoder; each request given here takes exactly one int.
        let code = unsafe { ffi::opus_encoder_ctl(self.0.as_ptr(), request, value) };
        if code == ffi::OPUS_OK { Ok(()) } else { Err(CodecError::Start) }
    }

    /// Encodes one frame of 2.5 to 60 ms into `packet` and returns the packet's length.
    ///
    /// # Errors
    /// If the frame has no length that Opus knows, or the packet finds no room.
    pub fn encode(&mut self, samples: &[i16], packet: &mut [u8]) -> Result<usize, CodecError> {
        let frame = c_int::try_from(samples.len()).map_err(|_| CodecError::Frame)?;
        let room = c_int::try_from(packet.len()).map_err(|_| CodecError::Frame)?;
        // SAFETY: `samples` holds `frame` samples of the one channel, `packet` has `room` octets, the state is live.
        let length =
            unsafe { ffi::opus_encode(self.0.as_ptr(), samples.as_ptr(), frame, packet.as_mut_ptr(), room) };
        usize::try_from(length).map_err(|_| CodecError::Frame)
    }
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> Result<Self, CodecError> {
        let mut code: c_int = 0;
        // SAFETY: the rate and channel count are among those libopus documents; `code` outlives the call.
        let state = unsafe { ffi::opus_decoder_create(SAMPLE_RATE, MONO, &raw mut code) };
        NonNull::new(state).map(Decoder).ok_or(CodecError::Start)
    }

    /// Decodes a packet and returns how many samples it held.
    ///
    /// # Errors
    /// If the packet is no Opus packet or holds more than `samples` has room for.
    pub fn decode(&mut self, packet: &[u8], samples: &mut [i16]) -> Result<usize, CodecError> {
        if packet.is_empty() {
            return Err(CodecError::Payload);
        }
        let room = samples.len();
        self.run(packet, samples, room, false)
    }

    /// Recovers the `samples.len()` samples before `next` from its redundancy (RFC 6716 2.1.7), or conceals them.
    ///
    /// # Errors
    /// If `next` is no Opus packet.
    pub fn recover(&mut self, next: &[u8], samples: &mut [i16]) -> Result<usize, CodecError> {
        let room = samples.len();
        self.run(next, samples, room, true)
    }

    /// Conceals `samples.len()` lost samples (a multiple of 2.5 ms).
    ///
    /// # Errors
    /// If the length is not one that libopus can conceal.
    pub fn conceal(&mut self, samples: &mut [i16]) -> Result<usize, CodecError> {
        let room = samples.len();
        self.run(&[], samples, room, false)
    }

    fn run(
        &mut self,
        packet: &[u8],
        samples: &mut [i16],
        frame: usize,
        fec: bool,
    ) -> Result<usize, CodecError> {
        let length = i32::try_from(packet.len()).map_err(|_| CodecError::Payload)?;
        let frame = c_int::try_from(frame.min(samples.len())).map_err(|_| CodecError::Frame)?;
        // A null pointer tells libopus that the packet is lost.
        let data = if packet.is_empty() { std::ptr::null() } else { packet.as_ptr() };
        // SAFETY: `data` is null or holds `length` octets, `samples` has room for `frame` samples of the one channel,
        // the state is live.
        let count = unsafe {
            ffi::opus_decode(self.0.as_ptr(), data, length, samples.as_mut_ptr(), frame, c_int::from(fec))
        };
        usize::try_from(count).map_err(|_| CodecError::Payload)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: made by opus_encoder_create, and this is the only time it is destroyed.
        unsafe { ffi::opus_encoder_destroy(self.0.as_ptr()) }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: made by opus_decoder_create, and this is the only time it is destroyed.
        unsafe { ffi::opus_decoder_destroy(self.0.as_ptr()) }
    }
}
