//! What cannot be parsed: its first bytes, and what can be found of the visitor's wish in all of them.

use super::{Hit, MOST_BYTES, ParameterValue, UNREADABLE};
use crate::redact::unescaped;

/// What a text says of how its visitor wants to be treated, as far as that can be found without parsing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// `aip` occurs.
    pub is_anonymous: bool,
    /// Consent mode that denies `analytics_storage`, or the word `denied`.
    pub denies_consent: bool,
}

impl Hit {
    /// A hit whose only parameter is [`UNREADABLE`]: the first bytes, as many as are parsed of a hit. The visitor's wish is that of the
    /// whole text.
    #[must_use]
    pub fn unreadable(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw.get(..MOST_BYTES).unwrap_or(raw));
        let mut hit = Self { bytes: raw.len(), wish: Some(Wish::of(raw)), ..Self::default() };
        hit.push(UNREADABLE, ParameterValue::Text(&text));
        hit
    }

    /// The same of a text of which a part, or all, cannot be searched: it counts as that of a visitor who denies consent.
    #[must_use]
    pub fn denied(self) -> Self {
        let wish = Wish { denies_consent: true, ..self.wish.unwrap_or_default() };
        Self { wish: Some(wish), ..self }
    }

    /// Of a text that cannot be parsed, what it says about the visitor's wish.
    #[must_use]
    pub const fn wish(&self) -> Option<Wish> {
        self.wish
    }
}

impl Wish {
    fn of(raw: &[u8]) -> Self {
        let text = unescaped(&String::from_utf8_lossy(raw)).to_ascii_lowercase();
        let occurs = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
        Self {
            is_anonymous: occurs(b"aip"),
            denies_consent: occurs(b"denied")
                || values(&text, b"gcs").any(is_status)
                || values(&text, b"gcd").any(is_state),
        }
    }
}

/// What follows a name, after punctuation such as that of a form or of JSON.
fn values<'a>(text: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let after = |at: usize| {
        let rest = text.get(at + name.len()..)?;
        let start = rest.iter().take(16).position(u8::is_ascii_alphanumeric)?;
        rest.get(start..)
    };
    text.windows(name.len()).enumerate().filter(move |(_, window)| *window == name).filter_map(move |(at, _)| after(at))
}

/// `G1`, then `ad_storage`, and `analytics_storage`, which is denied.
fn is_status(value: &[u8]) -> bool {
    value.starts_with(b"g1") && value.get(3) == Some(&b'0')
}

/// A letter each for `ad_storage`, `analytics_storage`, `ad_user_data` and `ad_personalization`: p, q, m and u mean denied.
pub(crate) fn is_state(value: &[u8]) -> bool {
    let word = value.iter().take_while(|byte| byte.is_ascii_alphanumeric());
    matches!(word.filter(|byte| byte.is_ascii_alphabetic()).nth(1), Some(b'p' | b'q' | b'm' | b'u'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visitors_wish_is_found_in_what_cannot_be_parsed() {
        let wish = |raw: &str| {
            let Wish { is_anonymous, denies_consent } = Hit::unreadable(raw.as_bytes()).wish().unwrap();
            (is_anonymous, denies_consent)
        };
        for raw in [
            "v=2&gcs=G100&dl=%",
            "gcs%3DG110",
            "gcs%253DG1-0",
            "{\"gcs\": \"G100\", ",
            "{\\\"gcs\\\":\\\"g100\\\"",
            "gcs\\u003dG100",
            "gcs\\u0022:\\u0022G100",
            "gcd=13q3q3q3q5",
            "{\"gcd\":\"13t3u3t3t5\"",
            "{\"consent\": {\"ad_user_data\": \"DENIED\"",
            "ad_user_data: Denied",
            "ad_user_data%3A%22denied%22",
        ] {
            assert_eq!(wish(raw), (false, true), "{raw}");
        }
        for raw in
            ["gcs=G111", "gcs=G101&gcd=13t3t3t3t5", "gcd=13p3t3p3p5", "{\"ad_user_data\": \"GRANTED\"", "gcs=", "gcd"]
        {
            assert_eq!(wish(raw), (false, false), "{raw}");
        }
        assert_eq!(wish("{\"AIP\": 1"), (true, false));
        let late = format!("dl={}&aip=1", "a".repeat(2 * MOST_BYTES));
        assert_eq!(wish(&late), (true, false), "beyond what is stored");
        assert_eq!(Hit::from_form(b"gcs=G100").unwrap().wish(), None);
    }
}
