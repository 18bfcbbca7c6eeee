//! Transfers: REFER both ways, and acquainting the peers of legs that were bridged anew.

use super::SipThread;
use super::commands::refused;
use crate::command::{Command, Dial};
use crate::event::{Event, Outcome, Refer};
use crate::message::{MediaJob, Purpose};
use crate::{EngineError, Kind, LegId};
use std::time::Instant;
use telephony_sip::{ReferTo, Referred};

type Result<T = ()> = std::result::Result<T, EngineError>;

impl SipThread {
    /// The commands of transfers.
    pub(super) fn transfer(&mut self, now: Instant, command: Command) -> Result {
        match command {
            Command::Refer { leg, target, replaces, referred_by } => {
                self.refer(now, leg, &target, replaces, referred_by.as_deref())
            }
            Command::AcceptRefer { leg, id } => {
                self.endpoint.accept_refer(now, leg.sip(), id).map_err(refused)
            }
            Command::RefuseRefer { leg, id, status } => {
                self.endpoint.refuse_refer(now, leg.sip(), id, status).map_err(refused)
            }
            Command::NotifyRefer { leg, id, status, reason } => {
                self.endpoint.notify_refer(now, leg.sip(), id, status, &reason).map_err(refused)
            }
            Command::Introduce { first, second } => {
                self.introduce(now, first, second);
                Ok(())
            }
            _ => Err(EngineError::wrong_state("the SIP thread moves no media")),
        }
    }

    pub(super) fn on_refer(&mut self, leg: LegId, id: u32, referred: Referred) {
        let Referred { refer_to, referred_by, replaces } = referred;
        let (uri, headers) = (refer_to.uri, refer_to.headers);
        let replaces = replaces.map(|(named, early_only)| (LegId::from(named), early_only));
        // From here on somebody decides who talks to whom.
        [Some(leg), replaces.map(|(named, _)| named)].into_iter().flatten().for_each(|leg| self.unlink(leg));
        self.events.send(Event::Refer(Box::new(Refer { leg, id, uri, headers, referred_by, replaces })));
    }

    pub(super) fn on_referral(&mut self, leg: LegId, status: Option<u16>, reason: String, last: bool) {
        // A peer can tell without end, so only the last word waits where the ends of calls do.
        if last || !self.events.is_clogged() {
            self.events.send(Event::Referral { leg, status, reason, last });
        }
    }

    fn refer(
        &mut self,
        now: Instant,
        leg: LegId,
        target: &str,
        replaces: Option<(LegId, bool)>,
        referred_by: Option<&str>,
    ) -> Result {
        let replacing = match replaces {
            Some((other, early_only)) => {
                let named = self.endpoint.replacing(other.sip(), early_only);
                Some(named.ok_or_else(EngineError::unknown_leg)?)
            }
            None => None,
        };
        let target = replacing.as_deref().unwrap_or(target);
        self.endpoint.refer(now, leg.sip(), target, referred_by).map_err(refused)
    }

    /// Sends a call to the peer of another leg, the way that leg's messages go, to take its place there.
    pub(super) fn aim_at_peer(&self, dial: &mut Dial, other: LegId) -> Result {
        let named = self.endpoint.replacing(other.sip(), false).zip(self.endpoint.flow(other.sip()));
        let (uri, flow) = named.ok_or_else(EngineError::unknown_leg)?;
        let refer_to = ReferTo::parse(&format!("<{uri}>"));
        let refer_to = refer_to.map_err(|error| EngineError::wrong_state(error.what()))?;
        dial.next_hop = Some(format!("sip:{}{}", flow.remote, flow.transport.uri_parameter()));
        dial.uri = refer_to.uri;
        dial.headers.extend(refer_to.headers);
        dial.headers.push(("Require".to_owned(), "replaces".to_owned()));
        Ok(())
    }

    /// Has both legs looked at: what one's peer does and the other's does not know is told by a re-INVITE. A browser is
    /// told by its own signalling, but what it does may be news for a telephone, which was on hold before.
    fn introduce(&mut self, now: Instant, first: LegId, second: LegId) {
        for leg in [first, second] {
            if leg.kind() != Kind::Sip || self.legs.get(&leg).is_some_and(|leg| leg.is_free()) {
                self.ask_worker(now, leg, Purpose::Introduce, MediaJob::Review);
            }
        }
    }

    pub(super) fn on_introduced(&mut self, now: Instant, leg: LegId, result: Result<Outcome>) {
        let news = result.ok().and_then(|outcome| outcome.news);
        let Some((news, other)) = news.and_then(|news| Some((news, LegId::from(news.peer?)))) else { return };
        if self.legs.get(&other).is_some_and(|other| other.is_free()) {
            self.tell_other(now, leg, other, news);
        }
    }
}
