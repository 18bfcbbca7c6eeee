//! What stands in a REGISTER of ours, and what in its answer (RFC 3261 10.2).

use std::net::SocketAddr;

use super::entry::{Entry, State};
use crate::endpoint::Auth;
use crate::endpoint::headers::ALLOW;
use crate::write::host_port;
use crate::{Builder, Flow, Message, Method, Name, NameAddr, Transport, Uri};

pub(super) fn register(entry: &mut Entry, flow: Flow, branch: &str, user_agent: &str) -> Builder {
    let expires = if entry.state == State::Leaving { 0 } else { entry.expires };
    let (aor, registrar) = (&entry.wanted.aor, &entry.wanted.registrar);
    let contact = |place: &str, expires: u32| format!("<{}>;expires={expires}", uri(entry, place));
    let mut builder = Builder::request(Method::Register, registrar)
        .via(flow.transport, &entry.contact, branch)
        .header(Name::MaxForwards, "70")
        .header(Name::From, format!("<{aor}>;tag={}", entry.tag))
        .header(Name::To, format!("<{aor}>"))
        .header(Name::CallId, &entry.call_id)
        .cseq(entry.cseq, Method::Register)
        .header(Name::Contact, contact(&entry.contact, expires));
    if let Some(former) = &entry.former {
        builder = builder.header(Name::Contact, contact(former, 0));
    }
    let builder = builder
        .header(Name::Expires, expires.to_string())
        // RFC 3327 5.1: proxies on the way may ask to be called through.
        .header(Name::Supported, "path")
        .header(Name::Allow, ALLOW)
        .header(Name::UserAgent, user_agent);
    let home = flow.remote.ip();
    let profile = &entry.wanted.profile;
    let auth = entry.auth.take().map(|auth| auth.at(home)).or_else(|| Auth::of(profile, home));
    let Some(mut auth) = auth else { return builder };
    let builder = auth.unasked(builder, Method::Register, registrar, &[]);
    entry.auth = Some(auth);
    builder
}

/// Our Contact at a place of ours.
fn uri(entry: &Entry, place: &str) -> String {
    format!("sip:{}@{place}", entry.wanted.contact_user)
}

/// What our own contact got, which may stand among others' (10.2.4): the one that is ours by 19.1.4, or the only one of
/// our user, since a registrar may tell the address of the NAT in between.
pub(super) fn granted_for(entry: &Entry, response: &Message) -> u32 {
    let text = uri(entry, &entry.contact);
    let own = Uri::parse(&text).ok();
    let user = own.and_then(|own| own.user_unescaped());
    let of_user: Vec<NameAddr<'_>> =
        response.contacts().filter(|contact| contact.uri.user_unescaped() == user).collect();
    let found = of_user.iter().find(|contact| own == Some(contact.uri)).or(match &of_user[..] {
        [only] => Some(only),
        _ => None,
    });
    let param = found.and_then(|contact| contact.params.value("expires")?.parse().ok());
    param.or(response.expires()).unwrap_or(entry.expires)
}

/// Where the registrar saw us (RFC 3581 4), as Contact says it.
pub(super) fn seen_as(response: &Message, transport: Transport) -> Option<String> {
    let via = response.top_via().ok()?;
    let address = via.received().or_else(|| via.host.ip())?;
    let place = host_port(SocketAddr::new(address, via.rport()?));
    Some(format!("{place}{}", transport.uri_parameter()))
}
