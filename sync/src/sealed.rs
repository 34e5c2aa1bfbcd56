//! A JSON text with its signature inside, as its last member: no cache or file server on the way can part them.
//!
//! ```text
//! {"$sync":{...},"flags":{...},"$signature":"86 characters of base64"}
//! └────────────── signed ─────┘└──────────── seal, 103 bytes ────────┘
//! ```
//!
//! Signed is the kind of text (`flags-sync/1 snapshot` or `flags-sync/1 change`, and a line feed) and every byte before the seal, so
//! that a change can't be passed off as a snapshot.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::{PublicKey, SecretKey};

const SEAL_START: &str = ",\"$signature\":\"";
const SEAL_END: &str = "\"}";
/// 64 bytes in base64 without padding.
const SIGNATURE_CHARACTERS: usize = 86;
const SEAL_BYTES: usize = SEAL_START.len() + SIGNATURE_CHARACTERS + SEAL_END.len();

/// Whom a reader of these texts believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What one of these keys has signed, wherever it came from: the environment's, and beside it the one that it is rotated to, or from.
    Keys(Vec<PublicKey>),
    /// Whoever is at the other end of the connection: for loopback, and for TLS without anything in between.
    Transport,
}

impl From<PublicKey> for Trust {
    /// One key alone.
    fn from(key: PublicKey) -> Self {
        Self::Keys(vec![key])
    }
}

/// Why a text is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncError {
    /// It does not end in a signature.
    Unsigned,
    /// The signature is not of this text by one of the keys.
    BadSignature,
    /// It is signed, and not what this version understands.
    Malformed(serde_json::Error),
    /// It is of another environment than was asked for.
    OtherEnvironment {
        /// Which one, as `project/environment`.
        found: String,
    },
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("the text has no signature at its end (torn, or no text of a control plane)"),
            Self::BadSignature => f.write_str("the signature is of none of the configured keys for this text"),
            Self::Malformed(error) => write!(f, "the text is not understood: {error}"),
            Self::OtherEnvironment { found } => write!(f, "the text is of the environment {found:?}"),
        }
    }
}

impl std::error::Error for SyncError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Malformed(error) = self { Some(error) } else { None }
    }
}

/// The text of `content`, an object with at least one member, sealed.
pub(crate) fn seal(kind: &str, content: &impl Serialize, key: &SecretKey) -> String {
    #[expect(clippy::expect_used, reason = "maps with text keys and numbers have a JSON text")]
    let mut text = serde_json::to_string(content).expect("plain data");
    text.pop(); // the closing brace
    let signature = key.sign(&signed(kind, &text));
    text.reserve_exact(SEAL_BYTES);
    text.push_str(SEAL_START);
    STANDARD_NO_PAD.encode_string(signature, &mut text);
    text.push_str(SEAL_END);
    text
}

/// What is in a sealed text, if it can be believed.
pub(crate) fn open<T: DeserializeOwned>(kind: &str, text: &str, trust: &Trust) -> Result<T, SyncError> {
    let (body, signature) = text
        .len()
        .checked_sub(SEAL_BYTES)
        .and_then(|at| text.split_at_checked(at))
        .and_then(|(body, seal)| Some((body, seal.strip_prefix(SEAL_START)?.strip_suffix(SEAL_END)?)))
        .ok_or(SyncError::Unsigned)?;
    if let Trust::Keys(keys) = trust {
        let signature = STANDARD_NO_PAD.decode(signature).map_err(|_| SyncError::BadSignature)?;
        let signature = signature.try_into().map_err(|_| SyncError::BadSignature)?;
        let signed = signed(kind, body);
        if !keys.iter().any(|key| key.is_signed(&signed, &signature)) {
            return Err(SyncError::BadSignature);
        }
    }
    serde_json::from_str(text).map_err(SyncError::Malformed)
}

fn signed(kind: &str, body: &str) -> Vec<u8> {
    [b"flags-sync/1 ", kind.as_bytes(), b"\n", body.as_bytes()].concat()
}
