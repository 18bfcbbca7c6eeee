//! The trunks: who the peers are, by address and by name, and how each wants to be spoken to.
//!
//! Python reads and checks `gateway.toml`; here arrives a JSON document of what the engine has to know of it.

use crate::EngineError;
use crate::config::Public;
use crate::error::Code;
use crate::sip_thread::ProbedTrunk;
use crate::transport::tls::{ClientFiles, Store};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use telephony_sip::digest::{Credentials, Secret};
use telephony_sip::users::Guard;
use telephony_sip::{Admission, Failover, Pace, Profile, SessionTimer, Stranger, Support, Transport};

/// Probes come no faster, whatever the document says.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// One trunk, as the document has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trunk {
    name: String,
    #[serde(default)]
    addresses: Vec<IpNet>,
    /// Where its calls are sent, and its probes.
    uri: Option<String>,
    /// Seconds between two probes; absent for none.
    #[serde(default)]
    probe: Option<f64>,
    /// Seconds that a target may be silent while others are left.
    #[serde(default)]
    patience: Option<f64>,
    /// Its networks count only where no other trunk's do.
    #[serde(default)]
    last: bool,
    /// New calls a second.
    max_cps: Option<f64>,
    /// Calls at a time.
    max_calls: Option<u32>,
    /// RFC 3262.
    #[serde(default, rename = "100rel")]
    reliable: Extension,
    /// RFC 4028; intervals in seconds.
    #[serde(default)]
    session_timer: Extension,
    #[serde(default = "session_expires")]
    session_expires: u32,
    #[serde(default = "min_se")]
    min_se: u32,
    transport: Option<Spoken>,
    local: Option<IpAddr>,
    advertise: Option<String>,
    tls: Option<ClientFiles>,
    credentials: Option<CredentialsRow>,
    register: Option<RegisterRow>,
    /// What its calls have to prove.
    guard: Option<CredentialsRow>,
    /// Users' phones may sit at its addresses.
    #[serde(default)]
    phones: bool,
    /// How keys travel.
    #[serde(default)]
    dtmf: Keys,
}

fn session_expires() -> u32 {
    SessionTimer::default().expires
}

fn min_se() -> u32 {
    SessionTimer::default().min
}

/// How far an extension goes, as the document has it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Extension {
    Off,
    #[default]
    Supported,
    Require,
}

impl From<Extension> for Support {
    fn from(extension: Extension) -> Self {
        match extension {
            Extension::Off => Self::Off,
            Extension::Supported => Self::Supported,
            Extension::Require => Self::Required,
        }
    }
}

/// How keys travel, as the document has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Keys {
    #[default]
    Rfc4733,
    Info,
}

/// A transport as the document spells it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Spoken {
    Udp,
    Tcp,
    Tls,
}

impl From<Spoken> for Transport {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Udp => Self::Udp,
            Spoken::Tcp => Self::Tcp,
            Spoken::Tls => Self::Tls,
        }
    }
}

/// Which way a trunk is spoken to; the default is any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path {
    /// Where its URI leaves that open.
    pub(crate) transport: Option<Transport>,
    /// Which of our addresses it is spoken to from.
    pub(crate) local: Option<IpAddr>,
    /// What it is told instead of that.
    pub(crate) advertise: Option<Public>,
    /// How TLS proves things.
    pub(crate) tls: ClientFiles,
    /// Its keys go by INFO.
    pub(crate) signals_keys: bool,
}

/// Who we are to a trunk.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsRow {
    username: String,
    password: String,
    realm: String,
}

impl fmt::Debug for CredentialsRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsRow").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What is to be registered with a trunk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterRow {
    registrar: String,
    aor: String,
    contact_user: String,
    expires: u32,
    #[serde(default)]
    rewrite: bool,
}

/// Where a trunk wants us registered.
#[derive(Debug)]
pub(crate) struct Registrar {
    pub(crate) uri: String,
    pub(crate) aor: String,
    pub(crate) contact_user: String,
    pub(crate) expires: u32,
    pub(crate) rewrite: bool,
    pub(crate) profile: Arc<Profile>,
}

impl RegisterRow {
    fn registrar(self, profile: &Arc<Profile>) -> Registrar {
        Registrar {
            uri: self.registrar,
            aor: self.aor,
            contact_user: self.contact_user,
            expires: self.expires,
            rewrite: self.rewrite,
            profile: Arc::clone(profile),
        }
    }
}

impl Trunk {
    fn path(&self) -> Result<Path, EngineError> {
        let advertise = self
            .advertise
            .as_deref()
            .map(|text| Public::of(&format!("trunk {:?}: advertise", self.name), text));
        Ok(Path {
            transport: self.transport.map(Into::into),
            local: self.local,
            advertise: advertise.transpose()?,
            tls: self.tls.clone().unwrap_or_default(),
            signals_keys: self.dtmf == Keys::Info,
        })
    }

    fn profile(&self) -> Profile {
        let pace = self.max_cps.and_then(Pace::per_second);
        let admission = Admission { stranger: Stranger::Take, pace, max_calls: self.max_calls };
        let session = SessionTimer {
            support: self.session_timer.into(),
            expires: self.session_expires,
            min: self.min_se,
        };
        let reliable = self.reliable.into();
        let networks = self.addresses.iter().map(|network| (network.addr(), network.prefix_len())).collect();
        let credentials = self.credentials.as_ref().map(|row| Credentials {
            username: row.username.as_str().into(),
            secret: Secret::Password(row.password.as_str().into()),
            realm: row.realm.as_str().into(),
            networks,
        });
        let guard = self.guard.as_ref().map(|row| Guard {
            realm: row.realm.as_str().into(),
            username: row.username.as_str().into(),
            secret: Secret::Password(row.password.as_str().into()),
        });
        let patience = self.patience.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Profile {
            name: self.name.as_str().into(),
            failover: patience.map_or_else(Failover::default, |patience| Failover { patience }),
            credentials: credentials.map(Arc::new),
            guard: guard.map(Arc::new),
            admission,
            reliable,
            session,
            phones: self.phones,
            ..Profile::default()
        }
    }

    fn probed(&self) -> Option<ProbedTrunk> {
        let interval = Duration::try_from_secs_f64(self.probe?).ok()?.max(LEAST_PAUSE);
        Some(ProbedTrunk { name: self.name.as_str().into(), uri: self.uri.clone()?, interval })
    }
}

/// A trunk as calls to it need it.
#[derive(Debug)]
struct Dialled {
    uri: Option<String>,
    profile: Arc<Profile>,
    /// The same without credentials, for calls by this trunk that go elsewhere than to its own address.
    bare: Arc<Profile>,
}

impl Dialled {
    fn is_at(&self, next_hop: Option<&str>) -> bool {
        next_hop.is_some() && next_hop == self.uri.as_deref()
    }
}

/// All trunks, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Trunks {
    by_name: HashMap<String, Dialled>,
    registrars: HashMap<Arc<str>, Registrar>,
    /// The narrowest network first, those of trunks that come last after all others.
    by_network: Vec<(bool, IpNet, Arc<Profile>)>,
    paths: HashMap<Arc<str>, Path>,
    anywhere: Path,
    /// Of peers that belong to no trunk.
    nobody: Arc<Profile>,
    probes: Vec<ProbedTrunk>,
}

impl Trunks {
    /// No trunk at all: everybody is a stranger.
    pub(crate) fn none(strangers: Stranger) -> Self {
        let admission = Admission { stranger: strangers, ..Admission::default() };
        let nobody = Arc::new(Profile { admission, ..Profile::default() });
        Self { nobody, ..Self::default() }
    }

    /// Reads the document: a list of trunks.
    pub(crate) fn parse(document: &[u8], strangers: Stranger) -> Result<Self, EngineError> {
        let trunks: Vec<Trunk> = serde_json::from_slice(document)
            .map_err(|error| EngineError::new(Code::Invalid, format!("trunks: {error}")))?;
        let mut this = Self::none(strangers);
        for trunk in trunks {
            let profile = Arc::new(trunk.profile());
            this.paths.insert(Arc::clone(&profile.name), trunk.path()?);
            let networks = trunk.addresses.iter();
            this.by_network.extend(networks.map(|network| (trunk.last, *network, Arc::clone(&profile))));
            this.probes.extend(trunk.probed());
            if let Some(row) = trunk.register {
                this.registrars.insert(Arc::clone(&profile.name), row.registrar(&profile));
            }
            let bare = match &profile.credentials {
                Some(_) => Arc::new(Profile { credentials: None, ..Profile::clone(&profile) }),
                None => Arc::clone(&profile),
            };
            this.by_name.insert(trunk.name, Dialled { uri: trunk.uri, profile, bare });
        }
        this.by_network.sort_by_key(|(last, network, _)| (*last, std::cmp::Reverse(network.prefix_len())));
        Ok(this)
    }

    /// The trunks that want to be probed.
    pub(crate) fn probes(&self) -> Vec<ProbedTrunk> {
        self.probes.clone()
    }

    /// Whether there is a trunk of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// How a trunk wants to be spoken to in a call that is sent to `next_hop`; one that is not there has no wishes. Our
    /// credentials are for the trunk's own address only.
    pub(crate) fn profile(&self, name: &str, next_hop: Option<&str>) -> Arc<Profile> {
        let Some(trunk) = self.by_name.get(name) else { return Arc::clone(&self.nobody) };
        Arc::clone(if trunk.is_at(next_hop) { &trunk.profile } else { &trunk.bare })
    }

    /// Whether what is sent to `next_hop` goes to the trunk's own address.
    pub(crate) fn is_at(&self, name: &str, next_hop: Option<&str>) -> bool {
        self.by_name.get(name).is_some_and(|trunk| trunk.is_at(next_hop))
    }

    /// How phones are spoken to.
    pub(crate) fn phone() -> Arc<Profile> {
        Arc::new(Profile { keeps_flow: true, ..Profile::default() })
    }

    /// The trunks that want us registered.
    pub(crate) fn registrars(&self) -> impl Iterator<Item = (&Arc<str>, &Registrar)> {
        self.registrars.iter()
    }

    /// Where one of them wants that.
    pub(crate) fn registrar(&self, name: &str) -> Option<&Registrar> {
        self.registrars.get(name)
    }

    /// Which way a trunk is spoken to.
    pub(crate) fn path(&self, name: &str) -> &Path {
        self.paths.get(name).unwrap_or(&self.anywhere)
    }

    /// Reads the files that trunks name for TLS; whether there are any.
    pub(crate) fn load(&self, tls: &Store) -> Result<bool, EngineError> {
        let mut any = false;
        for (name, path) in self.paths.iter().filter(|(_, path)| path.tls != ClientFiles::default()) {
            let fault = |why| EngineError::new(Code::Invalid, format!("trunk {name:?}: tls: {why}"));
            tls.client(&path.tls).map_err(fault)?;
            any = true;
        }
        Ok(any)
    }

    /// The same by the address of a peer.
    pub(crate) fn profile_of(&self, peer: IpAddr) -> &Arc<Profile> {
        let peer = peer.to_canonical();
        let found = self.by_network.iter().find(|(_, network, _)| network.contains(&peer));
        found.map_or(&self.nobody, |(_, _, profile)| profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_network_names_the_peer() {
        let document = br#"[{"name": "wide", "addresses": ["192.0.2.0/24"]},
            {"name": "narrow", "addresses": ["192.0.2.8/32", "2001:db8::/32"]}, {"name": "none"},
            {"name": "built-in", "addresses": ["192.0.2.9/32", "127.0.0.0/8"], "last": true}]"#;
        let trunks = Trunks::parse(document, Stranger::Drop).unwrap();
        for (peer, name) in [
            ("192.0.2.9", "wide"),
            ("::ffff:192.0.2.8", "narrow"),
            ("2001:db8::1", "narrow"),
            ("127.0.0.1", "built-in"),
            ("198.51.100.1", ""),
        ] {
            assert_eq!(&*trunks.profile_of(peer.parse().unwrap()).name, name, "{peer}");
        }
        assert_eq!((&*trunks.profile("wide", None).name, &*trunks.profile("other", None).name), ("wide", ""));
    }

    #[test]
    fn credentials_are_for_the_trunk_itself_and_never_shown() {
        let document = br#"[{"name": "a", "uri": "sip:a.example",
            "credentials": {"username": "u", "password": "wonderland", "realm": "r"},
            "register": {"registrar": "sip:a.example", "aor": "sip:u@a.example", "contact_user": "u", "expires": 60}}]"#;
        let trunks = Trunks::parse(document, Stranger::Take).unwrap();
        let known = |next_hop| trunks.profile("a", next_hop).credentials.is_some();
        assert!(known(Some("sip:a.example")) && !known(Some("sip:elsewhere.example")) && !known(None));
        assert_eq!(trunks.registrar("a").unwrap().aor, "sip:u@a.example");
        assert!(!format!("{trunks:?}").contains("wonderland"));
    }

    #[test]
    fn limits_are_the_trunks_own_and_strangers_are_what_they_are_told_to_be() {
        let document = br#"[{"name": "a", "max_cps": 10, "max_calls": 5, "patience": 1.5}]"#;
        let trunks = Trunks::parse(document, Stranger::Refuse).unwrap();
        let admission = trunks.profile("a", None).admission.clone();
        assert_eq!((admission.pace.map(Pace::rate), admission.max_calls), (Some(10.0), Some(5)));
        assert_eq!(admission.stranger, Stranger::Take);
        assert_eq!(trunks.profile("a", None).failover.patience, Duration::from_millis(1500));
        assert_eq!(trunks.profile_of([192, 0, 2, 1].into()).admission.stranger, Stranger::Refuse);
    }

    #[test]
    fn an_extension_is_spoken_where_the_peer_has_it_unless_the_trunk_says_otherwise() {
        let document = br#"[{"name": "plain"}, {"name": "off", "100rel": "off"},
            {"name": "all", "100rel": "require", "session_timer": "off", "session_expires": 600, "min_se": 300}]"#;
        let trunks = Trunks::parse(document, Stranger::Refuse).unwrap();
        for (name, reliable) in
            [("plain", Support::Supported), ("off", Support::Off), ("all", Support::Required)]
        {
            assert_eq!(trunks.profile(name, None).reliable, reliable, "{name}");
        }
        assert_eq!(trunks.profile("nobody", None).reliable, Support::Off);
        let session = |support, expires, min| SessionTimer { support, expires, min };
        assert_eq!(trunks.profile("plain", None).session, session(Support::Supported, 1800, 90));
        assert_eq!(trunks.profile("all", None).session, session(Support::Off, 600, 300));
    }

    #[test]
    fn a_document_with_unknown_words_is_refused() {
        for document in
            ["{}", "[{}]", r#"[{"name": "a", "colour": "red"}]"#, r#"[{"name": "a", "addresses": ["x"]}]"#]
        {
            assert_eq!(
                Trunks::parse(document.as_bytes(), Stranger::Take).unwrap_err().code,
                Code::Invalid,
                "{document}"
            );
        }
    }
}
