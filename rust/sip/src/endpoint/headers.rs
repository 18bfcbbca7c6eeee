//! The headers this endpoint writes itself, and those it takes from its owner.

use super::{Endpoint, refresh, rel100, replaces};
use crate::transaction::Arrival;
use crate::{Body, BuildError, Builder, Error, Message, Name, Profile, Support};

/// The methods answered here (RFC 3261 20.5).
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY, \
    SUBSCRIBE";
/// The bodies understood here (RFC 3261 20.1).
pub(super) const ACCEPT: &str = "application/sdp";

/// REFER without notices (RFC 4488 7).
const NO_REFER_SUB: &str = "norefersub";

/// Whether an extension is spoken with a peer.
pub(super) fn understands(profile: &Profile, tag: &str) -> bool {
    let spoken = |name: &str, support| tag.eq_ignore_ascii_case(name) && support != Support::Off;
    spoken(rel100::TAG, profile.reliable)
        || spoken(refresh::TAG, profile.session.support)
        || [replaces::TAG, NO_REFER_SUB].iter().any(|always| tag.eq_ignore_ascii_case(always))
}

/// The extensions spoken with a peer (RFC 3261 20.37).
pub(super) fn supported(profile: &Profile) -> &'static str {
    match (profile.reliable, profile.session.support) {
        (Support::Off, Support::Off) => "replaces, norefersub",
        (_, Support::Off) => "replaces, norefersub, 100rel",
        (Support::Off, _) => "replaces, norefersub, timer",
        (_, _) => "replaces, norefersub, 100rel, timer",
    }
}

/// Headers that place a message in its transaction and dialog, or frame it: never the owner's to write.
const RESERVED: &[Name] = &[
    Name::Via,
    Name::From,
    Name::To,
    Name::CallId,
    Name::Cseq,
    Name::RecordRoute,
    Name::ContentLength,
    Name::ContentType,
];

/// Refuses headers the endpoint owns.
pub(super) fn check_headers(headers: &[(String, String)], also: &[Name]) -> Result<(), Error> {
    let reserved = |name| RESERVED.contains(&name) || also.contains(&name);
    match headers.iter().find(|(name, _)| reserved(Name::from_token(name.as_bytes()))) {
        Some((name, _)) => Err(Error::ReservedHeader(name.clone())),
        None => Ok(()),
    }
}

/// Whether the owner wrote `name` already.
pub(super) fn wrote(headers: &[(String, String)], name: Name) -> bool {
    headers.iter().any(|(given, _)| Name::from_token(given.as_bytes()) == name)
}

/// Refuses a header value that would break the message.
pub(super) fn check_value(name: Name, value: &str) -> Result<(), Error> {
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(BuildError::Control(name.to_string()).into());
    }
    Ok(())
}

/// Small additions to a message under construction.
pub(super) trait BuilderExt: Sized {
    fn headers(self, headers: &[(String, String)]) -> Self;
    fn maybe_body(self, body: Option<&Body>) -> Self;
    fn routed(self, routes: &[Box<str>]) -> Self;
    fn maybe(self, name: Name, value: Option<&str>) -> Self;
    /// What an INVITE asks of the peer: Supported, and Require where there is no doing without (RFC 3261 20.32).
    fn extensions(self, profile: &Profile) -> Self;
    /// `<sip:host:port>`, the Contact of a leg (8.1.1.8). Parameters may follow, and `sips:` stand in front.
    fn contact(self, host_port: &str) -> Self;
}

impl BuilderExt for Builder {
    fn headers(self, headers: &[(String, String)]) -> Self {
        headers.iter().fold(self, |builder, (name, value)| builder.header_named(name, value))
    }

    fn maybe_body(self, body: Option<&Body>) -> Self {
        match body {
            Some(body) => self.shared_body(&body.content_type, body.bytes.clone()),
            None => self,
        }
    }

    fn routed(self, routes: &[Box<str>]) -> Self {
        routes.iter().fold(self, |builder, route| builder.safe(Name::Route, route))
    }

    fn maybe(self, name: Name, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    fn extensions(self, profile: &Profile) -> Self {
        let builder = self.safe(Name::Supported, supported(profile));
        let required = |support, tag| (support == Support::Required).then_some(tag);
        let builder = builder
            .maybe(Name::Require, required(profile.reliable, rel100::TAG))
            .maybe(Name::Require, required(profile.session.support, refresh::TAG));
        refresh::propose(builder, profile)
    }

    fn contact(self, host_port: &str) -> Self {
        let start = if host_port.starts_with("sips:") { "<" } else { "<sip:" };
        self.framed(Name::Contact, start, host_port, ">")
    }
}

impl Endpoint {
    /// Sends a response without state; retransmissions of the request get the same again (8.2.7).
    pub(super) fn respond_stateless(
        &mut self,
        request: &Message,
        arrival: Arrival,
        status: u16,
        reason: &str,
        add: impl FnOnce(Builder) -> Builder,
    ) {
        let tag = self.prints.tag(request);
        let builder = Builder::response_to(request, arrival.flow.remote, status, reason)
            .to_tag(&tag)
            .safe(Name::Server, &self.user_agent);
        match add(builder).build() {
            Ok(bytes) => self.io.send_stateless(arrival.back, bytes),
            Err(_) => self.io.stats.dropped.unbuildable += 1,
        }
    }
}
