//! How a leg's packets travel: plain RTP on ports of its own, or SRTP through the shared WebRTC socket.

use super::latch::Latch;
use super::webrtc::WebRtc;
use crate::own::OwnPorts;
use crate::rtp::Ssrc;
use crate::sdp::RtpPeer;
use crate::srtp::MAX_OVERHEAD;
use crate::switch::{Component, LegId, Outbox, Path};
use std::net::SocketAddr;
use std::time::Instant;

/// Media or control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Rtp,
    Rtcp,
}

/// The transport of one leg.
#[derive(Debug)]
pub(crate) enum Transport {
    Rtp(RtpTransport),
    WebRtc(Box<WebRtc>),
}

/// A SIP leg: two ports, symmetric RTP (RFC 4961).
#[derive(Debug)]
pub(crate) struct RtpTransport {
    pub(crate) local: SocketAddr,
    pub(crate) latch: Latch,
    mux: bool,
    rtcp_expected: Option<SocketAddr>,
    rtcp_learned: Option<SocketAddr>,
    /// The peer's SDP named an RTP address (without one, hold by 0.0.0.0 of RFC 2543, nothing is sent) that is no way
    /// back to here.
    open: bool,
    /// The two reasons for that: what the SDP says, and that packets do not come back.
    named: bool,
    circles: bool,
}

impl RtpTransport {
    pub(crate) fn new(now: Instant, local: SocketAddr) -> Self {
        let latch = Latch::new(now);
        RtpTransport {
            local,
            latch,
            mux: false,
            rtcp_expected: None,
            rtcp_learned: None,
            open: false,
            named: false,
            circles: false,
        }
    }

    /// The peer's SDP says where it is.
    pub(crate) fn agree(&mut self, now: Instant, peer: &RtpPeer) {
        self.latch.expect(now, peer.rtp);
        self.named = peer.rtp.is_some();
        self.open = self.named && !self.circles;
        self.mux = peer.rtcp_mux;
        if self.rtcp_expected != peer.rtcp {
            self.rtcp_expected = peer.rtcp;
            self.rtcp_learned = None;
        }
    }

    /// Whether what is sent would come back; then nothing is.
    pub(crate) fn set_circles(&mut self, circles: bool) {
        self.circles = circles;
        self.open = self.named && !circles;
    }

    /// Whether RTP from there is the peer's. A port of ours that its SDP does not name is not: nobody looks whether a
    /// ring is made by what is learned.
    pub(crate) fn accept(&mut self, now: Instant, from: SocketAddr, ssrc: Ssrc, own: &OwnPorts) -> bool {
        self.latch.accept(now, from, ssrc, |expected| is_named(own, expected, from))
    }

    /// Whether a stream goes on from there where it stopped.
    pub(crate) fn move_to(
        &mut self,
        now: Instant,
        from: SocketAddr,
        ssrc: Ssrc,
        heard: Instant,
        own: &OwnPorts,
    ) -> bool {
        is_named(own, self.latch.expected(), from) && self.latch.move_to(now, from, ssrc, heard)
    }

    /// Whether RTCP from there is the peer's; its port is learned (symmetric RTCP, RFC 4961).
    pub(crate) fn accept_rtcp(&mut self, component: Component, from: SocketAddr) -> bool {
        let known = self.latch.is_host(from) || self.rtcp_expected == Some(from);
        if known && component == Component::Rtcp {
            self.rtcp_learned = Some(from);
        }
        known
    }

    fn route(&self, channel: Channel) -> Option<(Component, SocketAddr)> {
        let remote = self.latch.remote().filter(|_| self.open)?;
        match channel {
            Channel::Rtp => Some((Component::Rtp, remote)),
            Channel::Rtcp if self.mux => Some((Component::Rtp, remote)),
            Channel::Rtcp => self.rtcp_remote(remote).map(|remote| (Component::Rtcp, remote)),
        }
    }

    /// A peer behind NAT has told an RTCP address that cannot be reached; one port above is the best guess then.
    fn rtcp_remote(&self, remote: SocketAddr) -> Option<SocketAddr> {
        let reachable = self.rtcp_expected.filter(|expected| expected.ip() == remote.ip());
        let above = || remote.port().checked_add(1).map(|port| SocketAddr::new(remote.ip(), port));
        self.rtcp_learned.or(reachable).or_else(above)
    }
}

/// Whether an address is no port of ours, or one that the SDP names, by whichever address of ours.
fn is_named(own: &OwnPorts, expected: Option<SocketAddr>, from: SocketAddr) -> bool {
    let is_named = || expected.is_some_and(|expected| own.port_at(expected) == Some(from.port()));
    !own.is_open(from.port()) || own.port_at(from).is_none() || is_named()
}

impl Transport {
    pub(crate) fn webrtc(&mut self) -> Option<&mut WebRtc> {
        match self {
            Transport::Rtp(_) => None,
            Transport::WebRtc(webrtc) => Some(webrtc),
        }
    }

    pub(crate) fn rtp(&mut self) -> Option<&mut RtpTransport> {
        match self {
            Transport::Rtp(rtp) => Some(rtp),
            Transport::WebRtc(_) => None,
        }
    }

    /// The port of a leg that has its own.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Transport::Rtp(rtp) => Some(rtp.local),
            Transport::WebRtc(_) => None,
        }
    }

    /// Where the peer's SDP says that it is.
    pub(crate) fn named(&self) -> Option<SocketAddr> {
        match self {
            Transport::Rtp(rtp) => rtp.latch.expected(),
            Transport::WebRtc(_) => None,
        }
    }

    /// Whether packets can leave now.
    pub(crate) fn ready(&self) -> bool {
        match self {
            Transport::Rtp(rtp) => rtp.route(Channel::Rtp).is_some(),
            Transport::WebRtc(webrtc) => webrtc.srtp.is_some() && webrtc.path.is_some(),
        }
    }

    /// Sends what `build` writes; false if there is no way to the peer yet.
    pub(crate) fn send(
        &mut self,
        id: LegId,
        outbox: &mut Outbox,
        channel: Channel,
        build: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        match self {
            Transport::Rtp(rtp) => {
                let Some((component, to)) = rtp.route(channel) else { return false };
                outbox.write(Path::Leg(id, component), to, |bytes, _| {
                    build(bytes);
                    Some(())
                })
            }
            Transport::WebRtc(webrtc) => send_sealed(webrtc, outbox, channel, build),
        }
    }
}

fn send_sealed(
    webrtc: &mut WebRtc,
    outbox: &mut Outbox,
    channel: Channel,
    build: impl FnOnce(&mut Vec<u8>),
) -> bool {
    let (Some((local, remote)), Some(srtp)) = (webrtc.path, webrtc.srtp.as_mut()) else { return false };
    outbox.write(Path::WebRtc { local }, remote, |bytes, start| {
        build(bytes);
        let length = bytes.len() - start;
        bytes.resize(bytes.len() + MAX_OVERHEAD, 0);
        let packet = bytes.get_mut(start..)?;
        let sealed = match channel {
            Channel::Rtp => srtp.outbound.protect_rtp(packet, length),
            Channel::Rtcp => srtp.outbound.protect_rtcp(packet, length),
        };
        bytes.truncate(start + sealed.ok()?);
        Some(())
    })
}
