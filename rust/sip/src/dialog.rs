//! Dialogs (RFC 3261 12): who we are to a peer, how its requests are ordered, and the road ours take.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use slotmap::{SlotMap, new_key_type};

use crate::endpoint::{Auth, LegKey};
use crate::header::scan::without_headers;
use crate::header::{NameAddr, Replaces};
use crate::transaction::key::{Fingerprint, Fingerprints, Index};
use crate::{Body, Builder, Flow, Message, Method, Name, Transport, Uri};

new_key_type! {
    /// One dialog.
    pub(crate) struct DialogKey;
}

/// How far a dialog has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Made by a provisional response, or not answered yet.
    Early,
    /// Made or confirmed by a 2xx.
    Confirmed,
    /// Our BYE is under way; a crossing BYE is still answered.
    Closing,
}

/// What is known of the next hop's place.
#[derive(Debug)]
enum Hop {
    /// Nobody has looked yet.
    Unseen,
    /// It needs no asking, or is being asked for, or leads nowhere: the dialog's flow decides.
    Plain,
    /// Where it leads, best first.
    Found(Box<[Flow]>),
}

/// One dialog.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) state: State,
    pub(crate) leg: LegKey,
    pub(crate) flow: Flow,
    /// `host:port` of our Contact and Via.
    pub(crate) contact: Arc<str>,
    /// Answers challenges, and signs unasked once there was one (22.3).
    pub(crate) auth: Option<Box<Auth>>,
    /// Our requests take its flow, whatever the target or route (RFC 5626 5.3).
    pub(crate) keeps_flow: bool,
    identity: Identity,
    target: Box<str>,
    /// Route values in the order our requests carry them.
    routes: Vec<Box<str>>,
    hop: Hop,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    /// The RSeq of the peer's last reliable provisional response (RFC 3262 4).
    pub(crate) rseq: Option<u32>,
    /// An offer and its answer have been exchanged before the 2xx (RFC 3262 5).
    pub(crate) settled: bool,
    /// The peer has sent a REFER in it.
    pub(crate) was_referred: bool,
    /// What it is filed under.
    print: Option<Fingerprint>,
}

/// Call-ID, our end and the peer's, one behind the other in one text.
#[derive(Debug)]
struct Identity {
    text: String,
    call_id: Range<usize>,
    /// From of our requests, To of theirs, tag included.
    local: Range<usize>,
    local_tag: Range<usize>,
    /// To of our requests, tag included.
    remote: Range<usize>,
    remote_tag: Range<usize>,
}

impl Identity {
    /// An identity whose remote half takes so many bytes.
    fn new(call_id: &str, local: &[&str], local_tag: &str, room: usize) -> Self {
        let length = local.iter().map(|part| part.len()).sum::<usize>();
        let mut text = String::with_capacity(call_id.len() + length + room);
        text.push_str(call_id);
        local.iter().for_each(|part| text.push_str(part));
        let (start, end) = (call_id.len(), text.len());
        // Our tag is the last parameter of our end.
        let local_tag = end.saturating_sub(local_tag.len())..end;
        Self { text, call_id: 0..start, local: start..end, local_tag, remote: end..end, remote_tag: end..end }
    }

    /// Puts the peer's end; its tag lies somewhere inside.
    fn meet(&mut self, remote: &str, tag: Option<&str>) {
        let start = self.local.end;
        self.text.truncate(start);
        self.text.push_str(remote);
        self.remote = start..self.text.len();
        let place = |tag: &str| (tag.as_ptr() as usize).wrapping_sub(remote.as_ptr() as usize);
        let tag = tag.map_or(0..0, |tag| place(tag)..place(tag).wrapping_add(tag.len()));
        self.remote_tag = start.wrapping_add(tag.start)..start.wrapping_add(tag.end);
    }

    fn part(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

/// An INVITE of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) flow: Flow,
    pub(crate) contact: &'a str,
    pub(crate) call_id: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) from: &'a str,
    pub(crate) request_uri: &'a str,
    pub(crate) cseq: u32,
}

/// Where a request of a dialog goes (12.2.1.1).
struct Road<'a> {
    request_uri: &'a str,
    routes: Vec<Cow<'a, str>>,
    next_hop: Option<Uri<'a>>,
}

impl Dialog {
    fn early(flow: Flow, contact: Arc<str>, identity: Identity, target: &str) -> Self {
        Self {
            state: State::Early,
            leg: LegKey::default(),
            flow,
            contact,
            auth: None,
            keeps_flow: false,
            identity,
            target: target.into(),
            routes: Vec::new(),
            hop: Hop::Unseen,
            local_cseq: 0,
            remote_cseq: None,
            rseq: None,
            settled: false,
            was_referred: false,
            print: None,
        }
    }

    /// The dialog an INVITE asks us for (12.1.1). `None` without a usable Contact: a `sips:` one is of no use to whom
    /// nothing but an open flow leads (RFC 5630 5.1.2).
    pub(crate) fn uas(invite: &Message, tag: &str, flow: Flow, contact: Arc<str>) -> Option<Self> {
        let (local, remote) = (invite.header(Name::To)?, invite.header(Name::From)?);
        let mut identity = Identity::new(invite.call_id(), &[local, ";tag=", tag], tag, remote.len());
        identity.meet(remote, invite.from_tag());
        let target = target_of(invite).or_else(|| old_target(invite))?;
        if !is_reached(target, flow) && !invite.has(Name::RecordRoute) {
            return None;
        }
        Some(Self {
            routes: invite.values(Name::RecordRoute).map(Into::into).collect(),
            remote_cseq: Some(invite.cseq_number()),
            ..Self::early(flow, contact, identity, target)
        })
    }

    /// What an INVITE of ours knows of the dialogs it will make; [`Self::met`] completes it.
    pub(crate) fn draft(invite: &Draft<'_>) -> Self {
        /// Most ends, tag included, are shorter than this.
        const ROOM: usize = 96;
        let identity = Identity::new(invite.call_id, &[invite.from], invite.tag, ROOM);
        let early = Self::early(invite.flow, invite.contact.into(), identity, invite.request_uri);
        Self { local_cseq: invite.cseq, ..early }
    }

    /// The same from the INVITE as it was sent, or from the ACK that followed it: that has no Contact, but a sent-by,
    /// and its Request-URI is the target of one fork, so that the INVITE's own has to be given.
    pub(crate) fn draft_of(invite: &Message, request_uri: Option<&str>, flow: Flow) -> Option<Self> {
        let contact = match invite.contact_uri() {
            Some(uri) => Cow::Borrowed(uri.strip_prefix("sip:").unwrap_or(uri)),
            None => Cow::Owned(invite.top_via().ok()?.sent_by()),
        };
        Some(Self::draft(&Draft {
            flow,
            contact: &contact,
            call_id: invite.call_id(),
            tag: invite.from_tag()?,
            from: invite.header(Name::From)?,
            request_uri: request_uri.or(invite.request_uri())?,
            cseq: invite.cseq_number(),
        }))
    }

    /// The dialog a response to our INVITE makes (12.1.2).
    pub(crate) fn met(mut self, response: &Message) -> Option<Self> {
        self.identity.meet(response.header(Name::To)?, response.to_tag());
        self.learn(response);
        Some(self)
    }

    /// Takes target and route set from a response to our INVITE; a 2xx recomputes them (12.1.2, 13.2.2.4).
    pub(crate) fn learn(&mut self, response: &Message) {
        if response.has(Name::RecordRoute) || !self.routes.is_empty() {
            let mut routes: Vec<Box<str>> = response.values(Name::RecordRoute).map(Into::into).collect();
            routes.reverse();
            if routes != self.routes {
                (self.routes, self.hop) = (routes, Hop::Unseen);
            }
        }
        self.refresh_target(target_of(response));
    }

    /// Replaces the remote target (12.2.1.2, 12.2.2). Where our next request would go to a `sips:` URI by an open flow
    /// the former one stays: what is to be secret is not sent in the clear (26.2.2).
    pub(crate) fn refresh_target(&mut self, target: Option<&str>) {
        let is_followed = |target: &&str| !self.routes.is_empty() || is_reached(target, self.flow);
        if let Some(target) = target.filter(|target| **target != *self.target).filter(is_followed) {
            (self.target, self.hop) = (target.into(), Hop::Unseen);
        }
    }

    /// An accepted target refresh request of the peer came this way: what follows goes back by it, whatever became of
    /// the former (12.2.2, RFC 5626 5.3). TLS is not given up (26.2.1), nor whom its peer has to prove to be.
    pub(crate) fn refresh_flow(&mut self, flow: Flow) {
        if self.flow.transport == Transport::Tls && flow.transport != Transport::Tls {
            return;
        }
        if self.flow.transport != flow.transport {
            self.hop = Hop::Unseen;
        }
        self.flow = Flow { identity: flow.identity.or(self.flow.identity), ..flow };
    }

    /// The URI of the next hop if somebody has to be asked where it is and nobody has been.
    pub(crate) fn unasked(&mut self) -> Option<String> {
        if !matches!(self.hop, Hop::Unseen) {
            return None;
        }
        self.hop = Hop::Plain;
        let flow = self.flow;
        self.next_hop(|uri| flow.asks(uri).then(|| uri.as_str().to_owned()))
    }

    /// The next hop `uri` leads to these places; another may have taken its place meanwhile.
    pub(crate) fn found(&mut self, uri: &str, places: &[Flow]) {
        let same = self.next_hop(|hop| (hop.as_str() == uri).then_some(())).is_some();
        if same && !places.is_empty() {
            self.hop = Hop::Found(places.into());
        }
    }

    fn next_hop<T>(&self, look: impl FnOnce(&Uri<'_>) -> Option<T>) -> Option<T> {
        match self.routes.first() {
            Some(route) => look(&NameAddr::parse(route).ok()?.uri),
            None => look(&Uri::parse(&self.target).ok()?),
        }
    }

    pub(crate) fn call_id(&self) -> &str {
        self.identity.part(&self.identity.call_id)
    }

    /// The remote target.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The CSeq number of our last request.
    pub(crate) fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    pub(crate) fn local_tag(&self) -> &str {
        self.identity.part(&self.identity.local_tag)
    }

    pub(crate) fn remote_tag(&self) -> &str {
        self.identity.part(&self.identity.remote_tag)
    }

    /// Notes the CSeq of the peer's request; false if it comes out of order (12.2.2).
    pub(crate) fn in_order(&mut self, number: u32) -> bool {
        let fresh = self.remote_cseq.is_none_or(|last| number >= last);
        if fresh {
            self.remote_cseq = Some(number);
        }
        fresh
    }

    /// Begins the next request of ours (12.2.1.1). The body is still to be put; credentials may be about it.
    pub(crate) fn request(&mut self, method: Method, branch: &str, body: Option<&Body>) -> (Builder, Flow) {
        let number = self.next_cseq();
        let (builder, flow) = self.numbered(method, number, branch);
        // Taken out for as long as it signs, since the Request-URI is the dialog's too.
        let Some(mut auth) = self.auth.take() else { return (builder, flow) };
        let body = body.map_or(&[][..], |body| &body.bytes);
        let builder = auth.unasked(builder, method, self.road().request_uri, body);
        self.auth = Some(auth);
        (builder, flow)
    }

    /// The number of the next request of ours (12.2.1.1).
    pub(crate) fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.wrapping_add(1) & 0x7fff_ffff;
        self.local_cseq
    }

    /// Our INVITE was sent again under another number.
    pub(crate) fn renumber(&mut self, number: u32) {
        self.local_cseq = number;
    }

    /// Begins the ACK of a 2xx: it goes the dialog's way under the INVITE's number (13.2.2.4).
    pub(crate) fn ack(&self, number: u32, branch: &str) -> (Builder, Flow) {
        let (builder, flow) = self.numbered(Method::Ack, number, branch);
        (self.auth.iter().fold(builder, |builder, auth| auth.repeated(builder)), flow)
    }

    fn numbered(&self, method: Method, number: u32, branch: &str) -> (Builder, Flow) {
        let road = self.road();
        let flow = match (&road.next_hop, &self.hop) {
            (Some(hop), _) if self.keeps_flow => self.flow.kept(hop),
            (Some(hop), Hop::Found(places)) => self.flow.among(hop, places),
            (Some(hop), _) => self.flow.towards(hop),
            (None, _) => self.flow,
        };
        let mut builder = Builder::request(method, road.request_uri)
            .via(flow.transport, &self.contact, branch)
            .safe(Name::MaxForwards, "70");
        for route in road.routes {
            builder = builder.safe(Name::Route, &route);
        }
        let builder = builder
            .safe(Name::From, self.identity.part(&self.identity.local))
            .safe(Name::To, self.identity.part(&self.identity.remote))
            .safe(Name::CallId, self.call_id())
            .cseq(number, method);
        (builder, flow)
    }

    /// Loose routing, or strict routing towards a first hop of RFC 2543 (12.2.1.1).
    fn road(&self) -> Road<'_> {
        let all = || self.routes.iter().map(|route| (&**route).into());
        let first = self.routes.first().and_then(|route| NameAddr::parse(route).ok());
        match first {
            None => Road {
                request_uri: &self.target,
                routes: all().collect(),
                next_hop: Uri::parse(&self.target).ok(),
            },
            Some(first) if first.uri.is_loose_router() => {
                Road { request_uri: &self.target, routes: all().collect(), next_hop: Some(first.uri) }
            }
            Some(first) => {
                let last = format!("<{}>", self.target).into();
                let routes = all().skip(1).chain([last]).collect();
                Road { request_uri: without_headers(first.uri.as_str()), routes, next_hop: Some(first.uri) }
            }
        }
    }
}

/// Whether a flow may carry what is for this URI: TLS is the only one for `sips:` (26.2.2).
fn is_reached(target: &str, flow: Flow) -> bool {
    let scheme = target.get(..5).unwrap_or_default();
    flow.transport == Transport::Tls || !scheme.eq_ignore_ascii_case("sips:")
}

/// The target of a caller that speaks RFC 2543, which knows no From tag and needs no Contact: its From (RFC 2543 6.13,
/// RFC 4475 3.4.1).
fn old_target(invite: &Message) -> Option<&str> {
    let from = invite.from().ok().filter(|from| from.tag().is_none())?;
    Some(without_headers(from.uri.as_str()))
}

/// The URI a message's Contact offers as remote target.
pub(crate) fn target_of(message: &Message) -> Option<&str> {
    message.contact_uri().map(without_headers)
}

/// All dialogs.
#[derive(Debug)]
pub(crate) struct Dialogs {
    all: SlotMap<DialogKey, Dialog>,
    index: Index<DialogKey>,
    prints: Fingerprints,
}

impl Dialogs {
    pub(crate) fn new(prints: Fingerprints) -> Self {
        Self { all: SlotMap::with_key(), index: Index::default(), prints }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What lies in each table, and how much it has room for.
    #[cfg(test)]
    pub(crate) fn tables(&self) -> [(usize, usize); 2] {
        [(self.all.len(), self.all.capacity()), (self.index.len(), self.index.capacity())]
    }

    pub(crate) fn insert(&mut self, leg: LegKey, dialog: Dialog) -> DialogKey {
        let print = self.prints.dialog(dialog.call_id(), dialog.local_tag(), dialog.remote_tag());
        let key = self.all.insert(Dialog { leg, print: Some(print), ..dialog });
        self.index.insert(print, key);
        key
    }

    pub(crate) fn remove(&mut self, key: DialogKey) {
        if let Some(print) = self.all.remove(key).and_then(|dialog| dialog.print) {
            self.index.remove(&print);
        }
    }

    pub(crate) fn get(&self, key: DialogKey) -> Option<&Dialog> {
        self.all.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: DialogKey) -> Option<&mut Dialog> {
        self.all.get_mut(key)
    }

    /// The dialog of a peer's request: its To tag is ours, its From tag the peer's (12.2.2).
    pub(crate) fn of_request(&self, request: &Message) -> Option<DialogKey> {
        self.find(request.call_id(), request.to_tag()?, request.from_tag().unwrap_or_default())
    }

    /// The dialog of a response to our request.
    pub(crate) fn of_response(&self, response: &Message) -> Option<DialogKey> {
        self.find(response.call_id(), response.from_tag()?, response.to_tag().unwrap_or_default())
    }

    /// The dialog that a Replaces names: its to-tag is ours (RFC 3891 3).
    pub(crate) fn replaced(&self, named: &Replaces<'_>) -> Option<DialogKey> {
        self.find(named.call_id, named.to_tag, named.from_tag)
    }

    fn find(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> Option<DialogKey> {
        self.index.get(&self.prints.dialog(call_id, local_tag, remote_tag)).copied()
    }
}
