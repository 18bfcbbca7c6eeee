//! Whom a TLS peer has to prove to be: the domain of the URI as written (RFC 5922 5), whatever the DNS made of it.

use telephony_sip::Uri;

/// The host of a URI or of `host[:port]`.
pub(crate) fn domain(hop: &str) -> Option<String> {
    let of = |uri: &str| Uri::parse(uri).ok()?.host().map(|host| host.to_string());
    let scheme = |name: &str| hop.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    match hop.contains('@') || scheme("sip:") || scheme("sips:") {
        true => of(hop),
        false => of(&format!("sip:{hop}")),
    }
}

#[cfg(test)]
mod tests {
    use super::domain;

    #[test]
    fn the_domain_is_the_host_as_written() {
        for (hop, host) in [
            ("sip:bob@192.0.2.1", "192.0.2.1"),
            ("sips:bob@example.com:5061;transport=tcp", "example.com"),
            ("SIPS:bob@[2001:db8::1]:5061", "[2001:db8::1]"),
            ("sip.example.com:5080", "sip.example.com"),
        ] {
            assert_eq!(domain(hop).as_deref(), Some(host), "{hop}");
        }
        assert_eq!(domain("tel:+1"), None);
    }
}
