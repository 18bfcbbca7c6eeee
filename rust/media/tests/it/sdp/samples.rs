//! Descriptions in the manner of real peers.

/// Chromium: microphone only, full trickle.
pub(crate) const CHROMIUM: &str = "v=0\r
o=- 4611732868563212743 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0\r
a=extmap-allow-mixed\r
a=msid-semantic: WMS 6f1a3c2e-90c1-4d0b-b5f0-2d3d9a0c7a11\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:8hhY\r
a=ice-pwd:asd88fgpdd777uzjYhagZgNb\r
a=ice-options:trickle\r
a=fingerprint:sha-256 3A:96:6D:57:B2:C2:C7:61:A0:46:3E:1C:97:39:D3:F7:0A:88:A0:B1:EC:03:FB:10:A5:5D:3A:37:AB:DD:02:AA\r
a=setup:actpass\r
a=mid:0\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=sendrecv\r
a=msid:6f1a3c2e-90c1-4d0b-b5f0-2d3d9a0c7a11 0d1ab7bc-6cb5-4d9d-8a7f-5d9c2f0e1d22\r
a=rtcp-mux\r
a=rtcp-rsize\r
a=rtpmap:111 opus/48000/2\r
a=rtcp-fb:111 transport-cc\r
a=fmtp:111 minptime=10;useinbandfec=1\r
a=rtpmap:63 red/48000/2\r
a=fmtp:63 111/111\r
a=rtpmap:9 G722/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:13 CN/8000\r
a=rtpmap:110 telephone-event/48000\r
a=rtpmap:126 telephone-event/8000\r
a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r
a=ssrc:3570614608 msid:6f1a3c2e-90c1-4d0b-b5f0-2d3d9a0c7a11 0d1ab7bc-6cb5-4d9d-8a7f-5d9c2f0e1d22\r
a=candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0\r
a=candidate:1853887674 1 udp 1518280447 47.61.61.61 36768 typ srflx raddr 192.168.0.196 rport 36768 generation 0\r
";

/// Firefox: audio, video and a data channel; attributes at session level, sha-256 and sha-1, candidates hidden.
pub(crate) const FIREFOX: &str = "v=0\r
o=mozilla...THIS_IS_SDPARTA-99.0 1718053621233823917 0 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=fingerprint:sha-1 99:41:49:83:4A:97:0E:1F:EF:6D:F7:C9:C7:70:9D:1F:66:79:A8:07\r
a=fingerprint:sha-256 6b:8b:f0:65:5f:78:e2:51:3b:ac:6f:f3:3f:46:1b:35:dc:b8:5f:64:1a:24:c2:43:f0:a1:58:d0:a1:2c:19:08\r
a=group:BUNDLE 0 1 2\r
a=ice-options:trickle\r
a=msid-semantic:WMS *\r
m=audio 9 UDP/TLS/RTP/SAVPF 109 9 0 8 101\r
c=IN IP4 0.0.0.0\r
a=sendrecv\r
a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1\r
a=fmtp:101 0-15\r
a=ice-pwd:d30a5aec4dd81f07d4ff3344209400ab\r
a=ice-ufrag:9b4f2c81\r
a=mid:0\r
a=rtcp-mux\r
a=rtpmap:109 opus/48000/2\r
a=rtpmap:9 G722/8000/1\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:101 telephone-event/8000\r
a=setup:actpass\r
a=ssrc:2655508255 cname:{735484ea-4f6c-f74a-bd66-7425f8476c2e}\r
m=video 0 UDP/TLS/RTP/SAVPF 120 121\r
c=IN IP4 0.0.0.0\r
a=bundle-only\r
a=sendrecv\r
a=ice-pwd:d30a5aec4dd81f07d4ff3344209400ab\r
a=ice-ufrag:9b4f2c81\r
a=mid:1\r
a=rtcp-mux\r
a=rtpmap:120 VP8/90000\r
a=rtpmap:121 VP9/90000\r
a=setup:actpass\r
m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 0.0.0.0\r
a=bundle-only\r
a=mid:2\r
a=sctp-port:5000\r
";

/// aiortc: everything gathered, three fingerprints.
pub(crate) const AIORTC: &str = "v=0\r
o=- 3967465461 3967465461 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=group:BUNDLE 0\r
a=msid-semantic:WMS *\r
m=audio 41234 UDP/TLS/RTP/SAVPF 96 9 0 8\r
c=IN IP4 172.17.0.2\r
a=sendrecv\r
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=mid:0\r
a=msid:1f0a5f2c-0d4b-4b2e-8cde-56fcb0a5a0cd 5b1f5d3c-8c8e-4a4c-9c0b-7e6d5c4b3a29\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=rtcp-mux\r
a=ssrc:1910862842 cname:0e5a8a0b-22a2-4d2b-a6f7-0d8c5e5b3a10\r
a=rtpmap:96 opus/48000/2\r
a=rtpmap:9 G722/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=candidate:e8ad8c1a1ce8dc4c35b2ef5fd5d0ae5f 1 udp 2130706431 172.17.0.2 41234 typ host\r
a=end-of-candidates\r
a=ice-ufrag:QJgn\r
a=ice-pwd:6yDfmW0aWyW6vCvRTVl0vL\r
a=fingerprint:sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r
a=fingerprint:sha-384 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F\r
a=fingerprint:md5 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B\r
a=setup:actpass\r
";

/// Asterisk with chan_pjsip, to a carrier.
pub(crate) const ASTERISK: &str = "v=0\r
o=- 1234873476 1234873476 IN IP4 198.51.100.20\r
s=Asterisk\r
c=IN IP4 198.51.100.20\r
t=0 0\r
m=audio 17254 RTP/AVP 0 8 9 101\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:9 G722/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:20\r
a=maxptime:150\r
a=sendrecv\r
";

/// baresip: Opus first, RTCP multiplexed if we like, and a label.
pub(crate) const BARESIP: &str = "v=0\r
o=- 3886529034 1216542019 IN IP6 2001:db8::20\r
s=-\r
c=IN IP6 2001:db8::20\r
t=0 0\r
a=tool:baresip 1.0.0\r
m=audio 36270 RTP/AVP 96 8 0 97\r
a=rtpmap:96 opus/48000/2\r
a=fmtp:96 stereo=1;sprop-stereo=1\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:97 telephone-event/8000\r
a=fmtp:97 0-15\r
a=rtcp:36271\r
a=rtcp-mux\r
a=sendrecv\r
a=label:1\r
a=rtcp-rsize\r
a=ssrc:2839192283 cname:sip:bob@example.com\r
a=ptime:20\r
";

/// SIPp's built-in scenario: LF came out of the template, no rtpmap for a static type.
pub(crate) const SIPP: &str = "v=0\no=user1 53655765 2353687637 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 6000 RTP/AVP 0\n";

/// RFC 3264 section 10.1: the first example's offer.
pub(crate) const RFC3264_ALICE: &str = "v=0\r
o=alice 2890844526 2890844526 IN IP4 host.anywhere.com\r
s=\r
c=IN IP4 host.anywhere.com\r
t=0 0\r
m=audio 49170 RTP/AVP 0\r
a=rtpmap:0 PCMU/8000\r
m=video 51372 RTP/AVP 31\r
a=rtpmap:31 H261/90000\r
m=video 53000 RTP/AVP 32\r
a=rtpmap:32 MPV/90000\r
";

/// A desk telephone with encryption "optional": the same audio over SRTP first, and a fax.
pub(crate) const DESK_PHONE: &str = "v=0\r
o=MxSIP 0 1 IN IP4 192.0.2.30\r
s=SIP Call\r
c=IN IP4 192.0.2.30\r
t=0 0\r
m=audio 5062 RTP/SAVP 8 101\r
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:101 telephone-event/8000\r
m=audio 5060 RTP/AVP 8 0 18 101\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:18 G729/8000\r
a=rtpmap:101 telephone-event/8000\r
a=ptime:30\r
m=image 5064 udptl t38\r
";

pub(crate) const ALL: [&str; 8] =
    [CHROMIUM, FIREFOX, AIORTC, ASTERISK, BARESIP, SIPP, RFC3264_ALICE, DESK_PHONE];
