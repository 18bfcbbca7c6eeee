//! Session timers (RFC 4028): a session whose peer has vanished ends by itself. Negotiated here, refreshed here, and
//! nobody above knows.

use std::time::{Duration, Instant};

use super::headers::BuilderExt;
use super::legs::{Leg, Outgoing};
use super::refuse::Refusal;
use super::session::State;
use super::{Endpoint, LegKey};
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, Request, ServerKey, User};
use crate::{Body, Builder, Cause, Ended, Message, Method, Name, Profile, Side, Support, Transport};

/// The option tag (RFC 4028 4).
pub(super) const TAG: &str = "timer";
/// The shortest interval kept, whatever a peer answers that ignores our Min-SE.
const SHORTEST: u32 = 4;
/// How long after a refused refresh the next one is tried.
const AGAIN: Duration = Duration::from_secs(10);
/// The highest CSeq number that a 422 may bring an INVITE to: it is followed a few times.
const MAX_RAISES: u32 = 8;
/// The longest interval a 422 may ask for: a day.
const LONGEST: u32 = 86_400;

/// What a leg's session timer has come to.
#[derive(Debug)]
pub(crate) struct Session {
    /// Session-Expires, in seconds.
    interval: u32,
    /// The largest Min-SE seen (7.4).
    min: u32,
    /// We are the one who refreshes.
    ours: bool,
    /// The peer knows the timer and may be told who refreshes.
    known: bool,
    /// The peer takes UPDATE, which needs no description.
    by_update: bool,
    /// It has refused one all the same.
    update_refused: bool,
    /// Our last description, which a re-INVITE repeats to the letter (7.4).
    body: Option<Body>,
    /// How often a 422 to this refresh has been followed.
    raises: u32,
}

/// The seconds of Session-Expires and who refreshes: true for `uac` (4).
fn expires(message: &Message) -> Option<(u32, Option<bool>)> {
    let seconds = message.number(Name::SessionExpires)?;
    let value = message.header(Name::SessionExpires).unwrap_or_default();
    let role = value.split(';').skip(1).find_map(|param| {
        let (name, role) = param.split_once('=')?;
        name.trim().eq_ignore_ascii_case("refresher").then(|| role.trim().eq_ignore_ascii_case("uac"))
    });
    Some((seconds, role))
}

fn lists_timer(message: &Message) -> bool {
    let mut tags = message.supported().chain(message.require());
    tags.any(|tag| tag.eq_ignore_ascii_case(TAG))
}

fn allows_update(message: &Message) -> bool {
    message.values(Name::Allow).any(|method| method == Method::Update.as_str())
}

/// 422 for an interval below ours, if the peer can do anything about it (9).
pub(super) fn check(request: &Message, profile: &Profile) -> Result<(), Refusal> {
    if profile.session.support == Support::Off || !request.has(Name::SessionExpires) {
        return Ok(());
    }
    match expires(request) {
        Some((seconds, _)) if seconds < profile.session.min && lists_timer(request) => {
            Err(Refusal::with(422, Name::MinSe, profile.session.min.to_string()))
        }
        _ => Ok(()),
    }
}

/// What a session refresh request of the peer makes of the timer (9, table 2). `ours`: how it was so far.
fn negotiate(request: &Message, profile: &Profile, ours: bool) -> Option<Session> {
    let (wish, known, asked) = (&profile.session, lists_timer(request), expires(request));
    if wish.support == Support::Off || (!known && asked.is_none() && wish.support != Support::Required) {
        return None;
    }
    let floor = wish.min.max(request.number(Name::MinSe).unwrap_or(0));
    let (interval, role) =
        asked.map_or((wish.expires, None), |(seconds, role)| (seconds.min(wish.expires), role));
    // A peer without the extension cannot refresh on purpose (9).
    let ours = !known || role.map_or(ours, |uac| !uac);
    Some(Session {
        interval: interval.max(floor),
        min: floor,
        ours,
        known,
        by_update: allows_update(request),
        update_refused: false,
        body: None,
        raises: 0,
    })
}

/// What our INVITE says of the timer (7.1). No refresher: that is the peer's to choose.
pub(super) fn propose(builder: Builder, profile: &Profile) -> Builder {
    let wish = &profile.session;
    if wish.support == Support::Off {
        return builder;
    }
    let builder = builder.safe(Name::SessionExpires, &wish.expires.to_string());
    with_min(builder, wish.min)
}

/// Min-SE, unless it is the default (5).
fn with_min(builder: Builder, min: u32) -> Builder {
    if min > 90 { builder.safe(Name::MinSe, &min.to_string()) } else { builder }
}

impl Session {
    /// The lines of a 2xx of ours (9).
    fn answer(&self, builder: Builder) -> Builder {
        let role = if self.ours { "uas" } else { "uac" };
        let builder = builder.safe(Name::SessionExpires, &format!("{};refresher={role}", self.interval));
        if self.ours { builder } else { builder.safe(Name::Require, TAG) }
    }

    /// The lines of a re-INVITE or UPDATE of ours (7.4).
    fn request(&self, builder: Builder) -> Builder {
        let role = if self.ours { "uac" } else { "uas" };
        let value = match self.known {
            true => format!("{};refresher={role}", self.interval),
            false => self.interval.to_string(),
        };
        with_min(builder.safe(Name::SessionExpires, &value), self.min)
    }
}

impl Endpoint {
    /// Whether a request within a dialog asks for an interval below ours.
    pub(super) fn is_too_brief(&self, leg: LegKey, request: &Message) -> bool {
        request.has(Name::SessionExpires)
            && self.legs.get(leg).is_some_and(|leg| check(request, &leg.profile).is_err())
    }

    /// Adds to a 2xx what its request makes of the timer, which starts with it.
    pub(super) fn answer_session(
        &mut self,
        now: Instant,
        key: LegKey,
        server: ServerKey,
        builder: Builder,
        body: Option<&Body>,
    ) -> Builder {
        let Some(leg) = self.legs.get_mut(key) else { return builder };
        let Some(request) = self.servers.request(server) else { return builder };
        if leg.profile.session.support == Support::Off {
            return builder;
        }
        let last = leg.session.take();
        let ours = last.as_ref().is_some_and(|session| session.ours);
        let Some(mut session) = negotiate(request, &leg.profile, ours) else {
            self.stop_session(now, key);
            return builder;
        };
        session.update_refused = last.as_ref().is_some_and(|session| session.update_refused);
        session.by_update &= !session.update_refused;
        session.body = body.cloned().or(last.and_then(|session| session.body));
        let builder = session.answer(builder);
        leg.session = Some(Box::new(session));
        self.start_session(now, key);
        builder
    }

    /// Adds to a re-INVITE or UPDATE what keeps the timer as it is.
    pub(super) fn request_session(&self, key: LegKey, builder: Builder) -> Builder {
        let Some(leg) = self.legs.get(key) else { return builder };
        let Some(session) = &leg.session else { return builder };
        session.request(builder.safe(Name::Supported, TAG))
    }

    /// A 2xx to our INVITE, re-INVITE or UPDATE: it says what becomes of the timer (7.2).
    pub(super) fn session_answered(
        &mut self,
        now: Instant,
        key: LegKey,
        client: Option<ClientKey>,
        body: Option<Body>,
        response: &Message,
    ) {
        let Some(leg) = self.legs.get(key) else { return };
        let wish = leg.profile.session;
        if wish.support == Support::Off {
            return;
        }
        // 7.2: a peer without the extension never expires; where the timer must be, we keep it up alone.
        let agreed = match expires(response) {
            Some((seconds, role)) => Some((seconds.max(SHORTEST), role.unwrap_or(true), true)),
            None => (wish.support == Support::Required).then_some((wish.expires, true, false)),
        };
        let Some((interval, ours, known)) = agreed else { return self.stop_session(now, key) };
        let update_refused = leg.session.as_ref().is_some_and(|session| session.update_refused);
        let by_update = match &leg.session {
            Some(session) if !response.has(Name::Allow) => session.by_update,
            _ => allows_update(response) && !update_refused,
        };
        let last = leg.session.as_ref().and_then(|session| session.body.clone());
        let sent = || client.and_then(|client| self.sent_body(client));
        let body = body.or(last).or_else(sent);
        if let Some(leg) = self.legs.get_mut(key) {
            let min = leg.session.as_ref().map_or(wish.min, |session| session.min);
            leg.session = Some(Box::new(Session {
                interval,
                min,
                ours,
                known,
                by_update,
                update_refused,
                body,
                raises: 0,
            }));
        }
        self.start_session(now, key);
    }

    fn sent_body(&self, client: ClientKey) -> Option<Body> {
        let (request, _) = self.clients.sent(&self.io, client)?;
        let content_type = request.content_type()?.to_owned();
        Some(Body { content_type, bytes: request.body_bytes() })
    }

    /// Our description has changed.
    pub(super) fn describe_session(&mut self, key: LegKey, body: Option<&Body>) {
        let session = self.legs.get_mut(key).and_then(|leg| leg.session.as_mut());
        if let (Some(session), Some(body)) = (session, body) {
            session.body = Some(body.clone());
        }
    }

    /// 10: the refresher refreshes at half the interval; either side gives up a little before its end.
    fn start_session(&mut self, now: Instant, key: LegKey) {
        let Some((interval, ours)) = self
            .legs
            .get(key)
            .and_then(|leg| leg.session.as_ref())
            .map(|session| (session.interval, session.ours))
        else {
            return;
        };
        let end = interval.saturating_sub(interval.div_euclid(3).min(32));
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::SessionRefresh);
            timers.start_in(io, TimerKind::SessionEnd, Duration::from_secs(end.into()));
            if ours {
                let half = Duration::from_secs(interval.into()) / 2;
                timers.start_in(io, TimerKind::SessionRefresh, half);
            }
        });
    }

    fn stop_session(&mut self, now: Instant, key: LegKey) {
        if let Some(leg) = self.legs.get_mut(key) {
            leg.session = None;
        }
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::SessionRefresh);
            timers.stop(io, TimerKind::SessionEnd);
        });
    }

    /// Half of the interval is over. Any re-INVITE or UPDATE that is open refreshes just as well.
    pub(super) fn refresh_session(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key).filter(|leg| leg.state == State::Confirmed) else { return };
        let Some(session) = &leg.session else { return };
        let busy = leg.outgoing.is_some() || leg.reoffer.is_some() || leg.unacked.is_some() || leg.offers();
        if busy || (!session.by_update && session.body.is_none()) {
            return self.refresh_later(now, key);
        }
        let (method, body) = match session.by_update {
            true => (Method::Update, None),
            false => (Method::Invite, session.body.clone()),
        };
        leg.outgoing = Some(Box::new(Outgoing::new(method, body, true)));
        self.try_reoffer(now, key);
    }

    fn refresh_later(&mut self, now: Instant, key: LegKey) {
        self.with_timers(now, key, |timers, io| timers.start_in(io, TimerKind::SessionRefresh, AGAIN));
    }

    /// A refresh was refused: once more in a while, and by re-INVITE where the peer does not take UPDATE, whatever it
    /// says about that. 422 and 491 are about this one request, 401 and 407 about who sends it.
    pub(super) fn refresh_refused(&mut self, now: Instant, key: LegKey, status: u16, refused: bool) {
        let session = self.legs.get_mut(key).and_then(|leg| leg.session.as_mut());
        let about_update = refused && !matches!(status, 401 | 407 | 422 | 491);
        if let Some(session) = session.filter(|session| about_update && session.by_update) {
            session.update_refused = matches!(status, 405 | 501) || session.body.is_some();
            session.by_update = !session.update_refused;
        }
        self.refresh_later(now, key);
    }

    /// 7.3: Min-SE of a 422 is the least the next request asks for. False if it asks for no more than it was given, for
    /// too much, or again and again.
    pub(super) fn raise_interval(&mut self, key: LegKey, response: Option<&Message>) -> bool {
        let min = response.and_then(|response| response.number(Name::MinSe)).filter(|min| *min <= LONGEST);
        let session = self.legs.get_mut(key).and_then(|leg| leg.session.as_mut());
        let (Some(min), Some(session)) = (min, session) else { return false };
        let raised = min > session.interval && session.raises < MAX_RAISES;
        session.raises = session.raises.saturating_add(1);
        session.min = session.min.max(min);
        session.interval = session.interval.max(min);
        raised
    }

    /// 10: nobody has refreshed the session.
    pub(super) fn session_over(&mut self, now: Instant, key: LegKey) {
        if let Some(leg) = self.legs.get_mut(key) {
            leg.reason = Some("SIP;cause=408;text=\"Session expired\"".into());
        }
        let reason = "Session expired".to_owned();
        self.lose(now, key, Ended { by: Side::System, cause: Cause::Lost, status: None, reason });
    }

    /// 422 to our INVITE: once more, with the interval it asks for (7.3). False if there is no point.
    pub(super) fn ask_longer(
        &mut self,
        now: Instant,
        key: LegKey,
        client: ClientKey,
        response: &Message,
    ) -> bool {
        let Some(leg) = self.legs.get(key).filter(|leg| may_ask_again(leg, client)) else { return false };
        let Some(min) = response.number(Name::MinSe).filter(|min| *min <= LONGEST) else { return false };
        let interval = leg.profile.session.expires.max(min);
        let Some((invite, flow)) = self.clients.sent(&self.io, client) else { return false };
        let (number, branch) = (invite.cseq_number().wrapping_add(1), self.ident.branch());
        // Whoever asks for no more than it was given, or for ever more, is not to be pleased.
        if invite.number(Name::SessionExpires).is_none_or(|last| min <= last) || number > MAX_RAISES {
            return false;
        }
        let Some(start) = again(&invite, flow.transport, &branch, number) else { return false };
        let mut builder =
            start.safe(Name::SessionExpires, &interval.to_string()).safe(Name::MinSe, &min.to_string());
        if let Some(auth) = self.legs.get_mut(key).and_then(|leg| leg.auth.as_deref_mut()) {
            let uri = invite.request_uri().unwrap_or_default();
            builder = auth.unasked(builder, Method::Invite, uri, invite.body());
        }
        let content_type = invite.content_type().unwrap_or_default().to_owned();
        let body = Body { content_type, bytes: invite.body_bytes() };
        let described = Some(&body).filter(|body| !body.bytes.is_empty());
        let Ok(bytes) = builder.maybe_body(described).build() else { return false };
        let request = Request { method: Method::Invite, branch, bytes, flow, user: User::Invite(key) };
        let client = self.clients.send(&mut self.io, now, request);
        self.replace_invite(key, client, number);
        true
    }
}

fn may_ask_again(leg: &Leg, client: ClientKey) -> bool {
    let calling = matches!(leg.state, State::Calling | State::Proceeding);
    calling && leg.sent() == Some(client) && leg.profile.session.support != Support::Off
}

/// The INVITE once more under a new branch and number, but for what the caller adds.
fn again(invite: &Message, transport: Transport, branch: &str, number: u32) -> Option<Builder> {
    let via = invite.top_via().ok()?;
    let port = via.port.map(|port| format!(":{port}")).unwrap_or_default();
    let mut builder = Builder::request(Method::Invite, invite.request_uri()?)
        .via(transport, &format!("{}{port}", via.host), branch)
        .cseq(number, Method::Invite);
    for (text, value) in invite.headers() {
        builder = match Name::from_token(text.as_bytes()) {
            Name::Via
            | Name::Cseq
            | Name::SessionExpires
            | Name::MinSe
            | Name::Authorization
            | Name::ProxyAuthorization
            | Name::ContentLength
            | Name::ContentType => builder,
            _ => builder.header_named(text, value),
        };
    }
    Some(builder)
}
