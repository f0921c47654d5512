//! The encoding of object keys in S3 event notifications: percent-encoded, with `+` for a space and `/` unchanged.
//!
//! Source: "Event message structure", Amazon S3 user guide (`s3.object.key` is URL encoded).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The characters that a notification does not encode. Spaces become `+` afterwards.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');

/// Why a key in a notification cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("key {0:?} contains a % without two hexadecimal digits behind it")]
    Escape(String),
    /// The decoded bytes are not UTF-8, which S3 keys always are.
    #[error("key {0:?} is not UTF-8 after decoding")]
    Utf8(String),
}

/// Encodes a key as notifications do.
#[must_use]
pub fn encode(key: &str) -> String {
    utf8_percent_encode(key, KEPT).to_string().replace(' ', "+")
}

/// Decodes a key from a notification.
pub fn decode(encoded: &str) -> Result<String, KeyError> {
    for (_, tail) in encoded.match_indices('%').map(|(at, _)| encoded.split_at(at)) {
        let mut digits = tail.chars().skip(1);
        if !(digits.next().is_some_and(|digit| digit.is_ascii_hexdigit())
            && digits.next().is_some_and(|digit| digit.is_ascii_hexdigit()))
        {
            return Err(KeyError::Escape(encoded.to_owned()));
        }
    }
    let spaced = encoded.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(key) => Ok(key.into_owned()),
        Err(_) => Err(KeyError::Utf8(encoded.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_written_as_s3_writes_them() {
        for (key, encoded) in [
            ("in/a b+c/é=1&x.gz", "in/a+b%2Bc/%C3%A9%3D1%26x.gz"),
            ("dt=2026-11-20/x.parquet", "dt%3D2026-11-20/x.parquet"),
            (
                "cubic/ods_qlik/EDW.SAMPLE__ct/20220304-134556444.csv.gz",
                "cubic/ods_qlik/EDW.SAMPLE__ct/20220304-134556444.csv.gz",
            ),
            ("100%", "100%25"),
        ] {
            assert_eq!(encode(key), encoded);
            assert_eq!(decode(encoded).unwrap(), key);
        }
        assert_eq!(decode("red+flower.jpg").unwrap(), "red flower.jpg");
    }

    #[test]
    fn broken_escapes_are_errors_and_not_guesses() {
        assert_eq!(decode("a%2"), Err(KeyError::Escape("a%2".into())));
        assert_eq!(decode("a%zz"), Err(KeyError::Escape("a%zz".into())));
        assert_eq!(decode("a%é0"), Err(KeyError::Escape("a%é0".into())));
        assert_eq!(decode("a%FF"), Err(KeyError::Utf8("a%FF".into())));
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(key in any::<String>()) {
            prop_assert_eq!(decode(&encode(&key)).unwrap(), key);
        }

        #[test]
        fn decode_never_panics(encoded in any::<String>()) {
            drop(decode(&encoded));
        }
    }
}
