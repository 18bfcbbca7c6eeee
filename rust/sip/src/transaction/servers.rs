//! The server transactions: filing, matching of requests (RFC 3261 17.2.3), and the responses kept for repetition.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slotmap::{SlotMap, new_key_type};

use super::key::{Fingerprint, Fingerprints, Index, filed_under};
use super::{Action, Io, Owner, Running, server, server_invite};
use crate::endpoint::LegKey;
use crate::header::reply_address;
use crate::timer::{TimerKind, TimerSet};
use crate::{Builder, Flow, Message, Method};

new_key_type! {
    /// One server transaction.
    pub(crate) struct ServerKey;
}

/// How a request came in: what its transaction is filed under and where responses to it go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The way it came.
    pub(crate) flow: Flow,
    /// The way back (18.2.2, RFC 3581 4).
    pub(crate) back: Flow,
    print: Fingerprint,
    /// What the request shares with its copies, once it has been looked for (8.2.2.2).
    merged: Option<Fingerprint>,
}

/// What a transaction tells its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerSignal {
    /// The ACK at hand is for the user.
    Ack,
    /// The network refused our responses.
    TransportError,
}

#[derive(Debug, Clone, Copy)]
enum Machine {
    Invite(server_invite::State),
    Other(server::State),
}

#[derive(Debug)]
struct Server {
    machine: Machine,
    print: Fingerprint,
    merged: Option<Fingerprint>,
    /// Kept until the final response, which is made from it.
    request: Option<Box<Message>>,
    source: SocketAddr,
    /// Where responses go (18.2.2).
    flow: Flow,
    /// The last response, for repetition.
    response: Bytes,
    user: Option<LegKey>,
    timers: TimerSet,
}

/// What happens to a transaction.
#[derive(Debug, Clone, Copy)]
enum Input {
    Request,
    Pending,
    Ack,
    Response(u16),
    Timer(TimerKind, Duration),
    TransportError,
}

/// All server transactions.
#[derive(Debug)]
pub(crate) struct Servers {
    all: SlotMap<ServerKey, Server>,
    index: Index<ServerKey>,
    merged: Index<ServerKey>,
    prints: Fingerprints,
}

impl Servers {
    pub(crate) fn new(prints: Fingerprints) -> Self {
        Self { all: SlotMap::with_key(), index: Index::default(), merged: Index::default(), prints }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What lies in each table, and how much it has room for.
    #[cfg(test)]
    pub(crate) fn tables(&self) -> [(usize, usize); 3] {
        [
            (self.all.len(), self.all.capacity()),
            (self.index.len(), self.index.capacity()),
            (self.merged.len(), self.merged.capacity()),
        ]
    }

    /// Takes from the top Via of a request all that depends on it. A malformed one makes no arrival.
    pub(crate) fn arrival(&self, request: &Message, flow: Flow) -> Option<Arrival> {
        let (print, remote) = match request.sent_by() {
            Some((host, port, rport)) => (
                self.prints.server(request, host, port, filed_under(request))?,
                reply_address(flow, rport, port),
            ),
            None => {
                let via = request.top_via().ok()?;
                let print = self.prints.server(request, via.host, via.port, filed_under(request))?;
                (print, reply_address(flow, via.wants_rport(), via.port))
            }
        };
        Some(Arrival { flow, back: Flow { remote, ..flow }, print, merged: None })
    }

    /// The transaction a request belongs to: its own if it is a retransmission, the INVITE's if it is an ACK (17.2.3).
    pub(crate) fn matching(&self, arrival: Arrival) -> Option<ServerKey> {
        self.index.get(&arrival.print).copied()
    }

    /// The INVITE transaction a CANCEL aims at (9.2).
    pub(crate) fn cancelled_by(&self, cancel: &Message) -> Option<ServerKey> {
        let (host, port, _) = cancel.sent_by()?;
        self.index.get(&self.prints.server(cancel, host, port, Method::Invite.as_str())?).copied()
    }

    /// Whether a request without To tag came by another way already (8.2.2.2).
    pub(crate) fn is_merged(&self, request: &Message, arrival: &mut Arrival) -> bool {
        let print = arrival.merged.insert(self.prints.merged(request));
        self.merged.contains_key(print)
    }

    /// Files a new request.
    pub(crate) fn accept(&mut self, request: &Message, arrival: Arrival, user: Option<LegKey>) -> ServerKey {
        let machine = match request.method() {
            Some(Method::Invite) => Machine::Invite(server_invite::State::Proceeding),
            _ => Machine::Other(server::State::Trying),
        };
        let starts_call = request.to_tag().is_none() && matches!(machine, Machine::Invite(_));
        let merged = starts_call.then(|| arrival.merged.unwrap_or_else(|| self.prints.merged(request)));
        let key = self.all.insert(Server {
            machine,
            print: arrival.print,
            merged,
            request: Some(Box::new(request.clone())),
            source: arrival.flow.remote,
            flow: arrival.back,
            response: Bytes::new(),
            user,
            timers: TimerSet::default(),
        });
        self.index.insert(arrival.print, key);
        if let Some(merged) = merged {
            self.merged.insert(merged, key);
        }
        key
    }

    /// The user needs time: a 100 may have to bridge it (RFC 4320 4.1).
    pub(crate) fn pending(&mut self, io: &mut Io, now: Instant, key: ServerKey) {
        self.step(io, now, key, Input::Pending);
    }

    /// Begins a response to the request of a transaction that has not been answered finally.
    pub(crate) fn reply(&self, key: ServerKey, status: u16, reason: &str) -> Option<Builder> {
        let server = self.all.get(key)?;
        Some(Builder::response_to(server.request.as_deref()?, server.source, status, reason))
    }

    /// The request of a transaction that has not been answered finally.
    pub(crate) fn request(&self, key: ServerKey) -> Option<&Message> {
        self.all.get(key)?.request.as_deref()
    }

    /// The ACK of the 2xx has come: it is never sent again, and a repeated INVITE gets no answer (RFC 6026 7.1). The
    /// transaction goes on without it for as long as the INVITE may be repeated.
    pub(crate) fn forget_success(&mut self, key: ServerKey) {
        if let Some(server) = self.all.get_mut(key) {
            server.response = Bytes::new();
        }
    }

    pub(crate) fn user(&self, key: ServerKey) -> Option<LegKey> {
        self.all.get(key)?.user
    }

    pub(crate) fn set_user(&mut self, key: ServerKey, user: LegKey) {
        if let Some(server) = self.all.get_mut(key) {
            server.user = Some(user);
        }
    }

    /// Sends a response of the user.
    pub(crate) fn respond(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ServerKey,
        status: u16,
        response: Bytes,
    ) {
        let Some(server) = self.all.get_mut(key) else { return };
        if status >= 200 {
            server.request = None;
        }
        server.response = response;
        self.step(io, now, key, Input::Response(status));
    }

    /// Sends the last response of the user once more: a 2xx until its ACK (13.3.1.4), a provisional (13.3.1.1).
    pub(crate) fn repeat(&mut self, io: &mut Io, now: Instant, key: ServerKey, status: u16) {
        io.stats.retransmissions_out += 1;
        self.step(io, now, key, Input::Response(status));
    }

    /// The same request again.
    pub(crate) fn retransmitted(&mut self, io: &mut Io, now: Instant, key: ServerKey) {
        io.stats.retransmissions_in += 1;
        self.step(io, now, key, Input::Request);
    }

    pub(crate) fn acknowledged(&mut self, io: &mut Io, now: Instant, key: ServerKey) -> Option<ServerSignal> {
        self.step(io, now, key, Input::Ack)
    }

    /// A timer has fired, which ran so long.
    pub(crate) fn timer(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ServerKey,
        kind: TimerKind,
        last: Duration,
    ) {
        self.step(io, now, key, Input::Timer(kind, last));
    }

    pub(crate) fn transport_error(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ServerKey,
    ) -> Option<ServerSignal> {
        self.step(io, now, key, Input::TransportError)
    }

    /// The transactions that a failure on a flow concerns. When only a stream broke, none: their responses go by a
    /// new one (RFC 3261 18.2.2).
    pub(crate) fn towards(&self, flow: Flow) -> Vec<ServerKey> {
        if flow.connection.is_some() {
            return Vec::new();
        }
        self.all.iter().filter(|(_, server)| server.flow.is_hit_by(flow)).map(|(key, _)| key).collect()
    }

    /// Forgets a request the user will never answer.
    pub(crate) fn abandon(&mut self, io: &mut Io, key: ServerKey) {
        let Some(mut server) = self.all.remove(key) else { return };
        server.timers.stop_all(&mut io.timers);
        self.index.remove(&server.print);
        if let Some(merged) = server.merged {
            self.merged.remove(&merged);
        }
    }

    fn step(&mut self, io: &mut Io, now: Instant, key: ServerKey, input: Input) -> Option<ServerSignal> {
        let server = self.all.get_mut(key)?;
        let last = match input {
            Input::Timer(kind, last) => {
                server.timers.expire(kind);
                Some(last)
            }
            _ => None,
        };
        let again = last.is_some() || matches!(input, Input::Request);
        let (gone, actions) = server.machine.advance(input);
        if again && actions.contains(&Action::Transmit) {
            io.stats.retransmissions_out += 1;
        }
        let signal = self.carry_out(io, now, key, actions, last);
        if gone {
            self.abandon(io, key);
        }
        signal
    }

    /// Carries out what the table says and returns what concerns the user.
    fn carry_out(
        &mut self,
        io: &mut Io,
        now: Instant,
        key: ServerKey,
        actions: &[Action],
        last: Option<Duration>,
    ) -> Option<ServerSignal> {
        let server = self.all.get_mut(key)?;
        let reliable = server.flow.transport.is_reliable();
        let mut timers = Running { set: &mut server.timers, owner: Owner::Server(key), reliable, now };
        let mut signal = None;
        for action in actions {
            if timers.carry_out(io, *action, last) {
                continue;
            }
            match action {
                Action::Transmit if server.response.is_empty() => {}
                Action::Transmit => io.send(server.flow, server.response.clone()),
                Action::Trying => {
                    if let Some(trying) = trying(server.request.as_deref(), server.source) {
                        server.response = trying;
                        io.send(server.flow, server.response.clone());
                    }
                }
                Action::Deliver => signal = Some(ServerSignal::Ack),
                Action::Fail => signal = Some(ServerSignal::TransportError),
                _ => {}
            }
        }
        signal
    }
}

/// 100 Trying, without a tag (8.2.6.2).
fn trying(request: Option<&Message>, source: SocketAddr) -> Option<Bytes> {
    Builder::response_to(request?, source, 100, "").build().ok()
}

impl Machine {
    /// One step by the machine's table; tells whether it was the last.
    fn advance(&mut self, input: Input) -> (bool, &'static [Action]) {
        match self {
            Self::Invite(state) => {
                let Some(input) = invite_input(input) else { return (false, &[]) };
                let (next, actions) = server_invite::step(*state, input);
                *state = next;
                (next == server_invite::State::Terminated, actions)
            }
            Self::Other(state) => {
                let Some(input) = other_input(input) else { return (false, &[]) };
                let (next, actions) = server::step(*state, input);
                *state = next;
                (next == server::State::Terminated, actions)
            }
        }
    }
}

fn invite_input(input: Input) -> Option<server_invite::Input> {
    use server_invite::Input as I;
    Some(match input {
        Input::Request => I::Request,
        Input::Ack => I::Ack,
        Input::Response(..200) => I::Provisional,
        Input::Response(..300) => I::Success,
        Input::Response(_) => I::Failure,
        Input::Timer(TimerKind::G, _) => I::TimerG,
        Input::Timer(TimerKind::H, _) => I::TimerH,
        Input::Timer(TimerKind::I, _) => I::TimerI,
        Input::Timer(TimerKind::L, _) => I::TimerL,
        Input::Timer(..) | Input::Pending => return None,
        Input::TransportError => I::TransportError,
    })
}

fn other_input(input: Input) -> Option<server::Input> {
    use server::Input as I;
    Some(match input {
        Input::Request => I::Request,
        Input::Pending => I::Pending,
        Input::Response(200..) => I::Final,
        Input::Timer(TimerKind::Late100, _) => I::TimerLate100,
        Input::Timer(TimerKind::J, _) => I::TimerJ,
        Input::TransportError => I::TransportError,
        Input::Ack | Input::Response(_) | Input::Timer(..) => return None,
    })
}
