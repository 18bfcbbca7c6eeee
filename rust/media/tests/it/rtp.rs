//! RTP headers in place.

use proptest::prelude::*;
use telephony_media::rtp::{Fixed, Header, PayloadType, RtpError, Ssrc, is_rtcp};

#[test]
fn a_full_header_is_read_and_changed_in_place() {
    let mut packet = vec![
        0xb2, 0x88, 0x12, 0x34, 0, 0, 1, 0, 0xde, 0xad, 0xbe,
        0xef, // fixed, padding, extension, two CSRCs
        0, 0, 0, 1, 0, 0, 0, 2, // CSRCs
        0xbe, 0xde, 0, 1, 1, 2, 3, 4, // extension
        9, 8, 7, 0, 2, // payload and padding
    ];
    let mut header = Header::parse(&mut packet).expect("rtp");
    assert!(header.marker());
    assert_eq!(header.payload_type(), PayloadType(8));
    assert_eq!((header.sequence(), header.timestamp(), header.ssrc()), (0x1234, 256, Ssrc(0xdead_beef)));
    assert_eq!(header.csrcs().collect::<Vec<_>>(), [Ssrc(1), Ssrc(2)]);
    assert_eq!(header.extension(), Some((0xbede, &[1u8, 2, 3, 4][..])));
    assert_eq!(header.payload(), [9, 8, 7]);
    header.set_marker(false);
    header.set_payload_type(PayloadType(0xff));
    header.set_sequence(7);
    header.set_timestamp(8);
    header.set_ssrc(Ssrc(9));
    header.payload_mut().fill(5);
    assert_eq!(packet[1..12], [0x7f, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9]);
    assert_eq!(packet[28..], [5, 5, 5, 0, 2]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let parse = |bytes: &[u8]| Header::parse(&mut bytes.to_vec()).map(|_| ()).unwrap_err();
    let mut packet = [0u8; 16];
    assert_eq!(parse(&[]), RtpError::Truncated);
    assert_eq!(parse(&packet), RtpError::Version);
    packet[0] = 0x82;
    assert_eq!(parse(&packet), RtpError::Truncated);
    packet[0] = 0x90;
    packet[15] = 1;
    assert_eq!(parse(&packet), RtpError::Truncated);
    packet[0] = 0xa0;
    for padding in [0, 5] {
        packet[15] = padding;
        assert_eq!(parse(&packet), RtpError::Padding);
    }
    packet[15] = 4;
    assert!(Header::parse(&mut packet).expect("all padding").payload().is_empty());
}

#[test]
fn rtcp_is_told_by_its_packet_type() {
    assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x80, 223]) && is_rtcp(&[0x80, 192]));
    assert!(
        !is_rtcp(&[0x80, 0]) && !is_rtcp(&[0x80, 111]) && !is_rtcp(&[0x80, 0x80 | 111]) && !is_rtcp(&[0x80])
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32) {
        let fixed = Fixed { marker, payload_type: PayloadType(payload_type), sequence, timestamp, ssrc: Ssrc(ssrc) };
        let mut packet = fixed.to_bytes();
        let header = Header::parse(&mut packet).expect("rtp");
        let read = (header.marker(), header.payload_type().0, header.sequence(), header.timestamp(), header.ssrc().0);
        prop_assert_eq!(read, (marker, payload_type, sequence, timestamp, ssrc));
    }

    #[test]
    fn any_bytes_are_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(mut header) = Header::parse(&mut bytes) {
            let _ = (header.csrcs().count(), header.extension(), header.payload().len());
            header.payload_mut().fill(0);
        }
    }
}
