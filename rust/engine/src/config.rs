//! How the engine is set up, and what can be wrong with that.

use crate::EngineError;
use crate::error::Code;
use crate::leg::MAX_WORKERS;
use crate::ports;
use crate::socket::{Options, Socket, interface_addresses};
use crate::transport::tls::ServerFiles;
use crate::transport::{self, Address, Listener, listen};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Duration;
use telephony_sip::{Stranger, Transport};

/// Settings as the user knows them, for error messages.
pub(crate) const SIP_HOST: &str = "SIP_HOST";
pub(crate) const SIP_PORT: &str = "SIP_PORT";
pub(crate) const SIP_TLS_PORT: &str = "SIP_TLS_PORT";
pub(crate) const SIP_PUBLIC_ADDRESS: &str = "SIP_PUBLIC_ADDRESS";
pub(crate) const RTP_PORT_RANGE: &str = "RTP_PORT_RANGE";
pub(crate) const WEBRTC_HOST: &str = "WEBRTC_HOST";
pub(crate) const WEBRTC_PORT: &str = "WEBRTC_PORT";
pub(crate) const MEDIA_WORKERS: &str = "MEDIA_WORKERS";

/// Bytes of buffer asked of the kernel for the sockets that many calls share.
const SHARED_BUFFER: usize = 4 << 20;

/// Addresses that one engine may listen on.
const MAX_ADDRESSES: usize = 64;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The addresses (or names for them) to listen on for SIP, separated by commas; `0.0.0.0` or `::` for all.
    pub sip_host: String,
    /// The port of UDP and TCP; 0 for any.
    pub sip_port: u16,
    /// The port of TLS; 0 for any.
    pub sip_tls_port: u16,
    /// Our certificate; without one nobody can call by TLS.
    pub sip_tls: Option<ServerFiles>,
    /// How many streams there may be, and what each may hold.
    pub streams: transport::Limits,
    /// What peers are told instead of our own address: an IP address or a name that they can resolve.
    pub sip_public_address: Option<String>,
    /// Ports for the RTP and RTCP of SIP legs.
    pub rtp_port_range: RangeInclusive<u16>,
    /// The address to listen on for browsers' media; as `sip_host` if `None`.
    pub webrtc_host: Option<String>,
    /// The port of worker 0; worker `i` has `webrtc_port + i`. 0 for any.
    pub webrtc_port: u16,
    /// Media threads.
    pub media_workers: usize,
    /// User-Agent and Server header.
    pub user_agent: String,
    /// A bridged leg that receives nothing for so long has ended; zero means never.
    pub media_timeout: Duration,
    /// Name servers as `ip[:port]`, separated by commas; those of the system if empty.
    pub dns_servers: String,
    /// What becomes of requests from addresses of no trunk.
    pub strangers: Stranger,
    /// Bytes that calls' SIP messages may take, for whoever asks for them; 0 keeps none.
    pub ladder_memory: usize,
    /// Events that may wait to be read before new calls are refused.
    pub event_capacity: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            sip_host: "0.0.0.0".into(),
            sip_port: 5060,
            sip_tls_port: 5061,
            sip_tls: None,
            streams: transport::Limits::default(),
            sip_public_address: None,
            rtp_port_range: 20_000..=29_999,
            webrtc_host: None,
            webrtc_port: 40_000,
            media_workers: 1,
            user_agent: "telephony-gateway".into(),
            media_timeout: Duration::from_secs(60),
            dns_servers: String::new(),
            strangers: Stranger::Take,
            ladder_memory: 32 << 20,
            event_capacity: 8192,
        }
    }
}

/// What peers are told instead of our own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Public {
    /// For Contact and Via: as configured.
    pub(crate) host: String,
    /// For session descriptions, where a name would be of no use to many peers.
    pub(crate) ip: IpAddr,
}

impl Public {
    /// A name or an address, as the setting `what` has it.
    pub(crate) fn of(what: &str, text: &str) -> Result<Self, EngineError> {
        let ip = address_of(what, text)?;
        if ip.is_unspecified() {
            let message = format!("{what} {text} is no address that a peer could send to");
            return Err(EngineError::new(Code::Invalid, message));
        }
        let host = if literal(text).is_some() { in_brackets(ip) } else { text.to_owned() };
        Ok(Self { host, ip })
    }
}

impl EngineConfig {
    /// Refuses what no system call is needed to refuse.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if !(1..=MAX_WORKERS).contains(&self.media_workers) {
            let message = format!("{MEDIA_WORKERS} must be 1 to {MAX_WORKERS}, not {}", self.media_workers);
            return Err(EngineError::setting(MEDIA_WORKERS, message));
        }
        let (first, last) = (self.rtp_port_range.start(), self.rtp_port_range.end());
        if *first < 1024 || ports::pairs(&self.rtp_port_range).count() < self.media_workers {
            let message = format!(
                "{RTP_PORT_RANGE} {first}-{last} must begin at 1024 or above and hold an even and odd port per media worker"
            );
            return Err(EngineError::setting(RTP_PORT_RANGE, message));
        }
        let last_webrtc = usize::from(self.webrtc_port) + self.media_workers - 1;
        if self.webrtc_port != 0 && last_webrtc > usize::from(u16::MAX) {
            let message = format!("{WEBRTC_PORT} {} leaves no port for each media worker", self.webrtc_port);
            return Err(EngineError::setting(WEBRTC_PORT, message));
        }
        crate::resolve::parse_servers(&self.dns_servers)?;
        let visible = |text: &str| !text.chars().any(char::is_control);
        match visible(&self.user_agent) && self.event_capacity >= 16 {
            true => Ok(()),
            false => {
                Err(EngineError::new(Code::Invalid, "user_agent must be one line, event_capacity 16 or more"))
            }
        }
    }

    /// Binds the SIP sockets: UDP, TCP on the same port, and TLS where there is a certificate.
    pub(crate) fn bind_sip(&self) -> Result<(Vec<Address>, Vec<Listener>), EngineError> {
        let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
        for host in
            self.sip_host.split(',').map(str::trim).filter(|host| !host.is_empty()).take(MAX_ADDRESSES)
        {
            let ip = host_ip(SIP_HOST, host)?;
            let (socket, tcp) = self.bind_pair(ip)?;
            listeners.push(tcp);
            let tls = match self.sip_tls {
                Some(_) => Some(hear(Transport::Tls, SocketAddr::new(ip, self.sip_tls_port), SIP_TLS_PORT)?),
                None => None,
            };
            addresses.push(Address { socket, tls_port: tls.as_ref().map(|tls| tls.local().port()) });
            listeners.extend(tls);
        }
        match addresses.is_empty() {
            true => Err(EngineError::setting(SIP_HOST, format!("{SIP_HOST} names no address"))),
            false => Ok((addresses, listeners)),
        }
    }

    /// UDP and TCP on one port. Where any will do, one that is free for both.
    fn bind_pair(&self, ip: IpAddr) -> Result<(Socket, Listener), EngineError> {
        const TRIES: usize = 32;
        let mut tries = if self.sip_port == 0 { TRIES } else { 1 };
        loop {
            let socket = bind("SIP", SocketAddr::new(ip, self.sip_port), true, SIP_HOST, SIP_PORT)?;
            tries -= 1;
            match hear(Transport::Tcp, socket.local(), SIP_PORT) {
                Ok(listener) => return Ok((socket, listener)),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Binds the WebRTC socket of each worker.
    pub(crate) fn bind_webrtc(&self, sip: SocketAddr) -> Result<Vec<Socket>, EngineError> {
        let ip = match &self.webrtc_host {
            Some(host) => host_ip(WEBRTC_HOST, host)?,
            None => sip.ip(),
        };
        let port = |index: usize| match self.webrtc_port {
            0 => 0,
            first => u16::try_from(usize::from(first) + index).unwrap_or(0),
        };
        let setting = if self.webrtc_host.is_some() { WEBRTC_HOST } else { SIP_HOST };
        (0..self.media_workers)
            .map(|index| bind("WebRTC media", SocketAddr::new(ip, port(index)), false, setting, WEBRTC_PORT))
            .collect()
    }

    /// The public address, looked up if it is a name.
    pub(crate) fn public(&self) -> Result<Option<Public>, EngineError> {
        let Some(text) = self.sip_public_address.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let found = Public::of(SIP_PUBLIC_ADDRESS, text);
        found.map(Some).map_err(|error| EngineError { setting: Some(SIP_PUBLIC_ADDRESS), ..error })
    }

    /// The addresses that browsers may find a worker's WebRTC socket at.
    pub(crate) fn candidates(
        &self,
        local: SocketAddr,
        public: Option<&Public>,
    ) -> Result<Vec<SocketAddr>, EngineError> {
        let mut ips = match local.ip().is_unspecified() {
            false => vec![local.ip()],
            true => usable_interfaces(local)?,
        };
        ips.extend(public.map(|public| public.ip).filter(|ip| local.is_ipv6() || ip.is_ipv4()));
        let mut found: Vec<SocketAddr> = Vec::with_capacity(ips.len());
        for address in ips.into_iter().map(|ip| SocketAddr::new(ip, local.port())) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        Ok(found)
    }
}

/// Interface addresses that a wildcard socket hears and a peer can name: no link-local ones, which need a zone.
fn usable_interfaces(local: SocketAddr) -> Result<Vec<IpAddr>, EngineError> {
    let all = interface_addresses()
        .map_err(|error| EngineError::system("cannot list network interfaces", &error))?;
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => local.is_ipv6() && !v6.is_unicast_link_local(),
    };
    Ok(all.into_iter().filter(usable).collect())
}

fn bind(
    what: &str,
    address: SocketAddr,
    errors: bool,
    host_setting: &'static str,
    port_setting: &'static str,
) -> Result<Socket, EngineError> {
    Socket::bind(address, Options { buffer: Some(SHARED_BUFFER), errors })
        .map_err(|error| not_bound(what, address, &error, host_setting, port_setting))
}

/// Listens for streams.
fn hear(transport: Transport, address: SocketAddr, setting: &'static str) -> Result<Listener, EngineError> {
    let what = if transport == Transport::Tls { "SIP over TLS" } else { "SIP over TCP" };
    listen(transport, address).map_err(|error| not_bound(what, address, &error, SIP_HOST, setting))
}

fn not_bound(
    what: &str,
    address: SocketAddr,
    error: &io::Error,
    host_setting: &'static str,
    port_setting: &'static str,
) -> EngineError {
    let (code, setting, fix) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            Code::AddressInUse,
            port_setting,
            format!("another program has the port; stop it or set {port_setting} to a free one"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            Code::AddressUnavailable,
            host_setting,
            format!("this machine has no such address; set {host_setting} to one it has, or to 0.0.0.0"),
        ),
        io::ErrorKind::PermissionDenied => {
            (Code::Permission, port_setting, format!("not allowed; set {port_setting} to 1024 or above"))
        }
        _ => return EngineError::system(&format!("cannot listen for {what} on {address}"), error),
    };
    let message = format!("cannot listen for {what} on {address}: {fix}");
    EngineError { setting: Some(setting), ..EngineError::new(code, message) }
}

/// An address literal, in brackets or not.
fn literal(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok()
}

/// The address of a host in the settings; only the start may wait for the resolver like this.
fn host_ip(setting: &'static str, text: &str) -> Result<IpAddr, EngineError> {
    address_of(setting, text).map_err(|error| EngineError { setting: Some(setting), ..error })
}

fn address_of(what: &str, text: &str) -> Result<IpAddr, EngineError> {
    if let Some(ip) = literal(text) {
        return Ok(ip);
    }
    let fault = |why: String| {
        let message = format!("{what} {text:?}: {why}; use an IP address or a name that resolves to one");
        EngineError::new(Code::Invalid, message)
    };
    let mut found = (text, 0).to_socket_addrs().map_err(|error| fault(error.to_string()))?;
    found.next().map(|address| address.ip()).ok_or_else(|| fault("no address".into()))
}

/// An address as it stands in a URI.
pub(crate) fn in_brackets(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> EngineConfig {
        EngineConfig { sip_host: "127.0.0.1".into(), sip_port: 0, webrtc_port: 0, ..EngineConfig::default() }
    }

    #[test]
    fn bad_settings_are_named() {
        for (config, setting) in [
            (EngineConfig { media_workers: 0, ..local() }, MEDIA_WORKERS),
            (EngineConfig { media_workers: 1000, ..local() }, MEDIA_WORKERS),
            (EngineConfig { rtp_port_range: 20_000..=20_000, ..local() }, RTP_PORT_RANGE),
            (EngineConfig { rtp_port_range: RangeInclusive::new(30_000, 20_000), ..local() }, RTP_PORT_RANGE),
            (EngineConfig { rtp_port_range: 20_000..=20_003, media_workers: 3, ..local() }, RTP_PORT_RANGE),
            (EngineConfig { webrtc_port: 65_535, media_workers: 2, ..local() }, WEBRTC_PORT),
        ] {
            assert_eq!(config.check().unwrap_err().setting, Some(setting));
        }
        assert!(local().check().is_ok());
    }

    #[test]
    fn a_taken_port_is_named_with_its_fix() {
        let (first, _listeners) = local().bind_sip().unwrap();
        let taken = first[0].socket.local();
        let config = EngineConfig { sip_port: taken.port(), ..local() };
        let error = config.bind_sip().err().unwrap();
        assert_eq!((error.code, error.setting), (Code::AddressInUse, Some(SIP_PORT)));
        assert!(error.message.contains(&taken.to_string()) && error.message.contains("set SIP_PORT"));
    }

    #[test]
    fn an_address_of_others_is_named() {
        let error = EngineConfig { sip_host: "203.0.113.9".into(), ..local() }.bind_sip().err().unwrap();
        assert_eq!((error.code, error.setting), (Code::AddressUnavailable, Some(SIP_HOST)));
        let error = EngineConfig { sip_host: "no-such.invalid".into(), ..local() }.bind_sip().err().unwrap();
        assert_eq!((error.code, error.setting), (Code::Invalid, Some(SIP_HOST)));
    }

    #[test]
    fn candidates_are_what_a_browser_can_reach() {
        let config = EngineConfig { sip_public_address: Some("198.51.100.7".into()), ..local() };
        let public = config.public().unwrap();
        let one = config.candidates("127.0.0.1:4000".parse().unwrap(), public.as_ref()).unwrap();
        assert_eq!(one, ["127.0.0.1:4000".parse().unwrap(), "198.51.100.7:4000".parse().unwrap()]);
        let all = config.candidates("0.0.0.0:4000".parse().unwrap(), None).unwrap();
        assert!(all.contains(&"127.0.0.1:4000".parse().unwrap()) && all.iter().all(SocketAddr::is_ipv4));
    }

    #[test]
    fn a_public_address_is_a_name_or_an_address() {
        let public = |text: &str| EngineConfig { sip_public_address: Some(text.into()), ..local() }.public();
        assert_eq!(public("2001:db8::1").unwrap().unwrap().host, "[2001:db8::1]");
        assert_eq!(public("localhost").unwrap().unwrap().host, "localhost");
        assert_eq!(public("").unwrap(), None);
        assert_eq!(public("0.0.0.0").unwrap_err().setting, Some(SIP_PUBLIC_ADDRESS));
    }
}
