//! The answer to 401 and 407 (RFC 3261 22): the request once more, with credentials. Whoever sent it never knows.
//!
//! A challenge is answered only if our request went to the peer's own address and the realm is the pinned one: a
//! digest given to anybody else is a password to be guessed at leisure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::headers::BuilderExt;
use super::legs::{Invite, Leg, Stage};
use super::session::State;
use super::{Endpoint, LegKey};
use crate::dialog::{Dialog, DialogKey};
use crate::digest::{Challenge, Credentials, Session, Subject};
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, Request, User};
use crate::{Builder, Flow, Message, Method, Name, Profile};

/// Challenges answered for one request: 401 and 407, and each once more for a stale nonce.
const MAX_ROUNDS: u8 = 4;

/// Header lines of credentials.
type Lines = SmallVec<[(Name, Box<str>); 1]>;

/// What one dialog or registration knows of its peer's challenges.
#[derive(Debug, Clone)]
pub(crate) struct Auth {
    credentials: Arc<Credentials>,
    /// Where our first request went, or the peer's came from.
    home: IpAddr,
    sessions: SmallVec<[Session; 1]>,
    /// Challenges answered since the request was first sent.
    rounds: u8,
    /// The credentials of the last INVITE, which its ACK repeats (22.1).
    invite: Lines,
}

impl Auth {
    /// For somebody whose profile has credentials.
    pub(crate) fn of(profile: &Profile, home: IpAddr) -> Option<Box<Self>> {
        let credentials = Arc::clone(profile.credentials.as_ref()?);
        let (sessions, invite) = (SmallVec::new(), SmallVec::new());
        Some(Box::new(Self { credentials, home, sessions, rounds: 0, invite }))
    }

    /// The credentials for a new request, unasked (22.3): the nonces answered so far, counted on.
    pub(crate) fn unasked(&mut self, builder: Builder, method: Method, uri: &str, body: &[u8]) -> Builder {
        self.rounds = 0;
        let lines = self.sign(&Subject { method: method.as_str(), uri, body });
        if method == Method::Invite {
            self.invite.clone_from(&lines);
        }
        write(builder, &lines)
    }

    /// The same towards another server of the peer.
    pub(crate) fn at(mut self: Box<Self>, home: IpAddr) -> Box<Self> {
        self.home = home;
        self
    }

    /// The credentials of the INVITE on its ACK.
    pub(crate) fn repeated(&self, builder: Builder) -> Builder {
        write(builder, &self.invite)
    }

    fn sign(&mut self, subject: &Subject<'_>) -> Lines {
        let credentials = &self.credentials;
        let line =
            |session: &mut Session| Some((session.header(), session.sign(credentials, subject)?.into()));
        self.sessions.iter_mut().filter_map(line).collect()
    }

    /// Takes up the challenges of a response to a request; whether there is one to answer.
    fn take_up(&mut self, request: &Message, response: &Message, cnonce: &str) -> bool {
        let realm = Arc::clone(&self.credentials.realm);
        let mut any = false;
        // 22.3: a proxy that forks puts what it collects into one response, whatever its status.
        for (name, proxy) in [(Name::WwwAuthenticate, false), (Name::ProxyAuthenticate, true)] {
            let Some(challenge) = Challenge::choose(response, name, &realm) else { continue };
            let last = self.sessions.iter_mut().find(|session| session.proxy == proxy);
            if last.as_ref().is_some_and(|last| refused(last, request, &challenge)) {
                return false;
            }
            let session = Session::new(&challenge, proxy, cnonce.into());
            match last {
                Some(last) => *last = session,
                None => self.sessions.push(session),
            }
            any = true;
        }
        any
    }
}

/// Whether the same credentials would be refused again: the password is wrong if the very first use of a nonce does
/// not please, and one that was stale twice in a row is no clock's fault. A nonce that worked has only run out, and a
/// request that did not carry it says nothing of it. No weaker algorithm takes the place of a better one.
fn refused(last: &Session, request: &Message, challenge: &Challenge<'_>) -> bool {
    let first = last.count <= 1 && last.signed(request);
    last.outranks(challenge) || (first && (!challenge.stale || last.renewed))
}

fn write(builder: Builder, lines: &Lines) -> Builder {
    lines.iter().fold(builder, |builder, (name, value)| builder.header(*name, value))
}

impl Endpoint {
    /// Sends a challenged request again with credentials; false if the challenge is its sender's affair.
    pub(super) fn answer_challenge(
        &mut self,
        now: Instant,
        key: ClientKey,
        user: User,
        response: &Message,
    ) -> bool {
        if self.auth_mut(user).is_none() {
            return false;
        }
        let Some((request, flow)) = self.clients.sent(&self.io, key) else { return false };
        let Some(lines) = self.credentials_for(user, &request, flow, response) else { return false };
        let Some(method) = request.method() else { return false };
        let branch = self.ident.branch();
        let number = self.next_number(user, &request);
        let Some(bytes) = again(&request, flow, number, &branch, &lines) else {
            self.io.stats.dropped.unbuildable += 1;
            return false;
        };
        self.io.stats.challenged += 1;
        let client = self.clients.send(&mut self.io, now, Request { method, branch, bytes, flow, user });
        self.replace(now, user, key, client, number);
        true
    }

    /// Who answers for a request; nobody for one that its leg has given up.
    fn auth_mut(&mut self, user: User) -> Option<&mut Auth> {
        if let User::Invite(leg) = user {
            let calling = |leg: &&mut Leg| matches!(leg.state, State::Calling | State::Proceeding);
            return self.legs.get_mut(leg).filter(calling)?.auth.as_deref_mut();
        }
        if let User::Register(registration) = user {
            return self.registrations.auth_mut(registration);
        }
        if let User::Probe(number) = user {
            return self.challengeable.get_mut(&number).map(|probe| &mut *probe.auth);
        }
        let dialog = self.dialog_of(user)?;
        self.dialogs.get_mut(dialog)?.auth.as_deref_mut()
    }

    /// The dialog that a request of ours belongs to.
    fn dialog_of(&self, user: User) -> Option<DialogKey> {
        match user {
            User::Bye(dialog) | User::Prack(dialog) => Some(dialog),
            User::Info(leg) => self.legs.get(leg)?.dialogs.last().copied(),
            User::Reoffer(leg) => {
                let leg = self.legs.get(leg)?;
                let sent = matches!(leg.outgoing.as_ref()?.stage, Stage::Sent(_));
                leg.dialogs.last().copied().filter(|_| sent)
            }
            User::Notify(leg, _) | User::Refer(leg) => self.referrals.dialog(leg),
            User::Invite(_) | User::Former(_) | User::Probe(_) | User::Register(_) | User::Cancel => None,
        }
    }

    fn credentials_for(
        &mut self,
        user: User,
        request: &Message,
        flow: Flow,
        response: &Message,
    ) -> Option<Lines> {
        let cnonce = self.ident.call_id();
        let auth = self.auth_mut(user)?;
        let ip = flow.remote.ip();
        let own = auth.home == ip || auth.credentials.covers(ip.to_canonical());
        if !own || auth.rounds >= MAX_ROUNDS || !auth.take_up(request, response, &cnonce) {
            return None;
        }
        auth.rounds += 1;
        let uri = request.request_uri()?;
        let lines = auth.sign(&Subject { method: request.method_str(), uri, body: request.body() });
        if request.method() == Some(Method::Invite) {
            auth.invite.clone_from(&lines);
        }
        (!lines.is_empty()).then_some(lines)
    }

    /// CSeq of the repetition (22.2); in a dialog other requests may have taken the next number.
    fn next_number(&mut self, user: User, request: &Message) -> u32 {
        let dialog = self.dialog_of(user).and_then(|dialog| self.dialogs.get_mut(dialog));
        dialog.map_or(request.cseq_number().wrapping_add(1) & 0x7fff_ffff, Dialog::next_cseq)
    }

    /// What named the first transaction names the new one.
    fn replace(&mut self, now: Instant, user: User, old: ClientKey, new: ClientKey, number: u32) {
        match user {
            User::Invite(leg) => self.replace_invite(leg, new, number),
            User::Reoffer(leg) => {
                if let Some(open) = self.legs.get_mut(leg).and_then(|leg| leg.outgoing.as_mut()) {
                    open.stage = Stage::Sent(new);
                }
                self.with_timers(now, leg, |timers, io| timers.stop(io, TimerKind::ReofferHang));
            }
            User::Register(registration) => self.registrations.replace(now, registration, new, number),
            // The dialog waits for the new BYE's end.
            User::Bye(_) => self.clients.retire(&mut self.io, old, User::Cancel),
            User::Probe(probe) => {
                if let Some(until) = self.challengeable.get(&probe).map(|probe| probe.until) {
                    self.hurry_probe(now, new, until);
                }
            }
            User::Info(_) | User::Prack(_) | User::Former(_) | User::Cancel => {}
            User::Notify(leg, id) => self.replace_notify(leg, id, new),
            User::Refer(leg) => self.replace_refer(leg, new, number),
        }
    }

    /// Early dialogs of a challenged INVITE are over (13.2.2.3), and of the new one nothing has been heard, so that a
    /// CANCEL has to wait again (9.1).
    pub(super) fn replace_invite(&mut self, key: LegKey, client: ClientKey, number: u32) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        (leg.state, leg.invite) = (State::Calling, Invite::Sent(client));
        if let Some(draft) = &mut leg.draft {
            draft.renumber(number);
        }
        let early = std::mem::take(&mut leg.dialogs);
        early.into_iter().for_each(|dialog| self.dialogs.remove(dialog));
    }
}

/// A request once more: a new branch, the next CSeq and other credentials, all else as it was (22.2, 8.1.3.5).
fn again(request: &Message, flow: Flow, number: u32, branch: &str, lines: &Lines) -> Option<Bytes> {
    let via = request.top_via().ok()?;
    let method = request.method()?;
    let start = Builder::request_named(request.method_str(), request.request_uri()?);
    let mut builder = start.via(flow.transport, &via.sent_by(), branch);
    for (text, value) in request.headers() {
        builder = match Name::from_token(text.as_bytes()) {
            Name::Via
            | Name::Authorization
            | Name::ProxyAuthorization
            | Name::ContentLength
            | Name::ContentType => builder,
            Name::Cseq => builder.cseq(number, method),
            _ => builder.header_named(text, value),
        };
    }
    let body = crate::Body {
        content_type: request.content_type().unwrap_or_default().to_owned(),
        bytes: request.body_bytes(),
    };
    write(builder, lines).maybe_body(Some(&body).filter(|body| !body.bytes.is_empty())).build().ok()
}
