//! The thread that asks the DNS. It runs the one tokio runtime of the process, far from every packet.

use super::DEADLINE;
use super::Families;
use super::answer::Answer;
use super::lookup::{FAULT_TTL, Fault, Lookup, Names, Naptr, Records, Srv};
use super::target::{Question, SPOKEN};
use crate::EngineError;
use crate::message::ToSip;
use crate::queue::Mailbox;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup as Found;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Questions that may wait to be asked.
const QUEUE: usize = 256;
/// One name server's time for one query, and how often it is asked; a dead first server leaves time for a second.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 2;
/// How long "no such record" holds when the name server does not say (RFC 2308 5 wants an SOA).
const NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// The port of the DNS.
const DNS_PORT: u16 = 53;

/// The name servers of a setting: `ip[:port]`, separated by commas.
pub(crate) fn parse_servers(text: &str) -> Result<Vec<SocketAddr>, EngineError> {
    let one = |part: &str| {
        let plain = || Some(SocketAddr::new(part.trim_matches(['[', ']']).parse().ok()?, DNS_PORT));
        part.parse().ok().or_else(plain).ok_or_else(|| {
            let message =
                format!("DNS_SERVERS: {part:?} is no ip:port; name IP addresses, separated by commas");
            EngineError::setting("DNS_SERVERS", message)
        })
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start(
    sip: Arc<Mailbox<ToSip>>,
    families: Families,
    servers: Vec<SocketAddr>,
) -> io::Result<(Sender<Question>, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (questions, waiting) = channel(QUEUE);
    let thread = std::thread::Builder::new().name("resolver".into());
    let thread = thread.spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, serve(waiting, sip, families, servers));
    })?;
    Ok((questions, thread))
}

async fn serve(
    mut waiting: Receiver<Question>,
    sip: Arc<Mailbox<ToSip>>,
    families: Families,
    servers: Vec<SocketAddr>,
) {
    let dns = Rc::new(Dns::new(families, &servers));
    while let Some(question) = waiting.recv().await {
        let (dns, sip) = (Rc::clone(&dns), Arc::clone(&sip));
        tokio::task::spawn_local(async move {
            let result = answer(&dns, &question).await;
            deliver(&sip, ToSip::Resolved { question, result }).await;
        });
    }
}

async fn answer(dns: &Dns, question: &Question) -> Result<Answer, Fault> {
    let lookup = Lookup::new(dns, question, SPOKEN).run();
    let late = |_| Err("the name servers did not answer in time".to_owned());
    tokio::time::timeout(DEADLINE, lookup).await.unwrap_or_else(late)
}

/// The SIP thread may be behind for a moment; whoever waits there has a deadline of his own.
async fn deliver(sip: &Mailbox<ToSip>, mut mail: ToSip) {
    for _ in 0..1000 {
        match sip.send(mail) {
            Ok(()) => return,
            Err(back) => mail = back,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The DNS as this machine knows it.
struct Dns {
    resolver: Result<TokioResolver, Fault>,
    families: Families,
}

impl Dns {
    fn new(families: Families, servers: &[SocketAddr]) -> Self {
        let resolver = resolver(servers).map_err(|error| format!("no name server: {error}"));
        Self { resolver, families }
    }

    /// The records of one type; a name without them gives none. Names with a dot are whole, others may be searched
    /// for in the domains of resolv.conf.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Records<RData>, Fault> {
        let resolver = self.resolver.as_ref().map_err(Clone::clone)?;
        let mut name = Name::from_utf8(name).map_err(|error| format!("{name:?}: {error}"))?;
        if name.num_labels() > 1 {
            name.set_fqdn(true);
        }
        match resolver.lookup(name, kind).await {
            Ok(found) => Ok(records_of(&found, kind)),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let ttl = none.negative_ttl.map_or(NEGATIVE_TTL, |ttl| Duration::from_secs(ttl.into()));
                Ok(Records { records: Vec::new(), ttl })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The addresses of one family; `None` if our sockets do not speak it.
    async fn of_family(
        &self,
        spoken: bool,
        name: &str,
        kind: RecordType,
    ) -> Option<Result<Records<RData>, Fault>> {
        match spoken {
            true => Some(self.records(name, kind).await),
            false => None,
        }
    }
}

/// What of the records is of the type asked for; CNAMEs on the way there count for the time only.
fn records_of(found: &Found, kind: RecordType) -> Records<RData> {
    let answers = found.answers();
    let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    let of_kind = answers.iter().filter(|record| record.record_type() == kind);
    Records {
        records: of_kind.map(|record| record.data.clone()).collect(),
        ttl: Duration::from_secs(ttl.into()),
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let (config, mut options) = match servers {
        [] => read_system_conf()?,
        _ => (given(servers), ResolverOpts::default()),
    };
    options.timeout = QUERY_TIMEOUT;
    // The library counts what comes after the first.
    options.attempts = ATTEMPTS - 1;
    // The SIP thread remembers whole answers; the hosts file is read for each question.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

fn given(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = address.port());
        NameServerConfig::new(address.ip(), true, connections)
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

impl Names for Dns {
    async fn naptr(&self, name: &str) -> Result<Records<Naptr>, Fault> {
        let found = self.records(name, RecordType::NAPTR).await?;
        let naptr = |data| match data {
            RData::NAPTR(naptr) => Some(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                service: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: text(&naptr.replacement),
            }),
            _ => None,
        };
        Ok(Records { records: found.records.into_iter().filter_map(naptr).collect(), ttl: found.ttl })
    }

    async fn srv(&self, name: &str) -> Result<Records<Srv>, Fault> {
        let found = self.records(name, RecordType::SRV).await?;
        let srv = |data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: text(&srv.target),
            }),
            _ => None,
        };
        Ok(Records { records: found.records.into_iter().filter_map(srv).collect(), ttl: found.ttl })
    }

    async fn addresses(&self, name: &str) -> Result<Records<IpAddr>, Fault> {
        let own = self.own(name);
        if !own.is_empty() {
            return Ok(Records { records: own, ttl: Duration::from_secs(60) });
        }
        let v4 = self.of_family(self.families.v4, name, RecordType::A);
        let v6 = self.of_family(self.families.v6, name, RecordType::AAAA);
        let (v4, v6) = both(v4, v6).await;
        of_families([v4, v6])
    }

    fn own(&self, name: &str) -> Vec<IpAddr> {
        let (Ok(hosts), Ok(name)) = (Hosts::from_system(), Name::from_utf8(name)) else { return Vec::new() };
        let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [of(RecordType::A), of(RecordType::AAAA)];
        let all = found.iter().flatten().flat_map(Found::answers).filter_map(|record| record.data.ip_addr());
        all.filter(|ip| self.families.speak(*ip)).collect()
    }
}

async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    tokio::join!(first, second)
}

/// The addresses of the families that we speak. Where one of them could not be asked for, nothing is a fault and no
/// answer (RFC 2308 7), and the rest is not believed for long.
fn of_families(families: [Option<Result<Records<RData>, Fault>>; 2]) -> Result<Records<IpAddr>, Fault> {
    let (mut all, mut fault) = (Records { records: Vec::new(), ttl: Duration::MAX }, None);
    for family in families.into_iter().flatten() {
        let ttl = family.as_ref().map_or(FAULT_TTL, |found| found.ttl);
        all.ttl = all.ttl.min(ttl);
        match family {
            Ok(found) => all.records.extend(found.records.iter().filter_map(RData::ip_addr)),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    match fault {
        Some(fault) if all.records.is_empty() => Err(fault),
        _ => Ok(all),
    }
}

/// A name without its last dot.
fn text(name: &Name) -> String {
    name.to_utf8().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_addresses_with_or_without_a_port() {
        let servers = parse_servers("192.0.2.1, 192.0.2.2:5300,[2001:db8::1]:54,2001:db8::2,").unwrap();
        let wanted = ["192.0.2.1:53", "192.0.2.2:5300", "[2001:db8::1]:54", "[2001:db8::2]:53"];
        assert_eq!(servers, wanted.map(|text| text.parse().unwrap()));
        assert_eq!(parse_servers("dns.example.com").unwrap_err().setting, Some("DNS_SERVERS"));
    }

    #[test]
    fn a_family_that_failed_is_a_fault_or_makes_the_other_short_lived() {
        const MINUTE: Duration = Duration::from_secs(60);
        let found = |ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            Some(Ok(Records { records: vec![ip.into()], ttl: MINUTE }))
        };
        let none = || Some(Ok(Records { records: Vec::new(), ttl: MINUTE }));
        let failed = || Some(Err("timeout".to_owned()));
        let all = |families| of_families(families).map(|all| (all.records.len(), all.ttl));
        // The second family is not spoken.
        assert_eq!(all([found("192.0.2.1"), None]), Ok((1, MINUTE)));
        assert_eq!(all([none(), None]), Ok((0, MINUTE)));
        assert_eq!(all([failed(), None]), Err("timeout".to_owned()));
        // Both are.
        assert_eq!(all([found("192.0.2.1"), found("2001:db8::1")]), Ok((2, MINUTE)));
        assert_eq!(all([none(), none()]), Ok((0, MINUTE)));
        assert_eq!(all([failed(), found("2001:db8::1")]), Ok((1, FAULT_TTL)));
        assert_eq!(all([none(), failed()]), Err("timeout".to_owned()));
    }
}
