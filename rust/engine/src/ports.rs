//! The RTP port pairs of one media worker.
//!
//! Pairs are bound when a leg needs them, not beforehand: 5,000 pairs bound at the start would cost 10,000 descriptors
//! and as many receive buffers, while a bind costs a few microseconds once per call. What pre-binding would buy, that
//! nobody else takes a port of the range, is had by trying the next pair. A closed pair rests before it is used again,
//! so that a former peer's late packets meet a closed port and not a stranger's call. The order is shuffled: a port
//! that can be guessed can be sprayed with packets before the true peer's arrive.

use crate::error::Code;
use crate::socket::{Options, Socket};
use crate::{EngineError, config};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long a closed pair rests.
const QUARANTINE: Duration = Duration::from_secs(5);
/// How long it rests at least, when no other is free: 700 calls a second go through 7,000 pairs in five seconds.
const LEAST_QUARANTINE: Duration = Duration::from_secs(1);
/// Pairs to try, when others have bound ports of our range, before giving up.
const ATTEMPTS: usize = 64;

/// An even port for RTP and the odd one above for RTCP (RFC 3550 11).
pub(crate) struct Pair {
    pub(crate) rtp: Socket,
    pub(crate) rtcp: Socket,
    port: u16,
}

impl Pair {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// The pairs of one worker.
pub(crate) struct PortPool {
    free: VecDeque<u16>,
    resting: VecDeque<(Instant, u16)>,
    in_use: usize,
}

impl PortPool {
    /// The share of worker `index` out of `workers` in `range`.
    pub(crate) fn new(range: &RangeInclusive<u16>, index: usize, workers: usize, seed: u64) -> Self {
        let mut free: Vec<u16> = pairs(range).skip(index).step_by(workers.max(1)).collect();
        shuffle(&mut free, seed);
        Self { free: free.into(), resting: VecDeque::new(), in_use: 0 }
    }

    /// Binds the next free pair at `ip`.
    pub(crate) fn allocate(&mut self, now: Instant, ip: IpAddr) -> Result<Pair, EngineError> {
        self.wake(now);
        for _ in 0..ATTEMPTS {
            let Some(port) = self.free.pop_front().or_else(|| self.least_tired(now)) else { break };
            match bind(ip, port) {
                Ok(pair) => {
                    self.in_use += 1;
                    return Ok(pair);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.resting.push_back((now, port)),
                Err(error) => {
                    self.free.push_front(port);
                    return Err(refusal(ip, &error));
                }
            }
        }
        let message = format!("no free RTP port; widen {} or take fewer calls", config::RTP_PORT_RANGE);
        Err(EngineError { setting: Some(config::RTP_PORT_RANGE), ..EngineError::new(Code::NoPorts, message) })
    }

    /// The pair that rested longest, if that is long enough in need.
    fn least_tired(&mut self, now: Instant) -> Option<u16> {
        let &(since, _) = self.resting.front()?;
        let rested = now.saturating_duration_since(since) >= LEAST_QUARANTINE;
        if rested { self.resting.pop_front().map(|(_, port)| port) } else { None }
    }

    /// Closes a pair and lets its ports rest.
    pub(crate) fn release(&mut self, now: Instant, pair: Pair) {
        self.in_use = self.in_use.saturating_sub(1);
        self.resting.push_back((now, pair.port));
    }

    /// Pairs that are bound.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Pairs that are not, resting ones included.
    pub(crate) fn free(&self) -> usize {
        self.free.len() + self.resting.len()
    }

    fn wake(&mut self, now: Instant) {
        let rested = |&(since, _): &(Instant, u16)| now.saturating_duration_since(since) >= QUARANTINE;
        while self.resting.front().is_some_and(rested) {
            self.free.extend(self.resting.pop_front().map(|(_, port)| port));
        }
    }
}

/// The even ports of a range whose odd neighbours are in it too.
pub(crate) fn pairs(range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> + use<> {
    let last = *range.end();
    range.clone().filter(move |port| port % 2 == 0 && *port < last)
}

fn bind(ip: IpAddr, port: u16) -> io::Result<Pair> {
    let options = Options { buffer: None, errors: false };
    let rtp = Socket::bind(SocketAddr::new(ip, port), options)?;
    let rtcp = Socket::bind(SocketAddr::new(ip, port.saturating_add(1)), options)?;
    Ok(Pair { rtp, rtcp, port })
}

fn refusal(ip: IpAddr, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => EngineError::new(
            Code::AddressUnavailable,
            format!("cannot bind RTP to {ip}: this machine has no such address"),
        ),
        _ => EngineError::system(&format!("cannot bind an RTP port at {ip} (see `ulimit -n`)"), error),
    }
}

/// Fisher and Yates, with splitmix64: the order must be hard to guess from outside, no more.
fn shuffle(ports: &mut [u16], seed: u64) {
    let mut state = seed;
    for end in (1..ports.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ports.swap(end, usize::try_from(word % (end as u64 + 1)).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, UdpSocket};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1));

    #[test]
    fn pairs_are_even_and_whole() {
        assert_eq!(pairs(&(20_001..=20_006)).collect::<Vec<_>>(), [20_002, 20_004]);
        assert_eq!(pairs(&(65_532..=65_535)).collect::<Vec<_>>(), [65_532, 65_534]);
        assert_eq!(pairs(&(20_000..=20_000)).count(), 0);
    }

    #[test]
    fn workers_share_the_range_without_overlap() {
        let pools: Vec<_> = (0..3).map(|index| PortPool::new(&(30_000..=30_099), index, 3, 1)).collect();
        let ports: HashSet<u16> = pools.iter().flat_map(|pool| pool.free.iter().copied()).collect();
        assert_eq!((ports.len(), pools.iter().map(PortPool::free).sum::<usize>()), (50, 50));
    }

    #[test]
    fn seeds_change_the_order() {
        let order = |seed| PortPool::new(&(30_000..=30_999), 0, 1, seed).free;
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn a_closed_pair_rests() {
        let mut pool = PortPool::new(&(31_000..=31_003), 0, 1, 7);
        let now = Instant::now();
        let (first, second) = (pool.allocate(now, LOOPBACK).unwrap(), pool.allocate(now, LOOPBACK).unwrap());
        assert_eq!((pool.in_use(), pool.free()), (2, 0));
        assert_eq!(pool.allocate(now, LOOPBACK).err().unwrap().code, Code::NoPorts);
        let port = first.port();
        pool.release(now, first);
        assert_eq!(pool.allocate(now + LEAST_QUARANTINE / 2, LOOPBACK).err().unwrap().code, Code::NoPorts);
        let again = pool.allocate(now + LEAST_QUARANTINE, LOOPBACK).unwrap();
        assert_eq!(again.port(), port, "in need");
        drop(second);
    }

    #[test]
    fn a_pair_rests_in_full_while_others_are_free() {
        let mut pool = PortPool::new(&(31_300..=31_305), 0, 1, 7);
        let now = Instant::now();
        let first = pool.allocate(now, LOOPBACK).unwrap();
        let port = first.port();
        pool.release(now, first);
        let later = now + LEAST_QUARANTINE;
        let others = [pool.allocate(later, LOOPBACK).unwrap(), pool.allocate(later, LOOPBACK).unwrap()];
        assert!(others.iter().all(|pair| pair.port() != port));
        assert_eq!(pool.allocate(later, LOOPBACK).unwrap().port(), port);
    }

    #[test]
    fn a_pair_that_others_hold_is_passed_over() {
        let taken = UdpSocket::bind((LOOPBACK, 31_101)).unwrap();
        let mut pool = PortPool::new(&(31_100..=31_103), 0, 1, 7);
        assert_eq!(pool.allocate(Instant::now(), LOOPBACK).unwrap().port(), 31_102);
        assert_eq!(pool.free(), 1);
        drop(taken);
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let mut pool = PortPool::new(&(31_200..=31_203), 0, 1, 7);
        let error = pool.allocate(Instant::now(), "203.0.113.7".parse().unwrap()).err().unwrap();
        assert_eq!((error.code, pool.free()), (Code::AddressUnavailable, 2));
    }
}
