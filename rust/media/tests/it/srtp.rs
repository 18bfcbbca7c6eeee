//! SRTP: RFC 7714 vectors, and both directions against each other. (RFC 3711 appendix B is tested beside the code.)

use crate::corpus::{hex, text};
use proptest::prelude::*;
use telephony_media::srtp::{
    Context, KeyMaterial, MAX_OVERHEAD, MAX_SOURCES, Profile, SessionKeys, SrtpError,
};

const PROFILES: [Profile; 3] = [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm];

/// (what the client sends with, what the server receives with)
fn pair(profile: Profile) -> (Context, Context) {
    let length = 2 * (profile.key_len() + profile.salt_len());
    let exported: Vec<u8> = (0..length).map(|i| u8::try_from(i).unwrap()).collect();
    let material = KeyMaterial::new(profile, exported).unwrap();
    let (client_out, _) = material.contexts(true).unwrap();
    let (_, server_in) = material.contexts(false).unwrap();
    (client_out, server_in)
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(1_234_u32.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = hex("80c90001");
    packet.extend(ssrc.to_be_bytes());
    packet.extend(hex("81ca0002 00000000 01026162 00000000"));
    packet
}

fn protect(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + MAX_OVERHEAD, 0);
    let length = context.protect_rtp(&mut buffer, packet.len())?;
    buffer.truncate(length);
    Ok(buffer)
}

fn unprotect(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = packet.to_vec();
    let length = context.unprotect_rtp(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn protect_rtcp(context: &mut Context, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + MAX_OVERHEAD, 0);
    let length = context.protect_rtcp(&mut buffer, packet.len()).unwrap();
    buffer.truncate(length);
    buffer
}

fn unprotect_rtcp(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = packet.to_vec();
    let length = context.unprotect_rtcp(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[test]
fn packets_arrive_as_they_left() {
    for profile in PROFILES {
        let (mut out, mut into) = pair(profile);
        for sequence in 0..10 {
            let packet = rtp(7, sequence, &[0x55; 160]);
            let protected = protect(&mut out, &packet).unwrap();
            assert_eq!(protected[..12], packet[..12], "the header stays readable");
            assert_ne!(protected[12..172], packet[12..]);
            assert_eq!(unprotect(&mut into, &protected).unwrap(), packet);
            assert_eq!(unprotect(&mut into, &protected), Err(SrtpError::Replayed));
        }
        let report = rtcp(7);
        let protected = protect_rtcp(&mut out, &report);
        assert_eq!(unprotect_rtcp(&mut into, &protected).unwrap(), report);
        assert_eq!(unprotect_rtcp(&mut into, &protected), Err(SrtpError::Replayed));
    }
}

#[test]
fn csrc_list_and_header_extension_are_authenticated_but_not_encrypted() {
    for profile in PROFILES {
        let (mut out, mut into) = pair(profile);
        let mut packet = hex("92000001 00000001 00000009 0000000a 0000000b bede0002 10aa2000 00000000");
        packet.extend([0x33; 40]);
        let protected = protect(&mut out, &packet).unwrap();
        assert_eq!(protected[..32], packet[..32]);
        assert_ne!(protected[32..72], packet[32..]);
        let mut forged = protected.clone();
        forged[26] ^= 1;
        assert_eq!(unprotect(&mut into, &forged), Err(SrtpError::Authentication));
        assert_eq!(unprotect(&mut into, &protected).unwrap(), packet);
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for profile in PROFILES {
        let (mut out, mut into) = pair(profile);
        let packet = rtp(7, 1, b"voice");
        let protected = protect(&mut out, &packet).unwrap();
        let report = protect_rtcp(&mut out, &rtcp(7));
        for bit in 0..protected.len() * 8 {
            let mut forged = protected.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect(&mut into, &forged).is_err(), "{profile:?} RTP bit {bit}");
        }
        for bit in 0..report.len() * 8 {
            let mut forged = report.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect_rtcp(&mut into, &forged).is_err(), "{profile:?} RTCP bit {bit}");
        }
        // No forgery has moved the window or filled the table.
        assert_eq!(unprotect(&mut into, &protected).unwrap(), packet);
        assert!(unprotect_rtcp(&mut into, &report).is_ok());
    }
}

#[test]
fn rollover_survives_loss_and_reordering() {
    for profile in PROFILES {
        let (mut out, mut into) = pair(profile);
        let mut protected: Vec<Vec<u8>> = (0..100_000_u32)
            .map(|i| protect(&mut out, &rtp(7, u16::try_from((i + 65_000) % 65_536).unwrap(), &[])).unwrap())
            .collect();
        protected.retain(|packet| packet[3] % 7 != 0);
        for reordered in protected.chunks_mut(5) {
            reordered.reverse();
        }
        assert!(protected.iter().all(|packet| unprotect(&mut into, packet).is_ok()));
    }
}

#[test]
fn a_packet_index_is_never_sent_twice() {
    let (mut out, _) = pair(Profile::AeadAes128Gcm);
    protect(&mut out, &rtp(7, 5, b"one")).unwrap();
    assert_eq!(protect(&mut out, &rtp(7, 5, b"two")), Err(SrtpError::Replayed));
    assert!(protect(&mut out, &rtp(7, 4, b"late")).is_ok());
}

#[test]
fn sources_are_bounded_and_independent() {
    let (mut out, mut into) = pair(Profile::AeadAes256Gcm);
    for ssrc in 0..u32::try_from(MAX_SOURCES).unwrap() {
        let protected = protect(&mut out, &rtp(ssrc, 1, b"x")).unwrap();
        unprotect(&mut into, &protected).unwrap();
    }
    assert_eq!(protect(&mut out, &rtp(99, 1, b"x")), Err(SrtpError::TooManySources));
    let known = protect(&mut out, &rtp(3, 2, b"y")).unwrap();
    assert!(unprotect(&mut into, &known).is_ok());
}

#[test]
fn short_buffers_and_packets_are_refused() {
    for profile in PROFILES {
        let (mut out, mut into) = pair(profile);
        let mut exact = rtp(7, 1, b"no room");
        let length = exact.len();
        assert_eq!(out.protect_rtp(&mut exact, length), Err(SrtpError::BufferTooSmall));
        assert_eq!(out.protect_rtp(&mut exact, length + 1), Err(SrtpError::BufferTooSmall));
        let protected = protect(&mut out, &rtp(7, 1, b"")).unwrap();
        for length in 0..protected.len() {
            assert!(into.unprotect_rtp(&mut protected[..length].to_vec()).is_err());
            assert!(into.unprotect_rtcp(&mut protected[..length].to_vec()).is_err());
        }
        assert_eq!(Context::new(profile, &[0; 15], &[0; 14]).unwrap_err(), SrtpError::KeyLength);
    }
}

proptest! {
    #[test]
    fn random_datagrams_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for profile in PROFILES {
            let (_, mut into) = pair(profile);
            prop_assert!(into.unprotect_rtp(&mut bytes.clone()).is_err());
            prop_assert!(into.unprotect_rtcp(&mut bytes.clone()).is_err());
        }
    }
}

/// The section of a vector file.
fn section<'a>(text: &'a str, number: &str) -> &'a str {
    let start = text.find(&format!("{number}.  ")).unwrap_or_else(|| panic!("section {number}"));
    let rest = &text[start + number.len()..];
    let next = rest.find("\n16.").into_iter().chain(rest.find("\n17.")).min();
    next.map_or(rest, |end| &rest[..end])
}

/// The packet printed under a heading such as `Encrypting the following packet:`.
fn packet(section: &str, heading: &str) -> Vec<u8> {
    let start = section.find(heading).unwrap_or_else(|| panic!("{heading}")) + heading.len();
    let block = section[start..].trim_start_matches([':', '\n', ' ']);
    hex(block.split("\n\n").next().unwrap())
}

/// RFC 7714 vectors begin with session keys: key 00 01 02..., salt "Quid pro quo", rollover counter zero.
fn context_of_rfc7714(profile: Profile) -> Context {
    let encryption = (0..profile.key_len()).map(|i| u8::try_from(i).unwrap()).collect();
    let keys = SessionKeys { encryption, authentication: Vec::new(), salt: b"Quid pro quo".to_vec() };
    Context::with_session_keys(profile, &keys, &keys).unwrap()
}

#[test]
fn rtp_vectors_of_rfc7714() {
    let Some(text) = text("rfc7714/rtp-vectors.txt") else { return };
    for (profile, chapter) in [(Profile::AeadAes128Gcm, "16.1"), (Profile::AeadAes256Gcm, "16.2")] {
        let encryption = section(&text, &format!("{chapter}.1"));
        let plain = packet(encryption, "Encrypting the following packet");
        let tagged = packet(encryption, "Encrypted and tagged packet");
        assert_eq!(protect(&mut context_of_rfc7714(profile), &plain).unwrap(), tagged);
        let decryption = section(&text, &format!("{chapter}.2"));
        let received = packet(decryption, "Decrypting the following packet");
        // Printed without its header.
        let verified = packet(decryption, "Verified and tagged packet");
        assert_eq!(unprotect(&mut context_of_rfc7714(profile), &received).unwrap()[12..], verified);
    }
}

#[test]
fn rtcp_vectors_of_rfc7714() {
    let Some(text) = text("rfc7714/rtcp-vectors.txt") else { return };
    let encryption = section(&text, "17.1");
    let plain = packet(encryption, "Encrypting the following packet");
    let mut context = context_of_rfc7714(Profile::AeadAes128Gcm);
    for _ in 0..0x5d4 {
        protect_rtcp(&mut context, &plain);
    }
    assert_eq!(protect_rtcp(&mut context, &plain), packet(encryption, "Encrypted and tagged packet"));

    let decryption = section(&text, "17.2");
    let received = packet(decryption, "Decrypting the following packet");
    let verified = packet(decryption, "Verified and decrypted packet");
    let mut context = context_of_rfc7714(Profile::AeadAes256Gcm);
    assert_eq!(unprotect_rtcp(&mut context, &received).unwrap(), verified);
}

/// The E flag off: tagged, not encrypted.
#[test]
fn readable_rtcp_of_rfc7714() {
    let Some(text) = text("rfc7714/rtcp-vectors.txt") else { return };
    let tagging = section(&text, "17.3");
    let (plain, tagged) = (packet(tagging, "Tagging the following packet"), packet(tagging, "Tagged packet"));
    let mut context = context_of_rfc7714(Profile::AeadAes128Gcm);
    assert_eq!(unprotect_rtcp(&mut context, &tagged).unwrap(), plain);

    let verification = section(&text, "17.4");
    let received = packet(verification, "Verifying the following packet");
    let mut context = context_of_rfc7714(Profile::AeadAes256Gcm);
    assert_eq!(unprotect_rtcp(&mut context, &received).unwrap(), packet(verification, "Verified packet"));
}
