//! How a peer learns why its session description was refused (RFC 3261 20.43, 21.4.26).

use crate::EngineError;
use telephony_sip::Message;

type Headers = Vec<(String, String)>;

/// "Miscellaneous warning": nothing more exact fits.
const MISCELLANEOUS: u16 = 399;

/// The headers of a refusal: a Warning that says what is wrong with the description, and whoever meets a full gateway
/// may try again soon.
pub(super) fn warning(status: u16, error: &EngineError) -> Headers {
    match status {
        400 | 488 => vec![header(error.warning.unwrap_or(MISCELLANEOUS), &error.message)],
        503 => vec![("Retry-After".into(), "5".into())],
        _ => Vec::new(),
    }
}

/// What a peer is told whose change the other side of the call has refused. Only what is about the session is passed on
/// as it is; a fault behind us is none of the peer's (RFC 3261 16.7 step 6 for 503).
pub(super) fn refused_by_other(status: u16, response: Option<&Message>) -> (u16, Headers) {
    let told = match status {
        400 | 405..=420 | 488 | 501 | 606 => 488,
        403 | 491 | 603 => status,
        _ => 500,
    };
    let said = response.and_then(|response| response.header_named("Warning")).and_then(read);
    let (code, why) = said.unwrap_or_else(|| {
        let phrase = response.map_or("no answer", Message::reason);
        (MISCELLANEOUS, format!("{status} {phrase}"))
    });
    (told, vec![header(code, &format!("the other side refused: {why}"))])
}

/// warn-code and warn-text of the first value of a Warning header.
fn read(value: &str) -> Option<(u16, String)> {
    let (code, rest) = value.trim().split_once(' ')?;
    let code = code.parse().ok().filter(|code| (300..=399).contains(code))?;
    let text = rest.split_once('"')?.1.split('"').next()?;
    Some((code, text.chars().take(200).collect()))
}

fn header(code: u16, text: &str) -> (String, String) {
    let text: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
    ("Warning".into(), format!("{code} gateway \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_refusal_says_why() {
        let why =
            EngineError { warning: Some(305), ..EngineError::new(Code::NotAcceptable, "no \"G729\"\r\n") };
        assert_eq!(warning(488, &why), [("Warning".into(), "305 gateway \"no G729\"".into())]);
        assert_eq!(warning(503, &why), [("Retry-After".into(), "5".into())]);
    }

    #[test]
    fn what_is_behind_us_is_not_passed_on_as_it_is() {
        for (status, told) in
            [(488, 488), (606, 488), (415, 488), (603, 603), (503, 500), (408, 488), (481, 500)]
        {
            assert_eq!(refused_by_other(status, None).0, told, "{status}");
        }
        assert_eq!(read("304 pbx.example \"no video\""), Some((304, "no video".into())));
        assert_eq!(read("999 x \"y\""), None);
    }
}
