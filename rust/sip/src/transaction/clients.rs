//! The client transactions: filing, matching of responses (RFC 3261 17.1.3), and the ACKs that belong to an INVITE.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slotmap::{SlotMap, new_key_type};

use super::key::{Fingerprint, Fingerprints, Index};
use super::mtu::Datagram;
use super::quote::quoted;
use super::{Action, Io, Owner, Running, client, client_invite};
use crate::dialog::DialogKey;
use crate::endpoint::{LegKey, RegistrationKey};
use crate::timer::{TimerKind, TimerSet};
use crate::{Builder, Connection, Flow, LegId, Message, Method, Name, Profile, Transmit, Transport};

new_key_type! {
    /// One client transaction.
    pub(crate) struct ClientKey;
}

/// For whom a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// The INVITE of a leg, which may be gone by the time a response arrives.
    Invite(LegKey),
    /// The INVITE of a leg that has gone on to its next target.
    Former(LegKey),
    /// An OPTIONS that asks whether a target is alive, as its owner numbers it.
    Probe(u64),
    /// The BYE that ends a dialog.
    Bye(DialogKey),
    /// A re-INVITE or UPDATE of a leg, which may be gone by the time a response arrives.
    Reoffer(LegKey),
    /// An INFO of a leg, which may be gone by the time a response arrives.
    Info(LegKey),
    /// A REGISTER.
    Register(RegistrationKey),
    /// A PRACK in an early dialog.
    Prack(DialogKey),
    /// A NOTIFY about a peer's REFER, by the leg it came in, which may be gone, and its CSeq number.
    Notify(LegId, u32),
    /// A REFER in the dialog of a leg.
    Refer(LegId),
    /// A CANCEL: only the INVITE's own response counts (9.1).
    Cancel,
}

/// A request to be sent, and by whom.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) branch: String,
    pub(crate) bytes: Bytes,
    pub(crate) flow: Flow,
    pub(crate) user: User,
}

/// What a transaction tells its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientSignal {
    /// The response at hand is for the user.
    Response,
    /// Nobody answered (timer B or F): as if 408 had come (8.1.3.1).
    Timeout,
    /// The network refused: as if 503 had come (8.1.3.1).
    TransportError,
}

/// What became of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientOutcome {
    pub(crate) user: User,
    pub(crate) signal: Option<ClientSignal>,
    /// The transaction is over and forgotten.
    pub(crate) gone: bool,
}

#[derive(Debug, Clone, Copy)]
enum Machine {
    Invite(client_invite::State),
    Other(client::State),
}

#[derive(Debug)]
struct Client {
    machine: Machine,
    print: Fingerprint,
    /// Empty once nothing can be derived from it any more.
    request: Bytes,
    /// The Request-URI of an INVITE that was accepted, of which nothing else is left.
    request_uri: Box<str>,
    /// How the peer wants to be spoken to, where the leg has gone on from this INVITE or is gone.
    profile: Option<Arc<Profile>>,
    flow: Flow,
    /// The request for UDP, if it was too large for that.
    datagram: Option<Box<Datagram>>,
    /// The stream it went by stood before, and may have been closing.
    reused: bool,
    /// It was sent once more, by a stream of its own.
    repeated: bool,
    user: User,
    timers: TimerSet,
    /// The ACK of a failure, kept for its retransmissions (17.1.1.3).
    failure_ack: Option<Bytes>,
    /// The ACKs of 2xx by To tag, one per fork (13.2.2.4). Few transactions have one, so that they lie outside.
    success_acks: Vec<(Box<str>, Transmit)>,
}

/// What happens to a transaction.
#[derive(Debug, Clone, Copy)]
enum Input<'a> {
    Response(&'a Message),
    Timer(TimerKind, Duration),
    TransportError,
}

/// All client transactions.
#[derive(Debug)]
pub(crate) struct Clients {
    all: SlotMap<ClientKey, Client>,
    index: Index<ClientKey>,
    prints: Fingerprints,
}

impl Clients {
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

    /// Sends a request by a transaction of its own (17.1).
    pub(crate) fn send(&mut self, io: &mut Io, now: Instant, request: Request) -> ClientKey {
        let (machine, opening) = match request.method {
            Method::Invite => (Machine::Invite(client_invite::State::Calling), client_invite::OPENING),
            _ => (Machine::Other(client::State::Trying), client::OPENING),
        };
        let print = self.prints.client(&request.branch, request.method.as_str());
        let Request { mut bytes, mut flow, user, .. } = request;
        let datagram = io.switch.apply(now, &mut bytes, &mut flow);
        let client = Client {
            datagram,
            reused: false,
            repeated: false,
            machine,
            print,
            request: bytes,
            request_uri: Box::default(),
            profile: None,
            flow,
            user,
            timers: TimerSet::default(),
            failure_ack: None,
            success_acks: Vec::new(),
        };
        let key = self.all.insert(client);
        self.index.insert(print, key);
        self.carry_out(io, now, key, opening, None);
        key
    }

    /// The transaction a response answers: same branch, same method in CSeq (17.1.3).
    pub(crate) fn matching(&self, response: &Message) -> Option<ClientKey> {
        let method = response.cseq_method()?;
        self.index.get(&self.prints.client(response.branch()?, method.as_str())).copied()
    }

    pub(crate) fn response(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ClientKey,
        response: &Message,
    ) -> Option<ClientOutcome> {
        if self.is_answered(key) {
            io.stats.retransmissions_in += 1;
        }
        self.step(io, now, key, Input::Response(response))
    }

    /// A timer has fired, which ran so long.
    pub(crate) fn timer(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ClientKey,
        kind: TimerKind,
        last: Duration,
    ) -> Option<ClientOutcome> {
        self.step(io, now, key, Input::Timer(kind, last))
    }

    pub(crate) fn transport_error(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ClientKey,
    ) -> Option<ClientOutcome> {
        self.step(io, now, key, Input::TransportError)
    }

    /// Sends a request over UDP that was too large for it, where the peer did not take TCP (18.1.1), and tells whose it
    /// is; nobody's if there is no point.
    pub(crate) fn fall_back(&mut self, io: &mut Io, now: Instant, key: ClientKey) -> Option<User> {
        let client = self.all.get_mut(key).filter(|client| client.machine.is_unheard())?;
        let datagram = client.datagram.take()?;
        io.switch.deaf(now, datagram.flow.remote);
        let (bytes, user) = (datagram.bytes?, client.user);
        (client.request, client.flow) = (bytes, datagram.flow);
        let opening = match client.machine {
            Machine::Invite(_) => client_invite::OPENING,
            Machine::Other(_) => client::OPENING,
        };
        self.carry_out(io, now, key, opening, None);
        Some(user)
    }

    /// Nobody wants the answer any more: what does not get there by TCP does not go by UDP either.
    pub(crate) fn forgo_datagram(&mut self, key: ClientKey) {
        if let Some(datagram) = self.all.get_mut(key).and_then(|client| client.datagram.as_mut()) {
            datagram.bytes = None;
        }
    }

    /// The transactions that a failure on a flow concerns. When only a stream broke, those that were heard of go on:
    /// the rest of the answer comes by a new one (RFC 3261 18.2.2).
    pub(crate) fn towards(&self, flow: Flow) -> Vec<ClientKey> {
        let touches = |machine: Machine| flow.connection.is_none() || machine.is_unheard();
        let hit = |client: &Client| client.flow.is_hit_by(flow) && touches(client.machine);
        self.all.iter().filter(|(_, client)| hit(client)).map(|(key, _)| key).collect()
    }

    /// The transaction whose datagram, which begins so, did not get through, if nothing was heard of it yet: whatever
    /// the peer has spoken of has nothing under way that could be lost for good (17.1.1.2).
    pub(crate) fn undelivered(&self, start: &[u8]) -> Option<ClientKey> {
        let (method, branch) = quoted(start)?;
        let key = *self.index.get(&self.prints.client(branch, method))?;
        let client = self.all.get(key)?;
        (client.flow.transport == Transport::Udp && client.machine.is_unheard()).then_some(key)
    }

    /// A request has been given to a stream: one that breaks takes with it what went by it, and nothing else.
    pub(crate) fn sent_over(&mut self, request: &[u8], connection: Connection, reused: bool) {
        let Some((method, branch)) = quoted(request) else { return };
        let key = self.index.get(&self.prints.client(branch, method)).copied();
        if let Some(client) = key.and_then(|key| self.all.get_mut(key))
            && client.flow.transport.is_reliable()
        {
            (client.flow.connection, client.reused) = (Some(connection), reused);
        }
    }

    /// Sends a request once more, by a new stream, if the one it went by stood before and broke without a word: the peer
    /// may have closed it before it read the request (18.1.1). One that has read it knows the branch again (17.2.3).
    pub(crate) fn repeat(&mut self, io: &mut Io, key: ClientKey) -> bool {
        let Some(client) = self.all.get_mut(key).filter(|client| client.reused && !client.repeated) else {
            return false;
        };
        client.repeated = true;
        client.flow.connection = None;
        io.send(client.flow, client.request.clone());
        true
    }

    /// Whether a response may come this way: what was asked under TLS is not answered in the clear (26.2.1).
    pub(crate) fn may_answer(&self, key: ClientKey, transport: Transport) -> bool {
        let asked = self.all.get(key).map(|client| client.flow.transport);
        transport == Transport::Tls || asked != Some(Transport::Tls)
    }

    /// A response came over a stream: what follows in its dialog goes the same way while that lives.
    pub(crate) fn heard_over(&mut self, key: ClientKey, flow: Flow) {
        if flow.connection.is_some()
            && let Some(client) = self.all.get_mut(key)
            && client.flow.transport == flow.transport
        {
            client.flow.connection = flow.connection;
        }
    }

    /// The stream that a transaction was heard over.
    pub(crate) fn connection(&self, key: ClientKey, transport: Transport) -> Option<Connection> {
        let flow = self.all.get(key)?.flow;
        flow.connection.filter(|_| flow.transport == transport)
    }

    /// The request a transaction sent, for what is derived from it (CANCEL, ACK, the dialog), and its flow. Of an
    /// INVITE that was accepted there is the ACK, which with the Request-URI tells as much to the dialogs of further
    /// forks.
    pub(crate) fn sent(&self, io: &Io, key: ClientKey) -> Option<(Message, Flow)> {
        let client = self.all.get(key)?;
        let sent = match client.success_acks.first() {
            Some((_, ack)) => &ack.payload,
            None => &client.request,
        };
        Some((Message::parse(sent.clone(), &io.limits).ok()?, client.flow))
    }

    /// The Request-URI of an INVITE that was accepted.
    pub(crate) fn request_uri(&self, key: ClientKey) -> Option<&str> {
        self.all.get(key).map(|client| &*client.request_uri).filter(|uri| !uri.is_empty())
    }

    /// Leaves the profile of its leg to an INVITE that may still be answered.
    pub(crate) fn leave_profile(&mut self, key: ClientKey, profile: Arc<Profile>) {
        if let Some(client) = self.all.get_mut(key) {
            client.profile = Some(profile);
        }
    }

    /// The profile that the leg of an INVITE has left to it.
    pub(crate) fn profile(&self, key: ClientKey) -> Option<&Arc<Profile>> {
        self.all.get(key)?.profile.as_ref()
    }

    /// The final response has been dealt with: a request that cannot be sent again needs no keeping.
    pub(crate) fn settled(&mut self, key: ClientKey) {
        if let Some(client) = self.all.get_mut(key).filter(|client| client.machine.is_completed()) {
            client.request = Bytes::new();
        }
    }

    /// Gives up on a request that was not answered at all: it is not sent again, but what may still come is heard.
    pub(crate) fn retire(&mut self, io: &mut Io, key: ClientKey, user: User) {
        if let Some(client) = self.all.get_mut(key) {
            client.user = user;
            client.timers.stop(&mut io.timers, TimerKind::A);
        }
        self.forgo_datagram(key);
    }

    /// Whether a CANCEL of this branch is under way.
    pub(crate) fn is_cancelled(&self, branch: &str) -> bool {
        self.index.contains_key(&self.prints.client(branch, Method::Cancel.as_str()))
    }

    /// Starts a timer of a transaction anew, to run so long.
    pub(crate) fn restart(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ClientKey,
        kind: TimerKind,
        after: Duration,
    ) {
        if let Some(client) = self.all.get_mut(key) {
            let owner = Owner::Client(key);
            Running { set: &mut client.timers, owner, reliable: false, now }.start_in(io, kind, after);
        }
    }

    /// Forgets a transaction whose answer nobody waits for any more (9.1).
    pub(crate) fn abandon(&mut self, io: &mut Io, key: ClientKey) {
        if let Some(mut client) = self.all.remove(key) {
            client.timers.stop_all(&mut io.timers);
            self.index.remove(&client.print);
        }
    }

    /// Gives an INVITE that nobody waits for any more, but whose final response wants its ACK, a last 64*T1. A
    /// provisional response ends that time, and begins it once more, but no second one does.
    pub(crate) fn limit(&mut self, io: &mut Io, now: Instant, key: ClientKey) {
        if self.all.get(key).is_none_or(|client| client.timers.runs(TimerKind::B)) {
            return;
        }
        self.carry_out(io, now, key, &[Action::Start(TimerKind::B)], None);
    }

    /// Sends the ACK of a 2xx and keeps it for the retransmissions of that 2xx (13.2.2.4).
    pub(crate) fn acknowledge(&mut self, io: &mut Io, key: ClientKey, tag: &str, ack: Transmit) {
        io.send(ack.flow, ack.payload.clone());
        if let Some(client) = self.all.get_mut(key) {
            client.success_acks.reserve_exact(1);
            client.success_acks.push((tag.into(), ack));
            if !client.request.is_empty() {
                client.request_uri = request_uri(&client.request).into();
                client.request = Bytes::new();
            }
        }
    }

    /// Acknowledges a 2xx seen before; false if it is new (13.2.2.4).
    pub(crate) fn acknowledge_again(&mut self, io: &mut Io, key: ClientKey, tag: &str) -> bool {
        let Some(client) = self.all.get(key) else { return false };
        let Some((_, ack)) = client.success_acks.iter().find(|(known, _)| **known == *tag) else {
            return false;
        };
        io.stats.retransmissions_out += 1;
        io.send(ack.flow, ack.payload.clone());
        true
    }

    /// How many forks have answered 2xx.
    pub(crate) fn forks(&self, key: ClientKey) -> usize {
        self.all.get(key).map_or(0, |client| client.success_acks.len())
    }

    /// Whether an INVITE has been heard of and not answered: it may be cancelled (9.1).
    pub(crate) fn is_proceeding(&self, key: ClientKey) -> bool {
        self.all.get(key).is_some_and(|client| client.machine.is_invited())
    }

    fn is_answered(&self, key: ClientKey) -> bool {
        use client_invite::State::{Accepted, Completed};
        match self.all.get(key).map(|client| client.machine) {
            Some(Machine::Invite(state)) => matches!(state, Completed | Accepted),
            Some(Machine::Other(state)) => state == client::State::Completed,
            None => false,
        }
    }

    fn step(&mut self, io: &mut Io, now: Instant, key: ClientKey, input: Input<'_>) -> Option<ClientOutcome> {
        let client = self.all.get_mut(key)?;
        let user = client.user;
        let last = match input {
            Input::Timer(kind, last) => {
                client.timers.expire(kind);
                Some(last)
            }
            _ => None,
        };
        let (gone, actions) = client.machine.advance(input);
        if let (Input::Response(response), Some(Action::Acknowledge)) = (input, find_ack(actions)) {
            client.prepare_ack(io, response);
        }
        let asked = self.carry_out(io, now, key, actions, last);
        if gone {
            self.abandon(io, key);
        }
        Some(ClientOutcome { user, signal: asked.and_then(|action| signal(action, input)), gone })
    }

    /// Carries out what the table says and returns the one action that concerns the user.
    fn carry_out(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ClientKey,
        actions: &[Action],
        last: Option<Duration>,
    ) -> Option<Action> {
        let client = self.all.get_mut(key)?;
        let reliable = client.flow.transport.is_reliable();
        let mut timers = Running { set: &mut client.timers, owner: Owner::Client(key), reliable, now };
        let mut for_user = None;
        for action in actions {
            if timers.carry_out(io, *action, last) {
                continue;
            }
            match action {
                Action::Transmit => {
                    io.stats.retransmissions_out += u64::from(last.is_some());
                    io.send(client.flow, client.request.clone());
                }
                Action::Acknowledge => {
                    if let Some(ack) = &client.failure_ack {
                        io.send(client.flow, ack.clone());
                    }
                }
                _ => for_user = Some(*action),
            }
        }
        for_user
    }
}

fn find_ack(actions: &[Action]) -> Option<Action> {
    actions.iter().copied().find(|action| *action == Action::Acknowledge)
}

fn signal(action: Action, input: Input<'_>) -> Option<ClientSignal> {
    match (action, input) {
        (Action::Deliver, _) => Some(ClientSignal::Response),
        (Action::Fail, Input::TransportError) => Some(ClientSignal::TransportError),
        (Action::Fail, _) => Some(ClientSignal::Timeout),
        _ => None,
    }
}

impl Client {
    /// Makes the ACK of a failure: the INVITE's Request-URI, Call-ID, From, Route and top Via, the response's To
    /// (17.1.1.3). A retransmitted response finds it made.
    fn prepare_ack(&mut self, io: &mut Io, response: &Message) {
        if self.failure_ack.is_some() {
            return;
        }
        let Ok(invite) = Message::parse(self.request.clone(), &io.limits) else { return };
        match follow_up(&invite, Method::Ack, response.header(Name::To)).build() {
            Ok(ack) => self.failure_ack = Some(ack),
            Err(_) => io.stats.dropped.unbuildable += 1,
        }
    }
}

/// The skeleton that ACK of a failure (17.1.1.3) and CANCEL (9.1) share: all of it the INVITE's but the method.
pub(crate) fn follow_up(invite: &Message, method: Method, to: Option<&str>) -> Builder {
    let own = |name| invite.header(name).unwrap_or_default();
    let via = invite.values(Name::Via).next().unwrap_or_default();
    Builder::request(method, invite.request_uri().unwrap_or_default())
        .safe(Name::Via, via)
        .safe(Name::MaxForwards, "70")
        .copy(Name::Route, invite)
        .safe(Name::From, own(Name::From))
        .safe(Name::To, to.unwrap_or(own(Name::To)))
        .safe(Name::CallId, invite.call_id())
        .cseq(invite.cseq_number(), method)
}

/// The Request-URI of a request that was written here.
fn request_uri(request: &[u8]) -> &str {
    let uri = request.split(|byte| *byte == b' ').nth(1);
    uri.and_then(|uri| std::str::from_utf8(uri).ok()).unwrap_or_default()
}

impl Machine {
    /// A final response has come that nothing else can follow.
    fn is_completed(self) -> bool {
        matches!(self, Self::Invite(client_invite::State::Completed) | Self::Other(client::State::Completed))
    }

    /// Nothing has been heard of the peer yet.
    fn is_unheard(self) -> bool {
        matches!(self, Self::Invite(client_invite::State::Calling) | Self::Other(client::State::Trying))
    }

    /// A callee has been heard of and has not answered yet.
    fn is_invited(self) -> bool {
        matches!(self, Self::Invite(client_invite::State::Proceeding))
    }

    /// One step by the machine's table; tells whether it was the last.
    fn advance(&mut self, input: Input<'_>) -> (bool, &'static [Action]) {
        match self {
            Self::Invite(state) => {
                let Some(input) = invite_input(input) else { return (false, &[]) };
                let (next, actions) = client_invite::step(*state, input);
                *state = next;
                (next == client_invite::State::Terminated, actions)
            }
            Self::Other(state) => {
                let Some(input) = other_input(input) else { return (false, &[]) };
                let (next, actions) = client::step(*state, input);
                *state = next;
                (next == client::State::Terminated, actions)
            }
        }
    }
}

fn invite_input(input: Input<'_>) -> Option<client_invite::Input> {
    use client_invite::Input as I;
    Some(match input {
        Input::Response(response) => match response.status()? {
            status if status.is_provisional() => I::Provisional,
            status if status.is_success() => I::Success,
            _ => I::Failure,
        },
        Input::Timer(TimerKind::A, _) => I::TimerA,
        Input::Timer(TimerKind::B, _) => I::TimerB,
        Input::Timer(TimerKind::D, _) => I::TimerD,
        Input::Timer(TimerKind::M, _) => I::TimerM,
        Input::Timer(..) => return None,
        Input::TransportError => I::TransportError,
    })
}

fn other_input(input: Input<'_>) -> Option<client::Input> {
    use client::Input as I;
    Some(match input {
        Input::Response(response) if response.status()?.is_provisional() => I::Provisional,
        Input::Response(_) => I::Final,
        Input::Timer(TimerKind::E, _) => I::TimerE,
        Input::Timer(TimerKind::F, _) => I::TimerF,
        Input::Timer(TimerKind::K, _) => I::TimerK,
        Input::Timer(..) => return None,
        Input::TransportError => I::TransportError,
    })
}
