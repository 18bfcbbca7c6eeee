//! RTCP compounds.

use proptest::prelude::*;
use telephony_media::rtcp::{
    Packet, ReportBlock, SenderInfo, parse, write_cname, write_goodbye, write_report,
};
use telephony_media::rtp::Ssrc;

fn block() -> ReportBlock {
    ReportBlock {
        ssrc: Ssrc(5),
        fraction_lost: 12,
        cumulative_lost: -3,
        extended_highest: 70_000,
        jitter: 33,
        last_sender_report: 44,
        delay: 55,
    }
}

#[test]
fn what_is_written_is_read() {
    let info = SenderInfo { ntp: 0x1234_5678_9abc_def0, rtp_timestamp: 7, packets: 8, octets: 9 };
    for cname in ["", "a", "ab", "abc", "abcd", "0123456789abcdef01234567"] {
        let mut bytes = Vec::new();
        write_report(&mut bytes, Ssrc(1), Some(&info), Some(&block()));
        write_report(&mut bytes, Ssrc(1), None, None);
        write_cname(&mut bytes, Ssrc(1), cname);
        write_goodbye(&mut bytes, Ssrc(1));
        assert!(bytes.len().is_multiple_of(4));
        let packets: Vec<_> = parse(&bytes).expect("compound").collect();
        let Packet::SenderReport { ssrc, info: read, blocks } = packets[0] else { panic!("{packets:?}") };
        assert_eq!((ssrc, read, blocks.collect::<Vec<_>>()), (Ssrc(1), info, vec![block()]));
        assert!(
            matches!(packets[1], Packet::ReceiverReport { ssrc: Ssrc(1), blocks } if blocks.count() == 0)
        );
        assert_eq!(packets[2], Packet::SourceDescription { ssrc: Ssrc(1), cname: Some(cname.as_bytes()) });
        assert_eq!(packets[3], Packet::Goodbye { ssrc: Some(Ssrc(1)) });
    }
}

#[test]
fn feedback_is_stepped_over() {
    let mut bytes = vec![0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    write_report(&mut bytes, Ssrc(3), None, Some(&block()));
    let packets: Vec<_> = parse(&bytes).expect("compound").collect();
    assert_eq!(packets[0], Packet::Other(206));
    assert!(matches!(packets[1], Packet::ReceiverReport { ssrc: Ssrc(3), .. }));
}

#[test]
fn broken_frames_are_refused() {
    for bytes in [
        &[][..],
        &[0x80],
        &[0x80, 200, 0, 1],
        &[0x40, 200, 0, 0],
        &[0x80, 100, 0, 0],
        &[0xa0, 201, 0, 0, 0x80, 201, 0, 0],
    ] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
    // A report that promises more blocks than it holds is not believed.
    assert_eq!(parse(&[0x81, 201, 0, 1, 0, 0, 0, 1]).expect("frame").next(), Some(Packet::Other(201)));
}

proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..120), first in 0x80u8..0xc0, kind in 192u8..224, words in 0u8..30) {
        let mut shaped = bytes.clone();
        if let Some(head) = shaped.first_chunk_mut() {
            *head = [first, kind, 0, words];
        }
        for bytes in [bytes, shaped] {
            for packet in parse(&bytes).into_iter().flatten() {
                if let Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } = packet {
                    blocks.count();
                }
            }
        }
    }
}
