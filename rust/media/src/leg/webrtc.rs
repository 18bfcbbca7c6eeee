//! The WebRTC transport of one leg: ICE-lite, then DTLS, then SRTP, all through one shared socket.

use crate::dtls::{self, Certificate, Dtls, Role};
use crate::ice::{self, Credentials, Ice};
use crate::sdp::{Fingerprint, WebRtcPeer};
use crate::srtp::{Context, KeyMaterial, SrtpError};
use crate::switch::{EndReason, Outbox, Path};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A leg that is not connected this long after offer and answer has failed.
const CONNECT: Duration = Duration::from_secs(30);

/// Both directions of SRTP.
#[derive(Debug)]
pub(crate) struct Srtp {
    pub(crate) outbound: Context,
    pub(crate) inbound: Context,
}

/// What the caller must know after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// SRTP is up.
    Connected,
    /// There is nothing more to expect.
    Ended(EndReason),
}

/// The transport's state.
#[derive(Debug)]
pub(crate) struct WebRtc {
    pub(crate) ice: Ice,
    certificate: Arc<Certificate>,
    fingerprints: Vec<Fingerprint>,
    role: Role,
    dtls: Option<Dtls>,
    pub(crate) srtp: Option<Srtp>,
    /// (local, remote): the nominated pair, or the one that DTLS came by before there was one.
    pub(crate) path: Option<(SocketAddr, SocketAddr)>,
    nominated: bool,
    remote_ufrag: Option<String>,
    deadline: Option<Instant>,
}

impl WebRtc {
    pub(crate) fn new(
        now: Instant,
        locals: &[SocketAddr],
        credentials: Credentials,
        certificate: Arc<Certificate>,
    ) -> Self {
        WebRtc {
            ice: Ice::new(locals, credentials, now),
            certificate,
            fingerprints: Vec::new(),
            role: Role::Server,
            dtls: None,
            srtp: None,
            path: None,
            nominated: false,
            remote_ufrag: None,
            deadline: None,
        }
    }

    /// Whether this description of the peer asks for an ICE restart (RFC 8839 4.4.1.1.1).
    pub(crate) fn restarts(&self, peer: &WebRtcPeer) -> bool {
        self.remote_ufrag.as_ref().is_some_and(|known| *known != peer.ice.credentials.ufrag)
    }

    /// Begins ICE anew; DTLS, SRTP and the path in use stay until the new agent nominates (RFC 8445 9).
    pub(crate) fn restart(&mut self, now: Instant, locals: &[SocketAddr], credentials: Credentials) {
        self.ice = Ice::new(locals, credentials, now);
        self.nominated = false;
        self.remote_ufrag = None;
    }

    /// Offer and answer are complete.
    pub(crate) fn agree(&mut self, now: Instant, peer: &WebRtcPeer) {
        if self.remote_ufrag.as_ref() != Some(&peer.ice.credentials.ufrag) {
            self.remote_ufrag = Some(peer.ice.credentials.ufrag.clone());
            self.ice.set_remote(now, peer.ice.credentials.clone());
            self.deadline = Some(now + CONNECT);
        }
        for candidate in &peer.ice.candidates {
            // A candidate that cannot be read is no reason to refuse the rest: the peer's checks tell its address.
            let _ = self.ice.add_remote_candidate(now, candidate);
        }
        // A changed fingerprint is a new DTLS association (RFC 8842 4).
        if self.fingerprints != peer.fingerprints {
            self.fingerprints.clone_from(&peer.fingerprints);
            self.role = peer.role;
            self.dtls = None;
            self.srtp = None;
            self.deadline = Some(now + CONNECT);
            if self.nominated {
                self.start_dtls(now);
            }
        }
    }

    /// A STUN datagram; whether it is authentic.
    pub(crate) fn handle_stun(
        &mut self,
        now: Instant,
        to: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        self.ice.handle_stun(now, to, from, datagram)
    }

    /// A DTLS datagram from an authenticated address; false if it came before the peer's fingerprint.
    pub(crate) fn handle_dtls(
        &mut self,
        now: Instant,
        to: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        if self.path.is_none() {
            self.path = Some((to, from));
        }
        self.start_dtls(now);
        match &mut self.dtls {
            Some(dtls) => {
                dtls.handle_datagram(now, datagram);
                true
            }
            None => false,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.ice.poll_timeout().is_some_and(|at| at <= now) {
            self.ice.handle_timeout(now);
        }
        if let Some(dtls) = self.dtls.as_mut().filter(|dtls| dtls.poll_timeout().is_some_and(|at| at <= now))
        {
            dtls.handle_timeout(now);
        }
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(Dtls::poll_timeout);
        [self.ice.poll_timeout(), dtls, self.deadline].into_iter().flatten().min()
    }

    /// Says close_notify.
    pub(crate) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.drain_dtls(outbox);
    }

    /// Sends what ICE and DTLS have to send, and says what has become of them.
    pub(crate) fn drain(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Outcome> {
        let mut outcome = self.drain_ice(now, outbox);
        self.drain_dtls(outbox);
        while let Some(event) = self.dtls.as_mut().and_then(Dtls::poll_event) {
            outcome = self.on_dtls(event).or(outcome);
        }
        self.drain_dtls(outbox);
        if self.nominated && self.srtp.is_some() {
            self.deadline = None;
        }
        outcome.or_else(|| self.overdue(now))
    }

    fn overdue(&mut self, now: Instant) -> Option<Outcome> {
        self.deadline.filter(|&at| at <= now)?;
        self.deadline = None;
        let timed_out = || EndReason::DtlsFailed("the handshake timed out".to_owned());
        Some(Outcome::Ended(if self.nominated { timed_out() } else { EndReason::IceFailed }))
    }

    fn drain_ice(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Outcome> {
        while let Some(transmit) = self.ice.poll_transmit() {
            outbox.push(Path::WebRtc { local: transmit.local }, transmit.remote, &transmit.payload);
        }
        let mut outcome = None;
        while let Some(event) = self.ice.poll_event() {
            match event {
                ice::Event::Nominated { local, remote } => {
                    self.nominated = true;
                    self.path = Some((local, remote));
                    self.start_dtls(now);
                }
                ice::Event::Connected => {}
                ice::Event::Disconnected => outcome = Some(Outcome::Ended(EndReason::IceFailed)),
            }
        }
        outcome
    }

    fn start_dtls(&mut self, now: Instant) {
        if self.dtls.is_none() && !self.fingerprints.is_empty() {
            self.dtls = Dtls::new(&self.certificate, self.role, &self.fingerprints, now).ok();
        }
    }

    fn drain_dtls(&mut self, outbox: &mut Outbox) {
        let (Some(dtls), Some((local, remote))) = (&mut self.dtls, self.path) else { return };
        while let Some(datagram) = dtls.poll_transmit() {
            outbox.push(Path::WebRtc { local }, remote, &datagram);
        }
    }

    fn on_dtls(&mut self, event: dtls::Event) -> Option<Outcome> {
        match event {
            dtls::Event::Connected(keys) => Some(match contexts(&keys, self.role) {
                Ok(srtp) => {
                    self.srtp = Some(srtp);
                    Outcome::Connected
                }
                Err(error) => Outcome::Ended(EndReason::DtlsFailed(error.to_string())),
            }),
            dtls::Event::Failed(reason) => Some(Outcome::Ended(EndReason::DtlsFailed(reason))),
            dtls::Event::Closed => Some(Outcome::Ended(EndReason::Closed)),
        }
    }
}

fn contexts(keys: &KeyMaterial, role: Role) -> Result<Srtp, SrtpError> {
    let (outbound, inbound) = keys.contexts(role == Role::Client)?;
    Ok(Srtp { outbound, inbound })
}
