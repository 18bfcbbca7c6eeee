//! URIs: grammar, printing, comparison (RFC 3261 19.1, RFC 3966).

use std::net::Ipv4Addr;

use telephony_sip::{Host, Scheme, Uri};

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_sip_uri_comes_apart() {
    let uri = uri("sips:alice:secret@192.0.2.1:5061;transport=tcp;lr?Subject=x&Priority=urgent");
    assert_eq!(uri.scheme(), Scheme::Sips);
    assert_eq!((uri.user(), uri.password()), (Some("alice"), Some("secret")));
    assert_eq!((uri.host(), uri.port()), (Some(Host::V4(Ipv4Addr::new(192, 0, 2, 1))), Some(5061)));
    assert_eq!(uri.params().value("Transport"), Some("tcp"));
    assert!(uri.is_loose_router());
    assert_eq!(uri.headers(), "Subject=x&Priority=urgent");
    assert_eq!(
        uri.to_string(),
        "sips:alice:secret@192.0.2.1:5061;transport=tcp;lr?Subject=x&Priority=urgent"
    );
}

#[test]
fn a_tel_uri_is_a_number_with_parameters() {
    let uri = uri("tel:+1-212-555-0101;phone-context=example.com");
    assert_eq!((uri.scheme(), uri.user(), uri.host()), (Scheme::Tel, Some("+1-212-555-0101"), None));
    assert_eq!(uri.params().value("phone-context"), Some("example.com"));
    assert!(Uri::parse("tel:").is_err() && Uri::parse("tel:alice").is_err());
}

#[test]
fn other_schemes_stay_opaque() {
    let uri = uri("urn:service:sos");
    assert_eq!((uri.scheme(), uri.user(), uri.host()), (Scheme::Other("urn"), None, None));
}

#[test]
fn hosts_are_names_or_addresses() {
    assert_eq!(uri("sip:[2001:db8::10]:5070").host().unwrap().to_string(), "[2001:db8::10]");
    assert_eq!(uri("sip:3f2a1b9c7d10:5060").host(), Some(Host::Name("3f2a1b9c7d10")));
    assert_eq!(uri("sip:sbc_1.internal").host(), Some(Host::Name("sbc_1.internal")));
    for broken in [
        "sip:",
        "sip:@host",
        "sip:a@",
        "sip:a@[::1",
        "sip:a@::1",
        "sip:a@1.2.3",
        "sip:a@h:",
        "sip:a@h:99999",
        "sip:a b@h",
    ] {
        assert!(Uri::parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn escapes_must_be_whole_and_resolve() {
    assert_eq!(uri("sip:%61lice%20b@h").user_unescaped().unwrap(), "alice b");
    for broken in ["sip:%4@h", "sip:%zz@h", "sip:a@h;x=%1"] {
        assert!(Uri::parse(broken).is_err(), "{broken}");
    }
}

/// The examples of RFC 3261 19.1.4, then its rules one by one.
#[test]
fn equal_uris() {
    for (a, b) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("tel:+1-212-555-0101", "tel:+1(212)5550101"),
        ("sip:a@[2001:DB8::1]", "sip:a@[2001:db8:0::1]"),
    ] {
        assert_eq!(uri(a), uri(b));
        assert_eq!(uri(b), uri(a));
    }
}

#[test]
fn different_uris() {
    for (a, b) in [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@h", "sips:a@h"),
        ("sip:a%2Fb@h", "sip:a/b@h"),
        ("sip:a@h", "sip:h"),
        ("sip:a@h", "sip:a:@h"),
    ] {
        assert_ne!(uri(a), uri(b));
        assert_ne!(uri(b), uri(a));
    }
}

/// Found by fuzzing: such a URI was not equal to itself.
#[test]
fn a_parameter_that_stands_twice_counts_once() {
    let uri = |text| Uri::parse(text).unwrap();
    let twice = "sip:watson@example.com;tag=a;tag=b";
    assert_eq!(uri(twice), uri(twice));
    assert_ne!(uri(twice), uri("sip:watson@example.com;tag=b"));
}
