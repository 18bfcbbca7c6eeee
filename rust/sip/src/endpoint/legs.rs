//! The table of legs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use slotmap::{SlotMap, new_key_type};
use smallvec::SmallVec;

use super::Auth;
use super::info::Keys;
use super::refresh::Session;
use super::rel100::Reliable;
use super::session::State;
use crate::dialog::{Dialog, DialogKey};
use crate::timer::TimerSet;
use crate::transaction::{ClientKey, ServerKey};
use crate::{Body, Error, Flow, LegId, Method, Profile, Target};

new_key_type! {
    /// One leg; stale keys find nothing.
    pub(crate) struct LegKey;
}

/// The transaction that set a leg up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invite {
    Sent(ClientKey),
    Received(ServerKey),
}

/// A 2xx of ours that waits for its ACK (13.3.1.4).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacked {
    pub(crate) server: ServerKey,
    /// The INVITE's CSeq number, which the ACK repeats.
    pub(crate) cseq: u32,
    /// The INVITE made no offer, so the 2xx does and the ACK answers.
    pub(crate) late_offer: bool,
}

/// A re-INVITE or UPDATE the application has to answer.
#[derive(Debug)]
pub(crate) struct Reoffer {
    pub(crate) dialog: DialogKey,
    pub(crate) server: ServerKey,
    pub(crate) method: Method,
    pub(crate) cseq: u32,
    /// No offer was made (late offer).
    pub(crate) late_offer: bool,
    /// The peer's new Contact, which counts once we accept (RFC 6141 4).
    pub(crate) target: Option<Box<str>>,
    /// The way it came, likewise, if that is the peer's.
    pub(crate) flow: Option<Flow>,
}

/// A re-INVITE or UPDATE of ours.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) body: Option<Body>,
    pub(crate) stage: Stage,
    /// How often it had to wait for the peer's own.
    pub(crate) collisions: u8,
    /// It is the session timer's; the application knows nothing of it.
    pub(crate) refreshes: bool,
    /// The application's, which came while the session timer's was under way.
    pub(crate) next: Option<Box<Outgoing>>,
}

/// How far a re-INVITE or UPDATE of ours has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not sent, or sent back: it will be sent when [`TimerKind::ReofferRetry`](crate::timer::TimerKind) fires.
    Waiting,
    /// Under way.
    Sent(ClientKey),
    /// Taken back before any response: CANCEL must wait for one (9.1).
    CancelHeld(ClientKey),
    /// CANCEL is out.
    Cancelled(ClientKey),
}

impl Outgoing {
    pub(crate) fn new(method: Method, body: Option<Body>, refreshes: bool) -> Self {
        Self { method, body, stage: Stage::Waiting, collisions: 0, refreshes, next: None }
    }

    /// Its transaction, while there is one.
    pub(crate) fn client(&self) -> Option<ClientKey> {
        match self.stage {
            Stage::Waiting => None,
            Stage::Sent(key) | Stage::CancelHeld(key) | Stage::Cancelled(key) => Some(key),
        }
    }
}

/// The ACK of a 2xx with an offer, or the PRACK of such a 1xx, which waits for the application's answer (13.2.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) client: ClientKey,
    pub(crate) dialog: DialogKey,
    /// Of the INVITE.
    pub(crate) cseq: u32,
    /// Of the 1xx.
    pub(crate) rseq: Option<u32>,
}

/// The targets that our INVITE has not been sent to yet.
#[derive(Debug)]
pub(crate) struct Tries {
    /// The INVITE as the first target got it.
    pub(crate) invite: Bytes,
    pub(crate) others: std::vec::IntoIter<Target>,
    /// The owner has more of them.
    elsewhere: bool,
}

impl Tries {
    /// `None` if one target is all there is.
    pub(crate) fn new(invite: &Bytes, others: Vec<Target>, elsewhere: bool) -> Option<Box<Self>> {
        let any = elsewhere || !others.is_empty();
        any.then(|| Box::new(Self { invite: invite.clone(), others: others.into_iter(), elsewhere }))
    }

    pub(crate) fn are_left(&self) -> bool {
        self.elsewhere || !self.others.as_slice().is_empty()
    }
}

/// One leg.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) id: LegId,
    /// How its peer wants to be spoken to.
    pub(crate) profile: Arc<Profile>,
    pub(crate) state: State,
    pub(crate) invite: Invite,
    /// The dialogs of this leg: early ones while it is called out, one for good once it stands.
    pub(crate) dialogs: SmallVec<[DialogKey; 2]>,
    /// What our INVITE knows of its dialog before any response; used up by the first.
    pub(crate) draft: Option<Box<Dialog>>,
    /// Where our INVITE goes should it fail where it went; `None` if there was nowhere else from the start.
    pub(crate) tries: Option<Box<Tries>>,
    pub(crate) unacked: Option<Unacked>,
    pub(crate) reliable: Option<Box<Reliable>>,
    pub(crate) session: Option<Box<Session>>,
    pub(crate) reoffer: Option<Box<Reoffer>>,
    /// The same of ours.
    pub(crate) outgoing: Option<Box<Outgoing>>,
    /// Keys for the peer, while one is under way.
    pub(crate) keys: Option<Box<Keys>>,
    /// The offers of the peer that wait for the application's answers, first come, first served.
    pub(crate) owed: Vec<Owed>,
    /// Our INVITE made no offer, so the peer does.
    pub(crate) expects_offer: bool,
    pub(crate) timers: TimerSet,
    /// Answers the challenges to its INVITE, where its peer may challenge us.
    pub(crate) auth: Option<Box<Auth>>,
    /// The Reason header of a CANCEL or BYE that had to wait.
    pub(crate) reason: Option<Box<str>>,
    /// Ended has been told; the leg is silent from here on.
    pub(crate) reported: bool,
}

impl Leg {
    pub(crate) fn new(id: LegId, state: State, invite: Invite, profile: &Arc<Profile>) -> Self {
        Self {
            id,
            profile: Arc::clone(profile),
            state,
            invite,
            dialogs: SmallVec::new(),
            draft: None,
            tries: None,
            unacked: None,
            reoffer: None,
            outgoing: None,
            owed: Vec::new(),
            keys: None,
            reliable: None,
            session: None,
            expects_offer: false,
            timers: TimerSet::default(),
            auth: None,
            reason: None,
            reported: false,
        }
    }

    /// The dialog of a leg that is being called, or that stands.
    pub(crate) fn dialog(&self) -> Option<DialogKey> {
        self.dialogs.first().copied()
    }

    /// Whether an offer of ours, or one that a re-INVITE of ours asks for, is under way, its ACK included. An UPDATE
    /// without a description is in nobody's way (RFC 3311 5.2).
    pub(crate) fn offers(&self) -> bool {
        let offers = |open: &Outgoing| open.method == Method::Invite || open.body.is_some();
        let under_way =
            self.outgoing.as_ref().is_some_and(|open| open.stage != Stage::Waiting && offers(open));
        under_way || !self.owed.is_empty()
    }

    pub(crate) fn sent(&self) -> Option<ClientKey> {
        match self.invite {
            Invite::Sent(key) => Some(key),
            Invite::Received(_) => None,
        }
    }

    pub(crate) fn received(&self) -> Option<ServerKey> {
        match self.invite {
            Invite::Received(key) => Some(key),
            Invite::Sent(_) => None,
        }
    }
}

/// Spreads the owner's names for legs, which no peer chooses.
#[derive(Debug, Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(8) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// All legs, by key and by the owner's name for them.
#[derive(Debug, Default)]
pub(crate) struct Legs {
    all: SlotMap<LegKey, Leg>,
    /// Legs whose end has not been told; ids are the owner's own, not a peer's.
    by_id: HashMap<LegId, LegKey, BuildHasherDefault<Mixed>>,
    /// Legs whose end has not been told, of trunks that may have so many only.
    by_trunk: HashMap<Arc<str>, usize>,
}

impl Legs {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What lies in each table, and how much it has room for.
    #[cfg(test)]
    pub(crate) fn tables(&self) -> [(usize, usize); 2] {
        [(self.all.len(), self.all.capacity()), (self.by_id.len(), self.by_id.capacity())]
    }

    pub(crate) fn insert(&mut self, leg: Leg) -> LegKey {
        let id = leg.id;
        if leg.profile.admission.max_calls.is_some() {
            *self.by_trunk.entry(Arc::clone(&leg.profile.name)).or_default() += 1;
        }
        let key = self.all.insert(leg);
        self.by_id.insert(id, key);
        key
    }

    /// How many legs a trunk has, if it may have so many only.
    pub(crate) fn of_trunk(&self, name: &Arc<str>) -> usize {
        self.by_trunk.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn contains(&self, id: LegId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The leg a command names.
    pub(crate) fn find(&self, id: LegId) -> Result<LegKey, Error> {
        self.by_id.get(&id).copied().ok_or(Error::UnknownLeg(id))
    }

    pub(crate) fn get(&self, key: LegKey) -> Option<&Leg> {
        self.all.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: LegKey) -> Option<&mut Leg> {
        self.all.get_mut(key)
    }

    /// Marks the end as told; true the first time.
    pub(crate) fn report(&mut self, key: LegKey) -> Option<LegId> {
        let leg = self.all.get_mut(key).filter(|leg| !leg.reported)?;
        leg.reported = true;
        let (id, limited) = (leg.id, leg.profile.admission.max_calls.is_some());
        let trunk = limited.then(|| Arc::clone(&leg.profile.name));
        self.by_id.remove(&id);
        self.leaves(trunk.as_ref());
        Some(id)
    }

    pub(crate) fn remove(&mut self, key: LegKey) -> Option<Leg> {
        let leg = self.all.remove(key)?;
        if !leg.reported {
            self.by_id.remove(&leg.id);
            self.leaves(leg.profile.admission.max_calls.map(|_| &leg.profile.name));
        }
        Some(leg)
    }

    /// One leg less; a trunk without legs leaves nothing.
    fn leaves(&mut self, trunk: Option<&Arc<str>>) {
        let Some(trunk) = trunk else { return };
        if let Some(count) = self.by_trunk.get_mut(trunk) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_trunk.remove(trunk);
            }
        }
    }
}
