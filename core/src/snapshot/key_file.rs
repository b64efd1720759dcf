//! The secret beside the snapshot: without it the fingerprints in the file stand for nobody.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{read_file, suffixed, write_file};
use crate::hash::HashKey;

const PREFIX: &str = "ratelimit-key-1 ";

/// The secret could not be read or made.
#[derive(Debug)]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the secret in {} can neither be read nor made ({}): give a path that this user may write, or a secret of your own",
            self.path.display(),
            self.error
        )
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The secret of the snapshot at `path`, from `NAME.key`; made at random if there is none, or none that makes sense: whatever
/// was keyed by a damaged one is lost anyway. Only whoever holds the snapshot's lock may ask.
///
/// Errors: the file exists and may not be read, or cannot be written, or the system has no randomness.
pub fn hash_key_of(path: &Path) -> Result<HashKey, KeyFileError> {
    let path = suffixed(path, ".key");
    let failed = |error| KeyFileError {
        path: path.clone(),
        error,
    };
    let known = read_file(&path).map_err(failed)?;
    if let Some(secret) = known.as_deref().and_then(decode) {
        return Ok(HashKey::new(secret));
    }
    let secret = HashKey::random_secret().map_err(|error| failed(io::Error::other(error.to_string())))?;
    write_file(&path, encode(secret).as_bytes()).map_err(failed)?;
    Ok(HashKey::new(secret))
}

/// What the secret beside a snapshot is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileState {
    /// There is none: the secret comes from the configuration, or is lost.
    Missing,
    /// It is not readable as a secret.
    Damaged,
    /// It keyed this snapshot.
    Fits,
    /// It keyed another.
    DoesNotFit,
}

/// Whether the secret beside the snapshot at `path` is the one whose check value is `key_check`. Changes nothing.
///
/// Errors: it exists and may not be read.
pub fn key_file_state(path: &Path, key_check: u64) -> io::Result<KeyFileState> {
    Ok(match read_file(&suffixed(path, ".key"))? {
        None => KeyFileState::Missing,
        Some(content) => match decode(&content) {
            None => KeyFileState::Damaged,
            Some(secret) if HashKey::new(secret).check_value() == key_check => KeyFileState::Fits,
            Some(_) => KeyFileState::DoesNotFit,
        },
    })
}

/// Makes `hash_key` the secret of the snapshot at `path`, if another one or none lies there: a shared table brings its own, and
/// without it the snapshots of that table would stand for nobody. Only whoever holds the snapshot's lock may ask.
///
/// Errors: the file cannot be read or written.
pub fn keep_hash_key(path: &Path, hash_key: &HashKey) -> Result<(), KeyFileError> {
    let path = suffixed(path, ".key");
    let failed = |error| KeyFileError {
        path: path.clone(),
        error,
    };
    let [low, high] = hash_key.to_words().map(u64::to_le_bytes);
    let secret = std::array::from_fn(|i| if i < 8 { low[i] } else { high[i - 8] });
    let known = read_file(&path).map_err(failed)?;
    if known.as_deref().and_then(decode) == Some(secret) {
        return Ok(());
    }
    write_file(&path, encode(secret).as_bytes()).map_err(failed)
}

fn encode(secret: [u8; 16]) -> String {
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{digits}\n")
}

fn decode(content: &[u8]) -> Option<[u8; 16]> {
    let digits = content.strip_prefix(PREFIX.as_bytes())?.strip_suffix(b"\n")?;
    if digits.len() != 32 {
        return None;
    }
    let mut secret = [0; 16];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, hash_key_of, keep_hash_key};
    use crate::hash::HashKey;

    #[test]
    fn a_table_brings_its_own_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.snapshot");
        let first = hash_key_of(&path).unwrap();
        assert_eq!(hash_key_of(&path).unwrap().check_value(), first.check_value());
        let brought = HashKey::new(std::array::from_fn(|i| i as u8));
        for _ in 0..2 {
            keep_hash_key(&path, &brought).unwrap();
            assert_eq!(hash_key_of(&path).unwrap().check_value(), brought.check_value());
        }
    }

    #[test]
    fn a_secret_comes_back_and_anything_else_does_not() {
        let secret = std::array::from_fn(|i| (i * 17) as u8);
        let text = encode(secret);
        assert_eq!(text, "ratelimit-key-1 00112233445566778899aabbccddeeff\n");
        assert_eq!(decode(text.as_bytes()), Some(secret));
        for cut in 0..text.len() {
            assert_eq!(decode(&text.as_bytes()[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode(text.replace('c', "g").as_bytes()), None);
        assert_eq!(decode(text.replace("key-1", "key-2").as_bytes()), None);
        assert_eq!(decode(b""), None);
    }
}
