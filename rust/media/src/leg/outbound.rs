//! What a leg's peer hears: the sound and the keys of the bridged leg.

use super::{Channel, Kind, Leg, Received};
use crate::bridge::{Frame, Packet, Way};
use crate::dtmf::TelephoneEvent;
use crate::rtp::Fixed;
use crate::stats::DropReason;
use crate::switch::Output;
use std::time::Instant;

impl Leg {
    /// Sends a packet of the bridged leg on to this leg's peer; a reason if it cannot be.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        received: &Received,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<(), DropReason> {
        if !self.may_send() {
            return Err(DropReason::RtpDirection);
        }
        if !self.transport.ready() {
            return Err(DropReason::RtpNotBridged);
        }
        // Keys that are being sent silence the bridge, its sound and its keys.
        if self.digits_out.active() {
            return Ok(());
        }
        if received.fresh {
            self.stop_ringing();
            self.interrupt();
        }
        match received.kind {
            Kind::Audio | Kind::Turn(_) => self.forward_audio(now, received, payload, out),
            Kind::Event(event, clock) => self.forward_key(now, received, event, clock, out),
        }
    }

    fn forward_audio(
        &mut self,
        now: Instant,
        received: &Received,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let Some(feed) = &mut self.feed else { return Err(DropReason::RtpNotBridged) };
        match &mut feed.way {
            Way::Relay => self.relay(now, received, payload, None, out),
            Way::Translate(translate) => {
                let translate = *translate;
                self.relay(now, received, payload, Some(translate), out);
            }
            // A packet that was overtaken has been concealed or left out already.
            Way::Transcode(_) if received.late => {}
            Way::Transcode(_) => return self.transcode(now, received, payload, out),
        }
        Ok(())
    }

    fn relay(
        &mut self,
        now: Instant,
        received: &Received,
        payload: &[u8],
        translate: Option<fn(&mut [u8])>,
        out: &mut Output,
    ) {
        let Some(payload_type) = self.negotiated().map(|negotiated| negotiated.send_payload_type) else {
            return;
        };
        let (sequence, timestamp, joined) =
            self.egress.relay(now, received.source, received.sequence, received.timestamp);
        let marker = std::mem::take(&mut self.resumes) || received.marker || joined;
        let header = self.egress.header(payload_type, marker, sequence, timestamp);
        out.totals.relayed += 1;
        self.send_rtp(header, payload, translate, out);
    }

    fn transcode(
        &mut self,
        now: Instant,
        received: &Received,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<(), DropReason> {
        let Some(payload_type) = self.negotiated().map(|negotiated| negotiated.send_payload_type) else {
            return Ok(());
        };
        // The transcoder is taken out for the while: its frames are sent by the leg that owns it.
        let Some(mut feed) = self.feed.take() else { return Ok(()) };
        let position = self.egress.position(now);
        let Received { timestamp, marker, missing, .. } = *received;
        let packet = Packet { timestamp, marker, missing, payload };
        let result = match &mut feed.way {
            Way::Transcode(transcoder) => transcoder.push(packet, position, &mut |frame: Frame<'_>| {
                let sequence = self.egress.next(now, frame.timestamp);
                let marker = std::mem::take(&mut self.resumes) || frame.marker;
                let header = self.egress.header(payload_type, marker, sequence, frame.timestamp);
                out.totals.transcoded += 1;
                self.send_rtp(header, frame.payload, None, out);
            }),
            _ => Ok(()),
        };
        self.feed = Some(feed);
        result.map_err(|_| DropReason::CodecDecode)
    }

    /// RFC 4733: the same event under our payload type and clock.
    fn forward_key(
        &mut self,
        now: Instant,
        received: &Received,
        event: TelephoneEvent,
        clock: u32,
        out: &mut Output,
    ) -> Result<(), DropReason> {
        if self.signals_keys {
            return Ok(());
        }
        let ours = self.telephone_event().ok_or(DropReason::DtmfUnsupported)?;
        let one_clock = clock == ours.clock_rate && clock == self.egress.clock_rate();
        let known = self.relayed_key.filter(|&(source, _)| source == received.timestamp);
        let (sequence, timestamp) = match (self.feed.as_ref().map(|feed| &feed.way), known) {
            (Some(Way::Relay | Way::Translate(_)), _) if one_clock => {
                let (sequence, timestamp, _) =
                    self.egress.relay(now, received.source, received.sequence, received.timestamp);
                (sequence, timestamp)
            }
            (Some(Way::Relay | Way::Translate(_)), known) => {
                let timestamp = known.map_or_else(|| self.egress.position(now), |(_, timestamp)| timestamp);
                (self.egress.relay_sequence(received.source, received.sequence), timestamp)
            }
            (_, Some((_, timestamp))) => (self.egress.next(now, timestamp), timestamp),
            (_, None) => {
                let timestamp = self.egress.position(now);
                (self.egress.next(now, timestamp), timestamp)
            }
        };
        self.relayed_key = Some((received.timestamp, timestamp));
        let marker = received.marker || known.is_none();
        let header = self.egress.header(ours.send_payload_type, marker, sequence, timestamp);
        self.send_rtp(header, &event.scaled(clock, ours.clock_rate).to_bytes(), None, out);
        Ok(())
    }

    pub(super) fn send_rtp(
        &mut self,
        header: Fixed,
        payload: &[u8],
        translate: Option<fn(&mut [u8])>,
        out: &mut Output,
    ) {
        let sent = self.transport.send(self.id, &mut out.transmits, Channel::Rtp, |bytes| {
            bytes.extend_from_slice(&header.to_bytes());
            let start = bytes.len();
            bytes.extend_from_slice(payload);
            if let (Some(translate), Some(copy)) = (translate, bytes.get_mut(start..)) {
                translate(copy);
            }
        });
        if sent {
            self.egress.count(payload.len());
            self.stats.packets_out += 1;
            self.stats.bytes_out += u64::try_from(payload.len()).unwrap_or(0);
            out.totals.packets_out += 1;
        }
    }
}
