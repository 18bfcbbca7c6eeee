//! RFC 3711 appendix B: keystream and key derivation.

use super::aes_cm::keystream;
use super::kdf::prf;
use aes::Aes128;
use aes::cipher::KeyInit;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// B.2 AES-CM test vectors.
#[test]
fn keystream_of_appendix_b2() {
    let cipher = Aes128::new_from_slice(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
    let iv = u128::from_str_radix("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000", 16).unwrap();
    let mut segment = vec![0; 0xff02 * 16];
    keystream(&cipher, iv, &mut segment);
    assert_eq!(
        segment[..48],
        hex("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
        41E95B3BB0A2E8DD477901E4FCA894C0")
    );
    assert_eq!(
        segment[0xfeff * 16..],
        hex("EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE
        6A2CC3787889374FBEB4C81B17BA6C44")
    );
}

/// B.3 key derivation test vectors.
#[test]
fn session_keys_of_appendix_b3() {
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let derive = |label, length| prf(&key, &salt, label, length).unwrap();
    assert_eq!(derive(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derive(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let authentication = hex("CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
        E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
        6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2DC68");
    assert_eq!(derive(1, 96)[..94], authentication[..94]);
}
