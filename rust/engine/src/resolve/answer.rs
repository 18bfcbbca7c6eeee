//! What the DNS said of a name, and the order in which its servers are tried this time (RFC 3263 4.2, RFC 2782).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use telephony_sip::Transport;

/// Places that one request may go to; more would outlast any caller.
const MAX_CANDIDATES: usize = 16;

/// One place that a request may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

/// The servers of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The services in the order of preference; none if the name leads nowhere.
    pub(crate) services: Vec<Service>,
    /// How long it may be believed.
    pub(crate) ttl: Duration,
}

/// The servers of one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) transport: Transport,
    pub(crate) servers: Vec<Server>,
}

/// One SRV record with its addresses, or the addresses of the name itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Answer {
    /// The places in the order of this use: services as preferred, servers by priority and weight, addresses as the
    /// DNS gave them.
    pub(crate) fn candidates(&self, dice: &mut Dice) -> Vec<Candidate> {
        let mut found = Vec::new();
        for service in &self.services {
            for server in order(&service.servers, dice) {
                let place = |ip: &IpAddr| Candidate {
                    transport: service.transport,
                    address: SocketAddr::new(*ip, server.port),
                };
                found.extend(server.addresses.iter().map(place));
            }
        }
        found.truncate(MAX_CANDIDATES);
        found
    }
}

/// The order of RFC 2782: the lowest priority first, and among equals each place drawn in proportion to its weight,
/// where those of weight 0 have a small chance of being first.
fn order<'a>(servers: &'a [Server], dice: &mut Dice) -> Vec<&'a Server> {
    let mut left: Vec<&Server> = servers.iter().collect();
    left.sort_by_key(|server| (server.priority, server.weight != 0));
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first().map(|server| server.priority) {
        let equals = left.iter().take_while(|server| server.priority == first).count();
        let total: u32 = left.iter().take(equals).map(|server| u32::from(server.weight)).sum();
        let drawn = dice.up_to(total);
        let mut sum = 0;
        let reaches = |server: &&Server| {
            sum += u32::from(server.weight);
            sum >= drawn
        };
        let place = left.iter().take(equals).position(reaches).unwrap_or(0);
        ordered.push(left.remove(place));
    }
    ordered
}

/// A source of chance for spreading load; nothing secret depends on it (SplitMix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `most`, both included.
    pub(crate) fn up_to(&mut self, most: u32) -> u32 {
        let scaled = ((self.next() >> 32) * (u64::from(most) + 1)) >> 32;
        u32::try_from(scaled).unwrap_or(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(priority: u16, weight: u16, port: u16) -> Server {
        Server { priority, weight, port, addresses: vec!["192.0.2.1".parse().unwrap()] }
    }

    fn answer(servers: Vec<Server>) -> Answer {
        Answer {
            services: vec![Service { transport: Transport::Udp, servers }],
            ttl: Duration::from_secs(60),
        }
    }

    fn ports(answer: &Answer, dice: &mut Dice) -> Vec<u16> {
        answer.candidates(dice).iter().map(|place| place.address.port()).collect()
    }

    #[test]
    fn priorities_come_in_order_and_nobody_twice() {
        let answer = answer(vec![server(20, 5, 4), server(10, 1, 1), server(10, 3, 2), server(10, 0, 3)]);
        let mut dice = Dice::new(1);
        for _ in 0..50 {
            let mut drawn = ports(&answer, &mut dice);
            assert_eq!(drawn[3], 4);
            drawn.sort_unstable();
            assert_eq!(drawn, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn weights_share_the_calls() {
        let answer = answer(vec![server(1, 60, 1), server(1, 30, 2), server(1, 10, 3)]);
        let mut dice = Dice::new(7);
        let mut firsts = [0; 4];
        for _ in 0..2000 {
            firsts[usize::from(ports(&answer, &mut dice)[0])] += 1;
        }
        let share = |port: usize| firsts[port] * 100 / 2000;
        assert!((56..=64).contains(&share(1)) && (26..=34).contains(&share(2)), "{firsts:?}");
        assert!((7..=13).contains(&share(3)), "{firsts:?}");
    }

    #[test]
    fn weight_zero_is_rarely_first_but_can_be() {
        let answer = answer(vec![server(1, 0, 1), server(1, 9, 2)]);
        let mut dice = Dice::new(3);
        let firsts = (0..1000).filter(|_| ports(&answer, &mut dice)[0] == 1).count();
        assert!((50..=160).contains(&firsts), "{firsts}");
    }

    #[test]
    fn there_is_an_end_to_the_places() {
        let many = (0..100).map(|port| server(1, 1, port)).collect();
        assert_eq!(ports(&answer(many), &mut Dice::new(1)).len(), MAX_CANDIDATES);
    }
}
