//! The procedure of RFC 3263 4: NAPTR for the transport, SRV for the server, A and AAAA for its address.

use super::answer::{Answer, Server, Service};
use super::target::{Question, default_port};
use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::task::Poll;
use std::time::Duration;
use telephony_sip::Transport;

/// Records of each kind that are looked at; a name with more is no telephone service.
const MAX_SERVICES: usize = 4;
const MAX_SERVERS: usize = 16;
const MAX_ADDRESSES: usize = 8;
/// How long a fault of the name server counts as "no such record" where another way is left.
pub(super) const FAULT_TTL: Duration = Duration::from_secs(5);

/// What the DNS gave for one query; no records is an answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Records<T> {
    pub(crate) records: Vec<T>,
    pub(crate) ttl: Duration,
}

/// A NAPTR record (RFC 3403 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Naptr {
    pub(crate) order: u16,
    pub(crate) preference: u16,
    pub(crate) flags: String,
    pub(crate) service: String,
    pub(crate) replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Srv {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// Without the last dot; empty means that there is no such service.
    pub(crate) target: String,
}

/// The name servers did not answer, or not with an answer.
pub(crate) type Fault = String;

/// Who answers the queries.
pub(crate) trait Names {
    fn naptr(&self, name: &str) -> impl Future<Output = Result<Records<Naptr>, Fault>>;
    fn srv(&self, name: &str) -> impl Future<Output = Result<Records<Srv>, Fault>>;
    /// Addresses that our sockets can send to, of both families.
    fn addresses(&self, name: &str) -> impl Future<Output = Result<Records<IpAddr>, Fault>>;
    /// The addresses that this machine's hosts file gives to a name. They go before all that the DNS says.
    fn own(&self, name: &str) -> Vec<IpAddr>;
}

/// One lookup under way.
pub(crate) struct Lookup<'a, N> {
    names: &'a N,
    question: &'a Question,
    spoken: &'a [Transport],
    ttl: Cell<Duration>,
    /// What hides servers that there may be.
    fault: Cell<Option<Fault>>,
}

impl<'a, N: Names> Lookup<'a, N> {
    pub(crate) fn new(names: &'a N, question: &'a Question, spoken: &'a [Transport]) -> Self {
        Self { names, question, spoken, ttl: Cell::new(Duration::MAX), fault: Cell::default() }
    }

    /// The servers of the name; none if it leads nowhere. A fault is one only where nothing was found.
    pub(crate) async fn run(self) -> Result<Answer, Fault> {
        let services = self.services().await;
        match self.fault.take() {
            Some(fault) if services.is_empty() => Err(fault),
            _ => Ok(Answer { services, ttl: self.ttl.get() }),
        }
    }

    async fn services(&self) -> Vec<Service> {
        let own = self.names.own(&self.question.host);
        if !own.is_empty() {
            self.believe(Duration::from_secs(60));
            let transport = self.plain();
            let port = self.question.port.unwrap_or(default_port(transport));
            let server = Server { priority: 0, weight: 0, port, addresses: own };
            return vec![Service { transport, servers: vec![server] }];
        }
        if let Some(port) = self.question.port {
            return self.by_address(self.plain(), port).await;
        }
        let found = match self.question.transport {
            Some(transport) => self.by_srv(vec![(transport, self.srv_name(transport))]).await,
            None => self.by_naptr().await,
        };
        if let Some(found) = found {
            return found;
        }
        // 4.2: no SRV record, so the name is the server's own.
        let transport = self.plain();
        self.by_address(transport, default_port(transport)).await
    }

    fn believe(&self, ttl: Duration) {
        self.ttl.set(self.ttl.get().min(ttl));
    }

    /// The records, or `None` for a fault, which is remembered.
    fn noted<T>(&self, result: Result<Records<T>, Fault>) -> Option<Vec<T>> {
        match result {
            Ok(found) => {
                self.believe(found.ttl);
                Some(found.records)
            }
            Err(fault) => {
                self.believe(FAULT_TTL);
                self.fault.set(Some(fault));
                None
            }
        }
    }

    /// The transport where nothing says more (4.1).
    fn plain(&self) -> Transport {
        let usual = if self.question.secure { Transport::Tls } else { Transport::Udp };
        self.question.transport.unwrap_or(usual)
    }

    fn srv_name(&self, transport: Transport) -> String {
        let prefix = match transport {
            Transport::Tcp => "_sip._tcp.",
            Transport::Tls => "_sips._tcp.",
            _ => "_sip._udp.",
        };
        format!("{prefix}{}", self.question.host)
    }

    async fn by_naptr(&self) -> Option<Vec<Service>> {
        // Many a small name server answers SERVFAIL to what it does not know; SRV tells what there is.
        let unknown = |_| Records { records: Vec::new(), ttl: FAULT_TTL };
        let found = self.names.naptr(&self.question.host).await.unwrap_or_else(unknown);
        self.believe(found.ttl);
        let mut usable: Vec<(u16, u16, Transport, String)> =
            found.records.into_iter().filter_map(|record| self.usable(record)).collect();
        usable.sort_by_key(|(order, preference, ..)| (*order, *preference));
        usable.truncate(MAX_SERVICES);
        let named: Vec<_> = usable.into_iter().map(|(_, _, transport, name)| (transport, name)).collect();
        if !named.is_empty() {
            return self.by_srv(named).await;
        }
        let every = self.spoken.iter().filter(|spoken| !self.question.secure || **spoken == Transport::Tls);
        let every = every.map(|transport| (*transport, self.srv_name(*transport))).collect();
        self.by_srv(every).await
    }

    /// A NAPTR record of a transport that we speak (4.1): flag `s`, and `SIPS+` only for a `sips:` URI.
    fn usable(&self, record: Naptr) -> Option<(u16, u16, Transport, String)> {
        let transport = match record.service.to_ascii_uppercase().as_str() {
            "SIP+D2U" => Transport::Udp,
            "SIP+D2T" => Transport::Tcp,
            "SIPS+D2T" => Transport::Tls,
            _ => return None,
        };
        let wanted = !self.question.secure || transport == Transport::Tls;
        let usable = wanted && self.spoken.contains(&transport) && record.flags.eq_ignore_ascii_case("s");
        usable.then_some((record.order, record.preference, transport, record.replacement))
    }

    /// The services of these names; `None` where there is no SRV record at all. Records that lead nowhere are records:
    /// by the target "." a domain says that it decidedly has no such service (RFC 2782).
    async fn by_srv(&self, names: Vec<(Transport, String)>) -> Option<Vec<Service>> {
        let found = all(names.iter().map(|(_, name)| self.names.srv(name))).await;
        let found: Vec<_> = found.into_iter().map(|result| self.noted(result)).collect();
        if found.iter().all(|records| records.as_ref().is_some_and(Vec::is_empty)) {
            return None;
        }
        let found: Vec<_> =
            found.into_iter().map(|records| with_target(records.unwrap_or_default())).collect();
        let addresses = self.addresses_of(found.iter().flatten()).await;
        let server = |Srv { priority, weight, port, target }: Srv| {
            let addresses = addresses.get(&target).filter(|addresses| !addresses.is_empty())?.clone();
            Some(Server { priority, weight, port, addresses })
        };
        let service = |((transport, _), records): ((Transport, String), Vec<Srv>)| Service {
            transport,
            servers: records.into_iter().filter_map(server).collect(),
        };
        let services = names.into_iter().zip(found).map(service);
        Some(services.filter(|service| !service.servers.is_empty()).collect())
    }

    /// The addresses of the targets, which are asked for together: nobody waits for the slowest name but itself.
    async fn addresses_of(&self, records: impl Iterator<Item = &Srv>) -> HashMap<String, Vec<IpAddr>> {
        let mut targets: Vec<&str> = Vec::new();
        for Srv { target, .. } in records {
            if targets.len() < MAX_SERVERS && !targets.contains(&&**target) {
                targets.push(target);
            }
        }
        let found = all(targets.iter().map(|target| self.addresses(target))).await;
        targets.into_iter().map(str::to_owned).zip(found).collect()
    }

    async fn by_address(&self, transport: Transport, port: u16) -> Vec<Service> {
        let addresses = self.addresses(&self.question.host).await;
        if addresses.is_empty() {
            return Vec::new();
        }
        let server = Server { priority: 0, weight: 0, port, addresses };
        vec![Service { transport, servers: vec![server] }]
    }

    async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut found = self.noted(self.names.addresses(name).await).unwrap_or_default();
        found.truncate(MAX_ADDRESSES);
        found
    }
}

/// The records that name a server, the best first.
fn with_target(mut records: Vec<Srv>) -> Vec<Srv> {
    records.retain(|record| !record.target.is_empty() && record.port != 0);
    records.sort_by_key(|record| record.priority);
    records.truncate(MAX_SERVERS);
    records
}

/// What all of them give, in their order; they wait side by side.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(given) = future.as_mut().poll(context) {
                *output = Some(given);
            }
        }
        match waiting.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::pin::pin;
    use std::task::{Context, Waker};

    const ALL: &[Transport] = &[Transport::Udp, Transport::Tcp, Transport::Tls];

    /// A zone in lines: `name TYPE data`, and what was asked of it.
    struct Zone {
        lines: &'static [&'static str],
        asked: RefCell<Vec<String>>,
    }

    impl Zone {
        fn find(&self, name: &str, kind: &str) -> Result<Records<Vec<&'static str>>, Fault> {
            self.asked.borrow_mut().push(format!("{kind} {name}"));
            let words = self.lines.iter().map(|line| line.split(' ').collect::<Vec<_>>());
            let records: Vec<_> = words
                .filter(|words| words[0] == name && words[1] == kind)
                .map(|words| words[2..].to_vec())
                .collect();
            match records.iter().any(|data| data[0] == "SERVFAIL") {
                true => Err("server failure".into()),
                false => Ok(Records { records, ttl: Duration::from_secs(300) }),
            }
        }
    }

    impl Names for Zone {
        async fn naptr(&self, name: &str) -> Result<Records<Naptr>, Fault> {
            let found = self.find(name, "NAPTR")?;
            let naptr = |data: Vec<&str>| Naptr {
                order: data[0].parse().unwrap(),
                preference: data[1].parse().unwrap(),
                flags: data[2].into(),
                service: data[3].into(),
                replacement: data[4].into(),
            };
            Ok(Records { records: found.records.into_iter().map(naptr).collect(), ttl: found.ttl })
        }

        async fn srv(&self, name: &str) -> Result<Records<Srv>, Fault> {
            let found = self.find(name, "SRV")?;
            let srv = |data: Vec<&str>| Srv {
                priority: data[0].parse().unwrap(),
                weight: data[1].parse().unwrap(),
                port: data[2].parse().unwrap(),
                target: data[3].trim_end_matches('.').into(),
            };
            Ok(Records { records: found.records.into_iter().map(srv).collect(), ttl: found.ttl })
        }

        async fn addresses(&self, name: &str) -> Result<Records<IpAddr>, Fault> {
            let found = self.find(name, "A")?;
            if name.starts_with("slow") {
                let others = || self.asked.borrow().iter().any(|asked| asked.starts_with("A quick"));
                poll_fn(|_| if others() { Poll::Ready(()) } else { Poll::Pending }).await;
            }
            let records = found.records.into_iter().map(|data| data[0].parse().unwrap()).collect();
            Ok(Records { records, ttl: found.ttl })
        }

        fn own(&self, name: &str) -> Vec<IpAddr> {
            self.find(name, "HOSTS").unwrap().records.iter().map(|data| data[0].parse().unwrap()).collect()
        }
    }

    /// Looks a URI up: `transport address:port` of each server in order, and the queries made.
    fn look_up(
        uri: &str,
        spoken: &[Transport],
        lines: &'static [&'static str],
    ) -> (Result<Vec<String>, Fault>, Vec<String>) {
        let secure = uri.starts_with("sips:");
        let (host, rest) =
            uri.split_once(':').unwrap().1.split_once(' ').unwrap_or((uri.split_once(':').unwrap().1, ""));
        let question = Question {
            host: host.into(),
            port: rest.parse().ok(),
            transport: match rest {
                "udp" => Some(Transport::Udp),
                "tcp" => Some(Transport::Tcp),
                "tls" => Some(Transport::Tls),
                _ => None,
            },
            secure,
        };
        let zone = Zone { lines, asked: RefCell::default() };
        let mut run = pin!(Lookup::new(&zone, &question, spoken).run());
        let mut poll = || run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Some(Poll::Ready(found)) = (0..2).map(|_| poll()).find(Poll::is_ready) else { panic!() };
        let words = |answer: Answer| {
            let of = |service: Service| {
                let transport = format!("{:?}", service.transport).to_lowercase();
                service.servers.into_iter().flat_map(move |server| {
                    let transport = transport.clone();
                    let port = server.port;
                    server.addresses.into_iter().map(move |ip| format!("{transport} {ip}:{port}"))
                })
            };
            answer.services.into_iter().flat_map(of).collect()
        };
        (
            found.map(words),
            zone.asked.take().into_iter().filter(|asked| !asked.starts_with("HOSTS")).collect(),
        )
    }

    const ZONE: &[&str] = &[
        "example.com NAPTR 50 50 s SIPS+D2T _sips._tcp.example.com",
        "example.com NAPTR 90 50 s SIP+D2T _sip._tcp.example.com",
        "example.com NAPTR 100 50 S sip+d2u _sip._udp.example.com",
        "example.com NAPTR 10 50 u E2U+sip ignored.example.com",
        "_sips._tcp.example.com SRV 1 0 5061 a.example.com",
        "_sip._tcp.example.com SRV 2 0 5070 b.example.com",
        "_sip._tcp.example.com SRV 1 0 5060 a.example.com",
        "_sip._udp.example.com SRV 1 0 5060 a.example.com",
        "a.example.com A 192.0.2.1",
        "b.example.com A 192.0.2.2",
        "b.example.com A 192.0.2.3",
    ];

    #[test]
    fn naptr_orders_the_transports_that_we_speak() {
        let (found, asked) = look_up("sip:example.com", ALL, ZONE);
        let wanted = ["tls 192.0.2.1:5061", "tcp 192.0.2.1:5060", "tcp 192.0.2.2:5070", "tcp 192.0.2.3:5070"];
        assert_eq!(found.unwrap(), [&wanted[..], &["udp 192.0.2.1:5060"]].concat());
        assert_eq!(asked[..2], ["NAPTR example.com", "SRV _sips._tcp.example.com"]);
        let (found, _) = look_up("sip:example.com", &[Transport::Udp], ZONE);
        assert_eq!(found.unwrap(), ["udp 192.0.2.1:5060"]);
        let (found, _) = look_up("sips:example.com", ALL, ZONE);
        assert_eq!(found.unwrap(), ["tls 192.0.2.1:5061"]);
    }

    #[test]
    fn a_transport_a_port_or_the_hosts_file_leave_less_to_ask() {
        let (found, asked) = look_up("sip:example.com tcp", ALL, ZONE);
        assert_eq!((found.unwrap().len(), &*asked[0]), (3, "SRV _sip._tcp.example.com"));
        let (found, asked) = look_up("sip:b.example.com 5099", ALL, ZONE);
        assert_eq!(found.unwrap(), ["udp 192.0.2.2:5099", "udp 192.0.2.3:5099"]);
        assert_eq!(asked, ["A b.example.com"]);
        let (found, asked) = look_up("sip:pbx", ALL, &["pbx HOSTS 192.0.2.9"]);
        assert_eq!((found.unwrap(), asked.len()), (vec!["udp 192.0.2.9:5060".to_owned()], 0));
    }

    #[test]
    fn without_naptr_srv_is_asked_of_every_transport_and_without_srv_the_name_itself() {
        const PLAIN: &[&str] = &[
            "_sip._tcp.example.org SRV 1 0 5062 a.example.org",
            "a.example.org A 192.0.2.7",
            "c.example.org NAPTR SERVFAIL",
            "c.example.org A 192.0.2.8",
            "_sip._udp.d.example.org SRV 0 0 0 .",
        ];
        let (found, asked) = look_up("sip:example.org", ALL, PLAIN);
        assert_eq!(found.unwrap(), ["tcp 192.0.2.7:5062"]);
        assert_eq!(asked[1..4].len(), 3);
        // A name server that fails for NAPTR may know the rest.
        let (found, _) = look_up("sip:c.example.org", ALL, PLAIN);
        assert_eq!(found.unwrap(), ["udp 192.0.2.8:5060"]);
        let (found, _) = look_up("sips:c.example.org", ALL, PLAIN);
        assert_eq!(found.unwrap(), ["tls 192.0.2.8:5061"]);
        let (found, _) = look_up("sip:d.example.org udp", ALL, PLAIN);
        assert_eq!(found.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_name_server_that_fails_for_srv_is_a_fault_and_not_an_answer() {
        let (found, _) = look_up("sip:example.net udp", ALL, &["_sip._udp.example.net SRV SERVFAIL"]);
        assert_eq!(found, Err("server failure".to_owned()));
    }

    #[test]
    fn records_that_lead_nowhere_leave_no_way_to_the_name_itself() {
        const CLOSED: &[&str] = &[
            "_sip._udp.a.example SRV 0 0 0 .",
            "a.example A 192.0.2.1",
            "_sip._udp.b.example SRV 0 0 5060 gone.b.example",
            "b.example A 192.0.2.2",
        ];
        for uri in ["sip:a.example", "sip:a.example udp", "sip:b.example"] {
            let (found, asked) = look_up(uri, ALL, CLOSED);
            assert_eq!(found, Ok(Vec::new()), "{uri}");
            assert!(!asked.contains(&format!("A {}", &uri[4..13])), "{asked:?}");
        }
    }

    #[test]
    fn what_a_fault_hides_does_not_hide_the_rest_but_shortens_its_time() {
        const HALF: &[&str] = &[
            "a.example NAPTR 1 1 s SIP+D2U _sip._udp.a.example",
            "a.example NAPTR 2 1 s SIPS+D2T _sips._tcp.a.example",
            "_sip._udp.a.example SRV 1 0 5060 dead.a.example",
            "_sip._udp.a.example SRV 2 0 5060 one.a.example",
            "_sips._tcp.a.example SRV SERVFAIL",
            "dead.a.example A SERVFAIL",
            "one.a.example A 192.0.2.1",
        ];
        let (found, _) = look_up("sip:a.example", ALL, HALF);
        assert_eq!(found.unwrap(), ["udp 192.0.2.1:5060"]);
        let question = Question { host: "a.example".into(), port: None, transport: None, secure: false };
        let zone = Zone { lines: HALF, asked: RefCell::default() };
        let run = pin!(Lookup::new(&zone, &question, ALL).run());
        let Poll::Ready(Ok(answer)) = run.poll(&mut Context::from_waker(Waker::noop())) else { panic!() };
        assert_eq!(answer.ttl, FAULT_TTL);
    }

    #[test]
    fn targets_are_asked_for_together_and_each_once() {
        const TWO: &[&str] = &[
            "_sip._udp.a.example SRV 1 0 5060 slow.a.example",
            "_sip._udp.a.example SRV 2 0 5060 quick.a.example",
            "_sip._tcp.a.example SRV 1 0 5060 slow.a.example",
            "slow.a.example A 192.0.2.1",
            "quick.a.example A 192.0.2.2",
        ];
        let (found, asked) = look_up("sip:a.example", ALL, TWO);
        assert_eq!(found.unwrap(), ["udp 192.0.2.1:5060", "udp 192.0.2.2:5060", "tcp 192.0.2.1:5060"]);
        assert_eq!(asked[4..], ["A slow.a.example", "A quick.a.example"]);
    }
}
