//! The keys of an environment: Ed25519 (RFC 8032), as text in base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Signs what an environment publishes. Its text is the 32-byte seed in base64 (43 characters): a secret.
pub struct SecretKey(SigningKey);

/// Checks what an environment publishes. Its text is the 32-byte key in base64 (43 characters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an Ed25519 key: 32 bytes in base64 without padding are expected")
    }
}

impl std::error::Error for KeyError {}

impl SecretKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What it was made from.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

// The seed is never shown.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

impl PublicKey {
    pub(crate) fn is_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        // Strict: one message and key have one signature, and weak keys have none.
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| KeyError)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| KeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_its_text() {
        let key = SecretKey::from_seed(&[7; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().len(), 43);
        for bad in ["", "AAAA", "not base64 at all, but 43 characters long!!"] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError), "{bad}");
        }
    }

    #[test]
    fn a_secret_key_is_made_from_its_seed_again() {
        let secret = SecretKey::from_seed(&[7; 32]);
        assert_eq!((secret.seed(), SecretKey::from_seed(&secret.seed()).public()), ([7; 32], secret.public()));
    }

    #[test]
    fn a_secret_key_does_not_show_itself() {
        let secret = SecretKey::from_seed(&[7; 32]);
        assert_eq!(format!("{secret:?}"), format!("SecretKey(of {})", secret.public()));
    }
}
