//! System calls of the engine: UDP sockets with batched receive and send, epoll, eventfd, interface addresses.
//!
//! The only file of the workspace that may say `unsafe`. Every block is one system call over buffers that the
//! surrounding function owns, or the reading of a structure which the kernel has just filled in.
#![allow(unsafe_code)]

use socket2::{Domain, Protocol, SockAddr, Type};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// Datagrams per `sendmmsg`.
const SEND_BATCH: usize = 64;
/// Room for one IPv6 packet-info control message, in words so that it is aligned as `cmsghdr` wants.
const CONTROL_WORDS: usize = 8;

/// How a socket is set up.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Bytes asked for in each direction, which the kernel caps at `net.core.{r,w}mem_max`; `None` for its default.
    pub(crate) buffer: Option<usize>,
    /// Whether ICMP errors are wanted (`IP_RECVERR`), read by [`Socket::next_error`].
    pub(crate) errors: bool,
}

/// A non-blocking UDP socket that knows at which local address each datagram arrived.
pub(crate) struct Socket {
    inner: socket2::Socket,
    local: SocketAddr,
}

/// One datagram to send.
pub(crate) struct Outgoing<'a> {
    pub(crate) to: SocketAddr,
    /// The source address; matters only on a socket bound to the wildcard.
    pub(crate) from: Option<IpAddr>,
    pub(crate) payload: &'a [u8],
}

impl Socket {
    /// Binds. `SO_REUSEADDR` stays off: two gateways on one port would steal each other's datagrams in silence.
    pub(crate) fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking();
        let inner = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        if let Some(size) = options.buffer {
            inner.set_recv_buffer_size(size)?;
            inner.set_send_buffer_size(size)?;
        }
        if address.is_ipv6() {
            inner.set_only_v6(!address.ip().is_unspecified())?;
        }
        inner.bind(&SockAddr::from(address))?;
        let local = match address.port() {
            0 => inner.local_addr()?.as_socket().unwrap_or(address),
            _ => address,
        };
        let socket = Self { inner, local };
        socket.set_options(options)?;
        Ok(socket)
    }

    fn set_options(&self, options: Options) -> io::Result<()> {
        let v6 = self.local.is_ipv6();
        if self.is_wildcard() {
            match v6 {
                true => self.enable(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?,
                false => self.enable(libc::IPPROTO_IP, libc::IP_PKTINFO)?,
            }
        }
        if options.errors && v6 {
            self.enable(libc::IPPROTO_IPV6, libc::IPV6_RECVERR)?;
        }
        // A dual-stack socket learns of its IPv4 peers' errors by the IPv4 option alone.
        if options.errors && (!v6 || self.is_wildcard()) {
            self.enable(libc::IPPROTO_IP, libc::IP_RECVERR)?;
        }
        Ok(())
    }

    fn enable(&self, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
        let on: libc::c_int = 1;
        let size = length_of::<libc::c_int>();
        // SAFETY: the option's value is a live `c_int` and the length says so.
        let result = unsafe { libc::setsockopt(self.fd(), level, option, (&raw const on).cast(), size) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The bound address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    fn is_wildcard(&self) -> bool {
        self.local.ip().is_unspecified()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// Receives at most `limit` datagrams without waiting; zero if none is there.
    pub(crate) fn receive(&self, batch: &mut ReceiveBatch, limit: usize) -> io::Result<usize> {
        let count = batch.arm(limit);
        // SAFETY: `arm` made the first `count` headers point into buffers of `batch`, which is borrowed mutably.
        let received = unsafe {
            libc::recvmmsg(
                self.fd(),
                batch.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => Ok(received),
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    Ok(0)
                }
                error => Err(error),
            },
        }
    }

    /// Sends all items, in batches, and says how many left. Which of them the kernel refuses goes to
    /// `failed`; a full send buffer loses the datagrams, as the network would.
    pub(crate) fn send<'a>(
        &self,
        batch: &mut SendBatch,
        items: impl Iterator<Item = Outgoing<'a>>,
        mut failed: impl FnMut(usize, &io::Error),
    ) -> u64 {
        let mut items = items.peekable();
        let (mut sent, mut before) = (0, 0);
        while items.peek().is_some() {
            let count = batch.load(self, &mut items);
            sent += self.flush(batch, count, &mut |index, error| failed(before + index, error));
            before += count;
        }
        sent
    }

    fn flush(&self, batch: &mut SendBatch, count: usize, failed: &mut impl FnMut(usize, &io::Error)) -> u64 {
        let (mut done, mut sent, mut retried) = (0, 0, false);
        while let Some(rest) = batch.headers.get_mut(done..count).filter(|rest| !rest.is_empty()) {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let length = u32::try_from(rest.len()).unwrap_or(1);
            // SAFETY: `load` made these headers point at live payloads, names and control buffers; `items` still
            // borrows the payloads.
            let result = unsafe { libc::sendmmsg(self.fd(), rest.as_mut_ptr(), length, flags as _) };
            if let Ok(count @ 1..) = usize::try_from(result) {
                done += count;
                sent += count as u64;
                retried = false;
                continue;
            }
            let error = io::Error::last_os_error();
            // The error may be an ICMP message about an earlier datagram: the second try tells.
            if error.kind() == io::ErrorKind::Interrupted || !std::mem::replace(&mut retried, true) {
                continue;
            }
            failed(done, &error);
            done += 1;
            retried = false;
        }
        sent
    }

    /// Takes one ICMP error off the error queue, with the datagram it quotes, as much of it as `quote` holds.
    pub(crate) fn next_error<'a>(&self, quote: &'a mut [u8]) -> Option<Undelivered<'a>> {
        // SAFETY: all-zero is a valid value of these plain C structures.
        let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        let mut control = [0_u64; 64];
        let mut vector = libc::iovec { iov_base: quote.as_mut_ptr().cast(), iov_len: quote.len() };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = length_of::<libc::sockaddr_storage>();
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: `header` points at live buffers whose lengths it states.
        let result =
            unsafe { libc::recvmsg(self.fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        let quote = quote.get(..usize::try_from(result).ok()?)?;
        let remote = read_address(&name).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        Some(Undelivered { remote, quote, unreachable: is_unreachable(&header) })
    }
}

/// Buffers for many datagrams, used again and again.
pub(crate) struct ReceiveBatch {
    size: usize,
    data: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<[u64; CONTROL_WORDS]>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl ReceiveBatch {
    /// Room for `count` datagrams of `size` bytes.
    pub(crate) fn new(count: usize, size: usize) -> Self {
        // SAFETY: all-zero is a valid value of these plain C structures.
        let (name, header) = unsafe { (zeroed(), zeroed()) };
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            size,
            data: vec![0; count * size],
            names: vec![name; count],
            controls: vec![[0; CONTROL_WORDS]; count],
            vectors: vec![vector; count],
            headers: vec![header; count],
        }
    }

    fn arm(&mut self, limit: usize) -> libc::c_uint {
        let buffers = self.data.chunks_exact_mut(self.size);
        let parts =
            self.names.iter_mut().zip(&mut self.controls).zip(&mut self.vectors).zip(&mut self.headers);
        let mut armed = 0;
        for (((((name, control), vector), header), buffer), _) in parts.zip(buffers).zip(0..limit) {
            vector.iov_base = buffer.as_mut_ptr().cast();
            vector.iov_len = buffer.len();
            let header = &mut header.msg_hdr;
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = length_of::<libc::sockaddr_storage>();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(control) as _;
            header.msg_flags = 0;
            armed += 1;
        }
        armed
    }

    /// The datagram at `index` of the last `receive`.
    pub(crate) fn packet(&mut self, index: usize) -> Option<Packet<'_>> {
        let header = self.headers.get(index)?;
        let from = read_address(self.names.get(index)?)?;
        let length = (header.msg_len as usize).min(self.size);
        let start = index * self.size;
        let payload = self.data.get_mut(start..start + length)?;
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        Some(Packet { from, to: read_local(&header.msg_hdr), payload, truncated })
    }
}

/// The headers of a `sendmmsg`, used again and again.
pub(crate) struct SendBatch {
    names: Vec<SockAddr>,
    controls: Vec<[u64; CONTROL_WORDS]>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers are set anew, into live buffers, before each system call that follows them.
unsafe impl Send for SendBatch {}
// SAFETY: as above.
unsafe impl Send for ReceiveBatch {}

impl SendBatch {
    pub(crate) fn new() -> Self {
        Self {
            names: Vec::with_capacity(SEND_BATCH),
            controls: vec![[0; CONTROL_WORDS]; SEND_BATCH],
            vectors: Vec::with_capacity(SEND_BATCH),
            headers: Vec::with_capacity(SEND_BATCH),
        }
    }

    fn load<'a>(&mut self, socket: &Socket, items: &mut impl Iterator<Item = Outgoing<'a>>) -> usize {
        self.names.clear();
        self.vectors.clear();
        self.headers.clear();
        let wildcard = socket.is_wildcard();
        for (item, control) in items.by_ref().take(SEND_BATCH).zip(&mut self.controls) {
            self.names.push(SockAddr::from(fit(item.to, socket.local.is_ipv6())));
            // sendmmsg only reads through this pointer.
            let base = item.payload.as_ptr().cast_mut().cast();
            self.vectors.push(libc::iovec { iov_base: base, iov_len: item.payload.len() });
            let source = item.from.filter(|from| wildcard && !from.is_unspecified());
            // SAFETY: all-zero is a valid `mmsghdr`.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            if let Some(from) = source {
                write_source(&mut header.msg_hdr, control, from, socket.local.is_ipv6());
            }
            self.headers.push(header);
        }
        // Only now, when no push can move what they point at.
        for ((header, name), vector) in self.headers.iter_mut().zip(&self.names).zip(&mut self.vectors) {
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        self.headers.len()
    }
}

/// The size of a C structure as the system calls count it.
#[allow(clippy::cast_possible_truncation)]
const fn length_of<T>() -> libc::c_uint {
    size_of::<T>() as libc::c_uint
}

/// An IPv4 address as a dual-stack IPv6 socket wants it.
fn fit(address: SocketAddr, v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        other => other,
    }
}

/// The address in `storage`; IPv4 mapped into IPv6 becomes plain IPv4 again.
fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, large and aligned enough for any address, holds this one.
            let v4 = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            match ip.to_ipv4_mapped() {
                Some(v4) => Some(SocketAddrV4::new(v4, port).into()),
                None => Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into()),
            }
        }
        _ => None,
    }
}

/// Calls `read` with each control message of a received header: level, type and data.
fn find_control<T>(
    header: &libc::msghdr,
    read: impl Fn(libc::c_int, libc::c_int, *const libc::c_uchar) -> Option<T>,
) -> Option<T> {
    // SAFETY: the kernel filled the control buffer, which lives as long as `header`'s owner, and set its length.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: a non-null result of CMSG_FIRSTHDR or CMSG_NXTHDR is a whole control message inside the buffer.
        let found = unsafe { read((*message).cmsg_level, (*message).cmsg_type, libc::CMSG_DATA(message)) };
        if found.is_some() {
            return found;
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// The local address that a datagram was sent to, from its packet-info control message.
fn read_local(header: &libc::msghdr) -> Option<IpAddr> {
    if header.msg_controllen == 0 {
        return None;
    }
    find_control(header, |level, kind, data| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: level and type say what the data is.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: as above.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical())
        }
        _ => None,
    })
}

/// Whether an extended error says that the peer cannot be reached.
fn is_unreachable(header: &libc::msghdr) -> bool {
    let number = find_control(header, |level, kind, data| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
            // SAFETY: level and type say what the data is.
            let error = unsafe { data.cast::<libc::sock_extended_err>().read_unaligned() };
            i32::try_from(error.ee_errno).ok()
        }
        _ => None,
    });
    matches!(number, Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENOPROTOOPT))
}

/// Asks that a datagram leave from the address `from`.
fn write_source(header: &mut libc::msghdr, control: &mut [u64; CONTROL_WORDS], from: IpAddr, v6: bool) {
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    match from {
        IpAddr::V4(v4) if !v6 => {
            // SAFETY: all-zero is a valid `in_pktinfo`.
            let mut info: libc::in_pktinfo = unsafe { zeroed() };
            info.ipi_spec_dst.s_addr = u32::from(v4).to_be();
            write_control(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        _ => {
            let address = match from {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            // SAFETY: all-zero is a valid `in6_pktinfo`.
            let mut info: libc::in6_pktinfo = unsafe { zeroed() };
            info.ipi6_addr.s6_addr = address.octets();
            write_control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

/// Writes the one control message of a header whose buffer holds any packet info.
fn write_control<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    let size = length_of::<T>();
    // SAFETY: both macros only compute sizes.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    // SAFETY: the caller set a control buffer of CONTROL_WORDS words, more than CMSG_SPACE of an in6_pktinfo (40
    // bytes), so the first message and its data lie inside it.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
    }
    header.msg_controllen = space as _;
}

/// Where descriptors are added to an epoll set, by whatever thread.
#[derive(Clone)]
pub(crate) struct Watch(Arc<OwnedFd>);

impl Watch {
    /// Watches `fd` for input. A closed descriptor leaves the set by itself.
    pub(crate) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, Watched::Input)
    }

    /// Watches `fd` for this, or changes what it is watched for.
    pub(crate) fn watch(&self, fd: RawFd, token: u64, what: Watched, new: bool) -> io::Result<()> {
        self.control(if new { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_MOD }, fd, token, what)
    }

    fn control(&self, action: libc::c_int, fd: RawFd, token: u64, what: Watched) -> io::Result<()> {
        let mut event = libc::epoll_event { events: what.bits(), u64: token };
        // SAFETY: `event` is live for the call.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), action, fd, &raw mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// A level-triggered epoll set.
pub(crate) struct Epoll {
    pub(crate) set: Watch,
    events: Vec<libc::epoll_event>,
    ready: usize,
}

impl Epoll {
    /// A set that reports at most `capacity` descriptors at a time.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let set = Watch(Arc::new(fd));
        Ok(Self { set, events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity], ready: 0 })
    }

    /// Watches `fd` for input.
    pub(crate) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.set.add(fd, token)
    }

    /// Waits for input, at most `timeout` (rounded up to a millisecond), and says how many are ready.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout
            .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let capacity = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        // SAFETY: the buffer holds `capacity` events.
        let ready =
            unsafe { libc::epoll_wait(self.set.0.as_raw_fd(), self.events.as_mut_ptr(), capacity, timeout) };
        self.ready = match usize::try_from(ready) {
            Ok(ready) => ready,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        Ok(self.ready)
    }

    /// What the last `wait` found at `index`.
    pub(crate) fn ready(&self, index: usize) -> Option<Ready> {
        let event = self.events.get(..self.ready)?.get(index)?;
        Some(Ready::new(event.u64, event.events))
    }
}

/// A counter in the kernel that wakes an epoll set or an asyncio loop.
pub(crate) struct EventFd(File);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = owned(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        Ok(Self(File::from(fd)))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes it readable. Fails only if the counter is full, and then it is readable already.
    pub(crate) fn signal(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    match fd {
        // SAFETY: the kernel has just returned this descriptor to us; nobody else knows it.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The addresses of this machine's interfaces that are up.
pub(crate) fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `list` is a valid place for the result.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: entries of the list are valid until `freeifaddrs`.
        let (address, flags, next) = unsafe { ((*entry).ifa_addr, (*entry).ifa_flags, (*entry).ifa_next) };
        if !address.is_null() && flags & libc::IFF_UP as libc::c_uint != 0 {
            found.extend(read_interface(address));
        }
        entry = next;
    }
    // SAFETY: `list` came from `getifaddrs` and is freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// The IP address behind an interface's `sockaddr`, whose true size depends on its family.
fn read_interface(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller checked for null; every `sockaddr` has a family.
    let size = match libc::c_int::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: all-zero is a valid `sockaddr_storage`, which is larger than either kind; `size` bytes are readable.
    let storage = unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut storage).cast(), size);
        storage
    };
    read_address(&storage).map(|address| address.ip())
}

mod ready;
#[cfg(test)]
mod tests;

pub(crate) use ready::{Packet, Ready, Undelivered, Watched};
