//! Stands in for users that are not there, so that nobody can tell who is: not by what is offered in a challenge, and not
//! by how long the answer takes to judge.

use crate::digest::{Hash, Secret, hex};
use crate::users::Users;

/// A secret of each kind that users have, and how many have it: names of nobody are spread over the kinds as the users
/// are.
#[derive(Debug)]
pub(super) struct Nobody {
    password: Secret,
    kinds: Vec<(usize, Secret)>,
}

impl Nobody {
    pub(super) fn new(key: &[u8]) -> Self {
        Self { password: Secret::Password(hex(key).into()), kinds: Vec::new() }
    }

    /// From now on these users are there.
    pub(super) fn blend_in(&mut self, users: &Users) {
        let hashed = |hash| Some(Secret::Ha1(hash, self.password.ha1(hash, "", "")?.into()));
        let all = [Hash::Md5, Hash::Sha256, Hash::Sha512_256].into_iter().filter_map(hashed);
        let count = |secret: &Secret| {
            let alike = |user: &&crate::users::Account| user.secret.only() == secret.only();
            users.accounts.values().filter(alike).count()
        };
        self.kinds = all.chain([self.password.clone()]).map(|secret| (count(&secret), secret)).collect();
    }

    /// The secret of a name, the same whenever it is asked for.
    pub(super) fn secret(&self, print: u64) -> &Secret {
        let users = self.kinds.iter().map(|(count, _)| *count as u128).sum::<u128>();
        let mut place = (u128::from(print) * users) >> 64;
        let mut is_there = |(count, _): &&(usize, Secret)| {
            let within = place < *count as u128;
            place = place.saturating_sub(*count as u128);
            within
        };
        self.kinds.iter().find(|kind| is_there(kind)).map_or(&self.password, |(_, secret)| secret)
    }
}
