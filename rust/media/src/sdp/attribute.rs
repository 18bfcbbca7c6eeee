//! Typed values of attributes.

/// `a=sendrecv` and its kin (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways; what silence means.
    #[default]
    SendRecv,
    /// The describer only sends.
    SendOnly,
    /// The describer only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// `a=setup` (RFC 4145 section 4, RFC 8842 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The describer begins.
    Active,
    /// The describer waits.
    Passive,
    /// Either; only in offers.
    ActPass,
    /// Nobody for now.
    HoldConn,
}

/// A hash function of `a=fingerprint` that we accept (RFC 8122 section 5 without the broken ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFunction {
    /// `sha-256`
    Sha256,
    /// `sha-384`
    Sha384,
    /// `sha-512`
    Sha512,
}

/// `a=fingerprint`: the hash of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The hash function.
    pub hash: HashFunction,
    /// The digest.
    pub digest: Vec<u8>,
}

/// `a=rtpmap` (RFC 8866 section 6.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// The payload type.
    pub payload_type: u8,
    /// The encoding name.
    pub encoding: &'a str,
    /// The clock rate.
    pub clock_rate: u32,
    /// The channels; 1 if not written.
    pub channels: u8,
}
