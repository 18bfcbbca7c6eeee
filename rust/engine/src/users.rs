//! The users whose phones register here, as Python's document has them.

use crate::EngineError;
use crate::error::Code;
use serde::Deserialize;
use telephony_sip::digest::Secret;
use telephony_sip::users::{Account, Users};

/// All of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    realm: String,
    users: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    password: Option<String>,
    ha1: Option<String>,
    max_contacts: usize,
}

/// Reads the document; without users there is nobody to ask.
pub(crate) fn parse(document: &[u8]) -> Result<Option<Users>, EngineError> {
    // The words of a decoder could hold a password.
    let document: Document =
        serde_json::from_slice(document).map_err(|_| fault("the document of users is malformed"))?;
    let account = |row: Row| {
        let secret = match (row.password, row.ha1) {
            (Some(password), None) => Secret::Password(password.into()),
            (None, Some(ha1)) => Secret::from_ha1(&ha1)
                .ok_or_else(|| fault(&format!("user {}: ha1 is neither MD5 nor SHA-256", row.name)))?,
            _ => return Err(fault(&format!("user {}: one of password and ha1", row.name))),
        };
        Ok((row.name.into(), Account { secret, max_contacts: row.max_contacts }))
    };
    let accounts: std::collections::HashMap<_, _> =
        document.users.into_iter().map(account).collect::<Result<_, _>>()?;
    Ok((!accounts.is_empty()).then(|| Users { realm: document.realm.into(), accounts }))
}

fn fault(message: &str) -> EngineError {
    EngineError::new(Code::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_passwords_or_hashes_and_stay_secret() {
        let row = |secret: &str| {
            let text =
                format!(r#"{{"realm": "r", "users": [{{"name": "alice", "max_contacts": 2, {secret}}}]}}"#);
            parse(text.as_bytes())
        };
        let users = row(r#""password": "wonderland""#).unwrap().unwrap();
        assert_eq!(users.accounts.get("alice").unwrap().max_contacts, 2);
        assert!(!format!("{users:?}").contains("wonderland"));
        assert!(row(&format!(r#""ha1": "{}""#, "0".repeat(64))).is_ok());
        for wrong in [
            r#""ha1": "wonderland""#,
            r#""password": "wonderland", "ha1": "wonderland""#,
            r#""colour": "wonderland""#,
        ] {
            assert!(!row(wrong).unwrap_err().to_string().contains("wonderland"), "{wrong}");
        }
        assert!(parse(br#"{"realm": "r", "users": []}"#).unwrap().is_none());
    }
}
