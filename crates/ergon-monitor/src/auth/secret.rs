//! Passwords and tokens, kept so that they cannot be read back.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::error::MonitorError;

/// A password or token, kept as its SHA-256 alone.
///
/// Comparing takes the same time whatever was shown.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret that is at hand as text, such as from the environment.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(digest(text.as_ref().as_bytes()))
    }

    /// A secret of which the SHA-256 is at hand, as 64 hexadecimal digits. SHA-256 is quick to try out:
    /// take it only for secrets that were drawn at random, of 128 bits or more.
    ///
    /// # Errors
    ///
    /// [`MonitorError::InvalidConfig`] for any other text.
    pub fn from_sha256_hex(text: &str) -> Result<Self, MonitorError> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_error) => Err(MonitorError::invalid("auth", "a SHA-256 has 64 hex digits")),
        }
    }

    /// Says whether this is what was shown.
    pub(crate) fn is(&self, shown: &[u8]) -> Choice {
        self.0.ct_eq(&digest(shown))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_recognises_itself_and_tells_nothing() {
        let secret = Secret::new("open sesame");
        assert!(bool::from(secret.is(b"open sesame")));
        for wrong in [&b""[..], b"open sesam", b"open sesame "] {
            assert!(!bool::from(secret.is(wrong)));
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let hex = hex::encode(digest(b"open sesame"));
        assert!(bool::from(Secret::from_sha256_hex(&hex).unwrap().is(b"open sesame")));
        assert!(Secret::from_sha256_hex("abc").is_err());
    }
}
