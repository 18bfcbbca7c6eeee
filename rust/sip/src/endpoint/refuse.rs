//! Requests that end before they begin: the checks of RFC 3261 8.2, answered without state.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::headers::{ACCEPT, ALLOW, understands};
use super::subscribed::subscribed_outside;
use crate::admission::Ground;
use crate::header::scan::until;
use crate::transaction::{Arrival, ServerKey};
use crate::{Builder, Message, Method, Name, Profile, Scheme};

/// Retry-After of a refusal because tables are full, in seconds.
const FULL_RETRY_AFTER: std::ops::RangeInclusive<u32> = 5..=15;

/// A refusal: status, reason phrase, and the header that says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    reason: &'static str,
    header: Option<(Name, String)>,
}

impl Refusal {
    pub(super) fn plain(status: u16, reason: &'static str) -> Self {
        Self { status, reason, header: None }
    }

    pub(super) fn with(status: u16, name: Name, value: impl Into<String>) -> Self {
        Self { status, reason: "", header: Some((name, value.into())) }
    }

    fn explained(&self, builder: Builder) -> Builder {
        match &self.header {
            Some((name, value)) => builder.header(*name, value),
            None => builder,
        }
    }
}

impl Endpoint {
    /// A request outside any dialog: refused, answered, or a new call.
    pub(super) fn out_of_dialog(
        &mut self,
        now: Instant,
        request: &Message,
        mut arrival: Arrival,
        profile: &Arc<Profile>,
    ) {
        if let Err(refusal) = self.check(request, &mut arrival, profile) {
            return self.refuse(request, arrival, &refusal, profile);
        }
        match request.method() {
            Some(Method::Invite) => self.invited(now, request, arrival, profile),
            Some(Method::Register) => self.on_register(now, request, arrival, profile),
            Some(Method::Options) => self.options(request, arrival, profile),
            // Nobody is called here for who is in no call.
            Some(Method::Refer) => {
                self.refuse(request, arrival, &Refusal::plain(403, "REFER outside a call"), profile);
            }
            Some(Method::Subscribe) => self.refuse(request, arrival, &subscribed_outside(request), profile),
            _ => self.refuse(request, arrival, &Refusal::plain(481, ""), profile),
        }
    }

    /// An INVITE: it may have to say who sends it. One that came by our registration is the registrar's.
    fn invited(&mut self, now: Instant, invite: &Message, arrival: Arrival, profile: &Arc<Profile>) {
        let registered = self.registered_as(invite, arrival.flow);
        let profile = registered.as_ref().unwrap_or(profile);
        if let Ok(user) = self.admitted(now, invite, arrival, profile) {
            self.new_call(now, invite, arrival, profile, user);
        }
    }

    pub(super) fn refuse(
        &mut self,
        request: &Message,
        arrival: Arrival,
        refusal: &Refusal,
        profile: &Profile,
    ) {
        self.io.stats.refused += 1;
        let ground = Ground::of(refusal.status);
        self.note(ground, Some(refusal.status), request, arrival.flow, profile, refusal.reason);
        let explain = |builder| refusal.explained(builder);
        self.respond_stateless(request, arrival, refusal.status, refusal.reason, explain);
    }

    /// The same by a transaction, which repeats it.
    pub(super) fn refuse_statefully(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        server: ServerKey,
        refusal: &Refusal,
        profile: &Profile,
    ) {
        self.io.stats.refused += 1;
        let ground = Ground::of(refusal.status);
        self.note(ground, Some(refusal.status), request, arrival.flow, profile, refusal.reason);
        let tag = self.prints.tag(request);
        let Some(builder) = self.servers.reply(server, refusal.status, refusal.reason) else { return };
        self.finish_reply(now, server, refusal.status, refusal.explained(builder.to_tag(&tag)));
    }

    /// 503 with a Retry-After that spreads the callers out (21.5.4).
    pub(super) fn overloaded(&mut self, request: &Message, arrival: Arrival, profile: &Profile) {
        let range = self.refusing.clone().unwrap_or(FULL_RETRY_AFTER);
        self.note(Ground::Overload, Some(503), request, arrival.flow, profile, "");
        self.unavailable(request, arrival, &range);
    }

    pub(super) fn unavailable(
        &mut self,
        request: &Message,
        arrival: Arrival,
        range: &std::ops::RangeInclusive<u32>,
    ) {
        let seconds = self.ident.within(range).to_string();
        self.io.stats.overloaded += 1;
        self.respond_stateless(request, arrival, 503, "", |builder| {
            builder.header(Name::RetryAfter, seconds)
        });
    }

    /// Whether there is no room for another call.
    pub(super) fn is_full(&self) -> bool {
        self.servers.len() + self.clients.len() >= self.max_transactions
            || self.dialogs.len() >= self.max_dialogs
    }

    /// The inspections in the order of 8.2.
    fn check(&self, request: &Message, arrival: &mut Arrival, profile: &Profile) -> Result<(), Refusal> {
        let registers = request.method() == Some(Method::Register) && self.doorman.users.is_some();
        if registers {
            return check_register(request);
        }
        check_method(request)?;
        check_scheme(request)?;
        check_hops(request)?;
        if self.servers.is_merged(request, arrival) {
            return Err(Refusal::plain(482, ""));
        }
        check_extensions(request, profile)?;
        check_accept(request)?;
        check_body(request)
    }
}

/// 8.2.1: an unknown method gets 405 and the known ones.
pub(super) fn check_method(request: &Message) -> Result<(), Refusal> {
    use Method::{Ack, Bye, Cancel, Info, Invite, Notify, Options, Prack, Refer, Subscribe, Update};
    match request.method() {
        Some(Invite | Ack | Cancel | Bye | Options | Info | Prack | Update) => Ok(()),
        Some(Refer | Notify | Subscribe) => Ok(()),
        _ => Err(Refusal::with(405, Name::Allow, ALLOW)),
    }
}

/// What REGISTER may require: Path (RFC 3327) and flows (RFC 5626).
fn check_register(request: &Message) -> Result<(), Refusal> {
    let unknown = |tag: &&str| !matches!(*tag, "path" | "outbound");
    match request.require().filter(unknown).collect::<Vec<_>>().join(", ") {
        unknown if unknown.is_empty() => Ok(()),
        unknown => Err(Refusal::with(420, Name::Unsupported, unknown)),
    }
}

/// 8.2.2.1: a scheme that is not ours to understand.
fn check_scheme(request: &Message) -> Result<(), Refusal> {
    match request.uri().map(|uri| uri.scheme()) {
        Some(Scheme::Other(_)) => Err(Refusal::plain(416, "")),
        Some(_) => Ok(()),
        None => Err(Refusal::plain(400, "Malformed Request-URI")),
    }
}

/// A gateway calls on, so a call that has used up its hops stops here (16.3, RFC 7332); OPTIONS ends here anyway (11).
fn check_hops(request: &Message) -> Result<(), Refusal> {
    if request.max_forwards() == Some(0) && request.method() == Some(Method::Invite) {
        return Err(Refusal::plain(483, ""));
    }
    Ok(())
}

/// 8.2.2.3: every required extension must be understood.
pub(super) fn check_extensions(request: &Message, profile: &Profile) -> Result<(), Refusal> {
    if !request.has(Name::Require) {
        return Ok(());
    }
    let unknown = request.require().filter(|tag| !understands(profile, tag));
    let unsupported = unknown.collect::<Vec<_>>().join(", ");
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Refusal::with(420, Name::Unsupported, unsupported))
}

/// 8.2.3: a body that must be understood and is not; INFO may carry anything.
pub(super) fn check_body(request: &Message) -> Result<(), Refusal> {
    let describes_session = matches!(request.method(), Some(Method::Invite | Method::Update | Method::Prack));
    if request.body().is_empty() || !describes_session || is_optional(request) {
        return Ok(());
    }
    if request.values(Name::ContentEncoding).any(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(Refusal::with(415, Name::AcceptEncoding, "identity"));
    }
    let media_type = until(request.content_type().unwrap_or_default(), b';').trim();
    let known = media_type.eq_ignore_ascii_case(ACCEPT)
        || media_type.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if known { Ok(()) } else { Err(Refusal::with(415, Name::Accept, ACCEPT)) }
}

/// 21.4.7: a caller that takes no session description cannot be answered with one (RFC 4475 3.3.15).
fn check_accept(request: &Message) -> Result<(), Refusal> {
    if request.method() != Some(Method::Invite) || !request.has(Name::Accept) {
        return Ok(());
    }
    let takes = |range: &str| {
        let essence = range.split(';').next().unwrap_or_default().trim();
        [ACCEPT, "application/*", "*/*"].iter().any(|known| essence.eq_ignore_ascii_case(known))
    };
    match request.values(Name::Accept).any(takes) {
        true => Ok(()),
        false => Err(Refusal::with(406, Name::Accept, ACCEPT)),
    }
}

/// 20.11: `handling=optional` lets a body be ignored.
fn is_optional(request: &Message) -> bool {
    let disposition = request.header(Name::ContentDisposition).unwrap_or_default().to_ascii_lowercase();
    disposition
        .split(';')
        .skip(1)
        .any(|param| param.split_whitespace().collect::<String>() == "handling=optional")
}
