//! The table of referrals: REFERs that peers sent us and that we sent them, with the subscriptions that they imply
//! (RFC 3515 2.4.4). Plain calls have none and leave nothing here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use crate::dialog::DialogKey;
use crate::transaction::{ClientKey, ServerKey};
use crate::{Body, LegId};

/// Referrals of one leg at a time.
const MAX_OF_LEG: usize = 4;
/// News that wait for an answer to the news before.
const MAX_WAITING: usize = 8;
/// What ours is filed under: no CSeq number is as large (RFC 3261 8.1.1.5).
pub(crate) const OURS: u32 = u32::MAX;

/// How far something that was asked for has come, in the words of a response (RFC 3515 2.4.5).
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) status: u16,
    pub(super) reason: Box<str>,
    pub(super) state: Subscription,
}

/// What becomes of the subscription with a notice (RFC 6665 4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    Active,
    /// It has nothing more to tell.
    Finished,
    /// Nobody has said how it ended in all the time that it had.
    TimedOut,
}

/// Our side of a subscription that a peer's REFER made.
#[derive(Debug, Default)]
pub(super) struct Telling {
    pub(super) waiting: VecDeque<Notice>,
    pub(super) open: Option<ClientKey>,
    /// How far it had come with the notice put in last.
    pub(super) last: (u16, Box<str>),
    /// The last notice is among those that wait or are out.
    pub(super) is_over: bool,
    /// Notices say which REFER they are about: it was not the dialog's first (RFC 3515 2.4.6).
    pub(super) is_named: bool,
}

impl Telling {
    /// Puts a notice behind those that wait. What is out of date by then is not worth telling.
    pub(super) fn push(&mut self, notice: Notice) {
        self.is_over |= notice.state != Subscription::Active;
        self.last = (notice.status, notice.reason.clone());
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(notice);
    }
}

/// Our REFER.
#[derive(Debug)]
pub(super) struct Asking {
    /// Its transaction, until the peer has answered it or told of its progress.
    pub(super) client: Option<ClientKey>,
    /// Its CSeq number, which the peer's notices may name.
    pub(super) cseq: u32,
    /// The outcome has been told; the peer's last notice may still come.
    pub(super) is_over: bool,
}

/// Who asked whom, and how far that has come.
#[derive(Debug)]
pub(super) enum Role {
    /// The peer asked, the application decides.
    Asked {
        server: ServerKey,
        /// The peer wants to be told (RFC 4488 4).
        subscribes: bool,
    },
    /// The peer asked and is being told.
    Telling(Telling),
    /// We asked.
    Asking(Asking),
}

/// One REFER.
#[derive(Debug)]
pub(super) struct Referral {
    pub(super) id: u32,
    pub(super) role: Role,
    deadline: Option<Instant>,
}

/// What is done once a leg's last notice is out of the way.
#[derive(Debug, Default)]
pub(super) enum Then {
    /// Nothing: the leg lives.
    #[default]
    Stay,
    /// We hung up: the BYE waits until the peer knows how its transfer went.
    Leave(Option<Box<str>>),
    /// The peer hung up.
    Forget,
}

#[derive(Debug)]
struct OfLeg {
    dialog: DialogKey,
    referrals: Vec<Referral>,
    then: Then,
}

/// All referrals.
#[derive(Debug, Default)]
pub(crate) struct Referrals {
    of_leg: HashMap<LegId, OfLeg>,
    due: BTreeSet<(Instant, LegId, u32)>,
}

impl Referrals {
    pub(crate) fn is_empty(&self) -> bool {
        self.of_leg.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// What is due, one at a time; its deadline is no more.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(LegId, u32)> {
        let (at, leg, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.schedule(leg, id, None);
        self.due.remove(&(at, leg, id));
        Some((leg, id))
    }

    pub(crate) fn dialog(&self, leg: LegId) -> Option<DialogKey> {
        self.of_leg.get(&leg).map(|of| of.dialog)
    }

    pub(super) fn get_mut(&mut self, leg: LegId, id: u32) -> Option<&mut Role> {
        let of = self.of_leg.get_mut(&leg)?;
        of.referrals.iter_mut().find(|referral| referral.id == id).map(|referral| &mut referral.role)
    }

    pub(super) fn telling(&mut self, leg: LegId, id: u32) -> Option<&mut Telling> {
        match self.get_mut(leg, id)? {
            Role::Telling(telling) => Some(telling),
            _ => None,
        }
    }

    /// The notices that a SUBSCRIBE is about: those of the REFER whose number it names, or of the dialog's first
    /// (RFC 3515 2.4.6), which is not over.
    pub(super) fn subscription(&self, dialog: DialogKey, named: Option<u32>) -> Option<(LegId, u32)> {
        let (leg, of) = self.of_leg.iter().find(|(_, of)| of.dialog == dialog)?;
        let found = of.referrals.iter().find(|referral| match (&referral.role, named) {
            (Role::Telling(telling), _) if telling.is_over => false,
            (Role::Telling(_), Some(id)) => referral.id == id,
            (Role::Telling(telling), None) => !telling.is_named,
            _ => false,
        });
        found.map(|referral| (*leg, referral.id))
    }

    pub(super) fn asking(&mut self, leg: LegId) -> Option<&mut Asking> {
        match self.get_mut(leg, OURS)? {
            Role::Asking(asking) => Some(asking),
            _ => None,
        }
    }

    /// Whether the leg may have another one of this number.
    pub(super) fn has_room(&self, leg: LegId, id: u32) -> bool {
        self.of_leg.get(&leg).is_none_or(|of| {
            of.referrals.len() < MAX_OF_LEG && of.referrals.iter().all(|referral| referral.id != id)
        })
    }

    pub(super) fn insert(&mut self, leg: LegId, id: u32, dialog: DialogKey, role: Role) {
        let fresh = || OfLeg { dialog, referrals: Vec::new(), then: Then::Stay };
        let of = self.of_leg.entry(leg).or_insert_with(fresh);
        of.referrals.push(Referral { id, role, deadline: None });
    }

    /// When to come back for one.
    pub(super) fn schedule(&mut self, leg: LegId, id: u32, at: Option<Instant>) {
        let Some(of) = self.of_leg.get_mut(&leg) else { return };
        let Some(referral) = of.referrals.iter_mut().find(|referral| referral.id == id) else { return };
        if let Some(last) = std::mem::replace(&mut referral.deadline, at) {
            self.due.remove(&(last, leg, id));
        }
        self.due.extend(at.map(|at| (at, leg, id)));
    }

    pub(super) fn deadline(&self, leg: LegId, id: u32) -> Option<Instant> {
        let of = self.of_leg.get(&leg)?;
        of.referrals.iter().find(|referral| referral.id == id)?.deadline
    }

    /// Forgets one. With the last of its leg comes what is to be done then.
    pub(super) fn remove(&mut self, leg: LegId, id: u32) -> Option<(DialogKey, Then)> {
        self.schedule(leg, id, None);
        let of = self.of_leg.get_mut(&leg)?;
        of.referrals.retain(|referral| referral.id != id);
        if !of.referrals.is_empty() {
            return None;
        }
        self.of_leg.remove(&leg).map(|of| (of.dialog, of.then))
    }

    /// The numbers of a leg's referrals.
    pub(super) fn numbers(&self, leg: LegId) -> Vec<u32> {
        let referrals = self.of_leg.get(&leg).map(|of| of.referrals.as_slice()).unwrap_or_default();
        referrals.iter().map(|referral| referral.id).collect()
    }

    /// The leg is over; whether somebody has still to be told something first.
    pub(super) fn finally(&mut self, leg: LegId, then: Then) -> bool {
        let Some(of) = self.of_leg.get_mut(&leg) else { return false };
        of.then = then;
        true
    }

    /// Whether the end of the leg waits here already.
    pub(super) fn awaits_end(&self, leg: LegId) -> bool {
        self.of_leg.get(&leg).is_some_and(|of| !matches!(of.then, Then::Stay))
    }
}

/// A sipfrag of nothing but a status line (RFC 3420, RFC 3515 2.4.5).
pub(super) fn sipfrag(status: u16, reason: &str) -> Body {
    let reason = if reason.is_empty() { crate::StatusCode(status).reason() } else { reason };
    let text = format!("SIP/2.0 {status} {reason}\r\n");
    Body { content_type: "message/sipfrag;version=2.0".to_owned(), bytes: text.into() }
}

/// The status and the phrase of a sipfrag's status line; what follows it is of no interest.
pub(super) fn read_sipfrag(body: &[u8]) -> Option<(u16, String)> {
    /// Longer phrases are cut.
    const MAX_REASON: usize = 128;
    let line = body.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let line = String::from_utf8_lossy(line.get(..line.len().min(MAX_REASON))?);
    let mut words = line.splitn(3, ' ');
    let version = words.next()?.eq_ignore_ascii_case("SIP/2.0");
    let status = words.next()?.parse().ok().filter(|status| (100..700).contains(status))?;
    let reason = words.next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    version.then_some((status, reason))
}
