//! What a worker does when told: commands of the user, jobs of the SIP thread, events of its switch.

use super::{Leg, MAIL_BATCH, Worker};
use crate::command::Command;
use crate::error::Code;
use crate::event::{Cause, Done, Ended, Event, Outcome, Side};
use crate::guard::guard;
use crate::message::{MediaAddress, MediaJob, ToSip, ToWorker};
use crate::{EngineError, Kind, LegId};
use std::time::Instant;
use telephony_media::stats::LegStats;
use telephony_media::{EndReason, Event as MediaEvent};
use telephony_sip::Key;

type Result<T = Outcome> = std::result::Result<T, EngineError>;

impl Worker {
    pub(super) fn read_mail(&mut self) {
        self.mailbox.begin();
        for _ in 0..MAIL_BATCH {
            match self.mailbox.take() {
                Some(mail) => self.on_mail(mail),
                None => return,
            }
        }
        self.mailbox.signal();
    }

    fn on_mail(&mut self, mail: ToWorker) {
        match mail {
            ToWorker::Command(correlation, command) => {
                let leg = command.leg();
                let result = self.guarded(leg, |worker| worker.carry_out(command));
                self.events.send(Event::Done(Box::new(Done { correlation, leg, result })));
            }
            ToWorker::Job { leg, purpose, job } => {
                let result = self.guarded(leg, |worker| worker.do_job(leg, job));
                self.sip.send(ToSip::Media { leg, purpose, result });
            }
            ToWorker::Pressed(leg, key) => self.pressed(leg, key),
            ToWorker::End(ended) => self.finish(*ended),
            ToWorker::Stats(leg, reply) => {
                let _ = reply.try_send(self.switch.leg_stats(leg.media()));
            }
            ToWorker::Stop => self.stop(),
        }
    }

    /// Does work for one leg; if it panics, the leg is lost and the others go on.
    pub(super) fn guarded(&mut self, leg: LegId, work: impl FnOnce(&mut Self) -> Result) -> Result {
        let stats = std::sync::Arc::clone(&self.stats);
        guard(&stats.losses, || work(self)).unwrap_or_else(|| {
            self.fail(leg);
            Err(EngineError::new(Code::Internal, "a fault in the gateway ended the leg"))
        })
    }

    fn carry_out(&mut self, command: Command) -> Result {
        let now = Instant::now();
        match command {
            Command::AcceptOffer { leg, sdp, codecs } => {
                self.describe(leg, None, |worker| worker.switch.accept_offer(now, leg.media(), &sdp, &codecs))
            }
            Command::CreateOffer { leg, codecs } => {
                self.describe(leg, None, |worker| worker.switch.create_offer(now, leg.media(), &codecs))
            }
            Command::AcceptAnswer { leg, sdp } => self.accept_answer(leg, &sdp),
            Command::AddCandidate { leg, candidate } => {
                self.switch.add_candidate(now, leg.media(), candidate.as_deref())?;
                Ok(Outcome::default())
            }
            Command::Bridge { first, second } => self.join(first, second),
            Command::Preview { first, second } => {
                self.switch.bridge_early(first.media(), second.media())?;
                Ok(Outcome::default())
            }
            Command::RingBack { leg, tone } => {
                self.switch.ring_back(now, leg.media(), tone)?;
                Ok(Outcome::default())
            }
            Command::Unbridge { leg } => {
                self.switch.unbridge(now, leg.media());
                Ok(Outcome::default())
            }
            Command::SendDigits { leg, digits, duration } => {
                self.switch.send_digits(now, leg.media(), &digits, duration)?;
                Ok(Outcome::default())
            }
            Command::Hangup { leg, reason } => {
                self.hang_up(leg, reason);
                Ok(Outcome::default())
            }
            _ => Err(EngineError::wrong_state("a media worker does no signalling")),
        }
    }

    /// A SIP leg's peer pressed a key by INFO.
    pub(super) fn pressed(&mut self, leg: LegId, key: Key) {
        let _ = self.guarded(leg, |worker| {
            worker.switch.pressed(Instant::now(), leg.media(), key.digit, key.duration);
            Ok(Outcome::default())
        });
    }

    /// Lets two legs hear each other.
    pub(super) fn join(&mut self, first: LegId, second: LegId) -> Result {
        self.switch.bridge(Instant::now(), first.media(), second.media())?;
        Ok(Outcome::default())
    }

    pub(super) fn do_job(&mut self, leg: LegId, job: MediaJob) -> Result {
        let now = Instant::now();
        match job {
            MediaJob::Offer { address, codecs } => self
                .describe(leg, Some(address), |worker| worker.switch.create_offer(now, leg.media(), &codecs)),
            MediaJob::AcceptOffer { address, offer, codecs } => self.describe(leg, Some(address), |worker| {
                worker.switch.accept_offer(now, leg.media(), &offer, &codecs)
            }),
            MediaJob::AcceptAnswer { answer } => self.accept_late(leg, &answer),
            MediaJob::Renew { offer, codecs, ask } => self.renew(leg, &offer, &codecs, ask),
            MediaJob::Review => self.review(leg),
            MediaJob::Tell { codecs, news } => self.describe(leg, None, |worker| {
                worker.switch.renew_offer(leg.media(), &codecs, news.direction, news.codec)
            }),
            MediaJob::Exchange { answer, asked, offer, codecs } => {
                self.watching_hold(asked, |worker| worker.exchange((leg, &answer), (asked, &offer), &codecs))
            }
            MediaJob::Told { answer, other } => self.told(leg, &answer, other),
            MediaJob::Join { other } => self.join(leg, other),
            MediaJob::Revert { codecs, other } => self
                .describe(leg, None, |worker| worker.switch.offer_back(leg.media(), &codecs, other.media())),
        }
    }

    /// Makes an offer or answer, and the leg before it if it is new; a leg that gets none does not stay.
    fn describe(
        &mut self,
        leg: LegId,
        address: Option<MediaAddress>,
        describe: impl FnOnce(&mut Self) -> std::result::Result<String, telephony_media::Error>,
    ) -> Result {
        let is_new = self.legs.find(leg).is_none();
        if is_new {
            if self.legs.is_retired(leg) {
                return Err(EngineError::unknown_leg());
            }
            self.add(leg, address)?;
        }
        match describe(self) {
            Ok(sdp) => Ok(self.described(leg, sdp)),
            Err(error) => {
                if is_new {
                    self.remove(leg);
                }
                Err(error.into())
            }
        }
    }

    pub(super) fn accept_answer(&mut self, leg: LegId, answer: &str) -> Result {
        self.switch.accept_answer(Instant::now(), leg.media(), answer)?;
        Ok(Outcome { codec: self.switch.negotiated(leg.media()), ..Outcome::default() })
    }

    fn add(&mut self, leg: LegId, address: Option<MediaAddress>) -> Result<()> {
        let now = Instant::now();
        let added = match address {
            Some(address) => {
                let port = self.legs.add_rtp(now, leg, address.bind, &self.watch)?;
                self.switch.add_address(address.bind);
                self.switch.add_address(address.local);
                let added = self.switch.add_rtp_leg(now, leg.media(), (address.advertise, port).into());
                if address.signals_keys {
                    self.switch.signal_keys(leg.media());
                }
                added
            }
            None => {
                self.legs.add_webrtc(leg);
                self.switch.add_webrtc_leg(now, leg.media())
            }
        };
        self.load.set(self.legs.len());
        added.map_err(|error| {
            self.remove(leg);
            error.into()
        })
    }

    /// Frees all that a leg has; what it did.
    fn remove(&mut self, leg: LegId) -> Option<LegStats> {
        self.legs.find(leg)?;
        let (now, switch) = (Instant::now(), &mut self.switch);
        let stats = guard(&self.stats.losses, || switch.remove(now, leg.media())).flatten();
        // The RTCP BYE must leave before its socket closes.
        self.transmit();
        self.legs.remove(now, leg);
        self.load.set(self.legs.len());
        stats
    }

    /// Frees a leg for good.
    pub(super) fn release(&mut self, leg: LegId) -> Option<LegStats> {
        let stats = self.remove(leg);
        self.legs.retire(leg);
        stats
    }

    /// Frees a leg and reports its end.
    pub(super) fn finish(&mut self, mut ended: Ended) {
        ended.stats = self.release(ended.leg);
        self.events.send(Event::Ended(Box::new(ended)));
    }

    fn hang_up(&mut self, leg: LegId, reason: Option<String>) {
        if self.legs.find(leg) == Some(Leg::WebRtc) {
            self.finish(Ended::new(leg, Side::Local, Cause::Bye, reason.unwrap_or_else(|| "hung up".into())));
        }
    }

    /// A fault of ours ended the leg.
    pub(super) fn fail(&mut self, leg: LegId) {
        if self.legs.find(leg).is_some() {
            self.end(leg, Side::System, Cause::Error, "a fault in the gateway");
        }
    }

    /// Ends a leg from here: at once if it is a browser's; a SIP leg's peer gets its BYE first.
    fn end(&mut self, leg: LegId, by: Side, cause: Cause, reason: &str) {
        match leg.kind() {
            Kind::WebRtc => self.finish(Ended::new(leg, by, cause, reason)),
            Kind::Sip => {
                if cause == Cause::Error {
                    self.remove(leg);
                }
                self.sip.send(ToSip::MediaEnded { leg, cause, reason: reason.into() });
            }
        }
    }

    pub(super) fn on_media_event(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::Connected { leg } => self.events.send(Event::Connected { leg: leg.into() }),
            MediaEvent::Digit { leg, digit, duration } => {
                let event = Event::Digit { leg: leg.into(), digit, duration };
                // A peer can send digits without end, so they do not wait where the ends of calls do.
                match self.events.is_clogged() {
                    true => self.stats.losses.digits.add(1),
                    false => self.events.send(event),
                }
            }
            MediaEvent::Key { leg, digit, duration } => match self.sip.is_clogged() {
                true => self.stats.losses.digits.add(1),
                false => self.sip.send(ToSip::Key(leg.into(), Key { digit, duration })),
            },
            MediaEvent::Ended { leg, reason } => {
                let (by, cause, words) = explain(reason);
                self.end(leg.into(), by, cause, &words);
            }
            _ => {}
        }
    }

    fn stop(&mut self) {
        for leg in self.legs.ids() {
            self.finish(Ended::new(leg, Side::System, Cause::Bye, "the gateway stops"));
        }
        self.stopping = true;
    }
}

fn explain(reason: EndReason) -> (Side, Cause, String) {
    match reason {
        EndReason::IceFailed => (Side::System, Cause::IceFailed, "no network path to the browser".into()),
        EndReason::DtlsFailed(why) => {
            (Side::System, Cause::DtlsFailed, format!("the DTLS handshake failed: {why}"))
        }
        EndReason::MediaTimeout => {
            (Side::System, Cause::MediaTimeout, "no media arrived for too long".into())
        }
        EndReason::Closed => (Side::Remote, Cause::Closed, "the browser closed the connection".into()),
        _ => (Side::System, Cause::Error, "the media ended".into()),
    }
}
