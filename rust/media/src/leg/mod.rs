//! One leg: one peer's side of a call, with its transport, its two streams and its digits.

mod control;
mod digits;
mod egress;
mod inbound;
mod latch;
mod outbound;
mod ringing;
mod session;
mod source;
mod transport;
mod webrtc;

pub(crate) use inbound::{Kind, Received};
pub(crate) use transport::{Channel, Transport};
pub(crate) use webrtc::Outcome;

use crate::bridge::Feed;
use crate::dtmf::{DigitReceiver, DigitSender};
use crate::rng::Rng;
use crate::rtp::Ssrc;
use crate::stats::LegStats;
use crate::switch::{EndReason, Event, LegId, Output};
use control::Control;
use egress::Egress;
use ringing::Ringing;
use session::Session;
use source::Source;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use transport::RtpTransport;
use webrtc::WebRtc;

pub(crate) use session::{Local, put_first};

/// The state of one leg.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    pub(crate) transport: Transport,
    session: Session,
    control: Control,
    source: Option<Source>,
    egress: Egress,
    digits_in: DigitReceiver,
    digits_out: DigitSender,
    /// The timestamp shared by the packets of the key that is being sent.
    key_timestamp: u32,
    /// A relayed key: its timestamp at the source and here.
    relayed_key: Option<(u32, u32)>,
    /// The tone that is played while the other side rings.
    ringing: Option<Box<Ringing>>,
    /// The next sound packet gets the marker.
    resumes: bool,
    /// How the bridged leg's sound becomes this leg's.
    pub(crate) feed: Option<Feed>,
    /// The slot of the leg this one is bridged to.
    pub(crate) peer: Option<usize>,
    stats: LegStats,
    heard: Instant,
    was_bridged: bool,
    connected: bool,
    ended: bool,
    /// Its peer is told of keys, and tells of them, by signalling.
    pub(crate) signals_keys: bool,
    /// The earliest wake-up that the switch has noted.
    pub(crate) scheduled: Option<Instant>,
}

impl Leg {
    pub(crate) fn over_rtp(now: Instant, id: LegId, local: SocketAddr, rng: &mut Rng) -> Self {
        Leg::new(now, id, Transport::Rtp(RtpTransport::new(now, local)), rng)
    }

    pub(crate) fn over_webrtc(now: Instant, id: LegId, local: &Local, rng: &mut Rng) -> Self {
        let webrtc = WebRtc::new(now, &local.addresses, local.credentials(rng), local.certificate.clone());
        Leg::new(now, id, Transport::WebRtc(Box::new(webrtc)), rng)
    }

    fn new(now: Instant, id: LegId, transport: Transport, rng: &mut Rng) -> Self {
        // The first sequence number leaves room before its wrap: a lost first packet then cannot put the two sides'
        // SRTP rollover counters apart (RFC 3711 3.3.1).
        let egress = Egress::new(Ssrc(rng.u32()), rng.u16() & 0x7fff, rng.u32());
        Leg {
            id,
            transport,
            session: Session::new(rng),
            control: Control::new(now, rng),
            source: None,
            egress,
            digits_in: DigitReceiver::default(),
            digits_out: DigitSender::default(),
            key_timestamp: 0,
            relayed_key: None,
            ringing: None,
            resumes: false,
            feed: None,
            peer: None,
            stats: LegStats::default(),
            heard: now,
            was_bridged: false,
            connected: false,
            ended: false,
            signals_keys: false,
            scheduled: None,
        }
    }

    /// The leg of a call that is not answered yet hears the other one; the tone ends with its first sound.
    pub(crate) fn on_early_bridge(&mut self, other_sounds: bool) {
        if other_sounds {
            self.stop_ringing();
        }
        self.interrupt();
    }

    /// Whether sound of the peer has arrived.
    pub(crate) fn sounds(&self) -> bool {
        self.source.is_some()
    }

    /// The leg is bridged now.
    pub(crate) fn on_bridged(&mut self, now: Instant) {
        let first = !std::mem::replace(&mut self.was_bridged, true);
        self.heard = now;
        if let Some(rtp) = self.transport.rtp().filter(|_| first) {
            rtp.latch.begin(now);
        }
        self.ringing = None;
        self.interrupt();
    }

    /// What fed this leg's stream stops or changes: the next sound is joined on anew.
    pub(crate) fn interrupt(&mut self) {
        self.egress.interrupt();
        self.relayed_key = None;
        self.resumes = true;
        if let Some(feed) = &mut self.feed {
            feed.interrupt();
        }
    }

    pub(crate) fn stats(&self) -> LegStats {
        let mut stats = self.stats.clone();
        stats.codec = self.codec();
        if let Some(source) = &self.source {
            stats.lost += u64::from(source.lost());
            stats.jitter = source.jitter(self.source_clock());
        }
        stats.lost_remote = self.control.lost_remote;
        stats.round_trip = self.control.round_trip;
        stats
    }

    /// When the leg must be woken next.
    pub(crate) fn poll_timeout(&mut self, media_timeout: Duration) -> Option<Instant> {
        let transport = self.transport.webrtc().and_then(WebRtc::poll_timeout);
        let media = self.media_deadline(media_timeout);
        let ringing = self.ringing.as_ref().map(|ringing| ringing.poll_timeout());
        let digits = [self.digits_in.poll_timeout(), self.digits_out.poll_timeout(), ringing];
        [transport, media, self.control.poll_timeout()].into_iter().chain(digits).flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, media_timeout: Duration, out: &mut Output) {
        if let Some(webrtc) = self.transport.webrtc() {
            webrtc.handle_timeout(now);
        }
        self.drain_transport(now, out);
        self.finish_silent_digit(now, out);
        self.send_due_digits(now, out);
        self.send_due_ringing(now, out);
        if self.control.take_due(now, &mut out.rng) {
            self.send_report(now, false, out);
        }
        if self.media_deadline(media_timeout).is_some_and(|at| at <= now) {
            self.end(EndReason::MediaTimeout, out);
        }
    }

    /// Nothing arrives although it should: a bridged peer that may send, and no RTP nor RTCP.
    fn media_deadline(&self, media_timeout: Duration) -> Option<Instant> {
        let expects = self.was_bridged && !self.ended && self.two_way() && !media_timeout.is_zero();
        expects.then(|| self.heard + media_timeout)
    }

    /// Sends what the transport has to send and tells what became of it.
    pub(crate) fn drain_transport(&mut self, now: Instant, out: &mut Output) {
        let Some(webrtc) = self.transport.webrtc() else { return };
        match webrtc.drain(now, &mut out.transmits) {
            Some(Outcome::Connected) => self.connect(out),
            Some(Outcome::Ended(reason)) => self.end(reason, out),
            None => {}
        }
    }

    fn send_report(&mut self, now: Instant, goodbye: bool, out: &mut Output) {
        if !self.transport.ready() {
            return;
        }
        let Leg { control, egress, source, transport, id, .. } = self;
        transport.send(*id, &mut out.transmits, Channel::Rtcp, |bytes| {
            control.write(now, bytes, egress, source.as_mut(), goodbye);
        });
    }

    /// The leg goes: RTCP BYE (RFC 3550 6.6), DTLS close_notify.
    pub(crate) fn close(&mut self, now: Instant, out: &mut Output) {
        // 6.3.7: whoever never sent anything says no BYE either.
        if self.egress.has_sent() || self.control.has_spoken() {
            self.send_report(now, true, out);
        }
        if let Some(webrtc) = self.transport.webrtc() {
            webrtc.close(now, &mut out.transmits);
        }
    }

    fn connect(&mut self, out: &mut Output) {
        if !self.connected {
            self.connected = true;
            out.events.push_back(Event::Connected { leg: self.id });
        }
    }

    fn end(&mut self, reason: EndReason, out: &mut Output) {
        if !self.ended {
            self.ended = true;
            out.events.push_back(Event::Ended { leg: self.id, reason });
        }
    }
}
