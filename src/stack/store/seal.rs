//! The sealed form of a stored value: `version ‖ asked_at in ms, 8 bytes, big-endian ‖ nonce ‖ ciphertext`.
//!
//! The seal covers the name of the record, the version, `asked_at` and the epoch of the scope, so that a value
//! cannot be changed, moved to another contact or outlive its epoch. The engines read the first 9 bytes only.

use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey};

use super::{engine::Epoch, time::StoreTime};

const VERSION: u8 = 1;
const HEADER: usize = 9;
const NONCE: usize = 12;

/// Seals `plain` for the record `name`. `asked_at` is rounded down to milliseconds. `None` when this machine
/// has no random numbers.
pub fn seal(
    key: &RandomizedNonceKey,
    name: &str,
    epoch: &Epoch,
    asked_at: StoreTime,
    plain: Vec<u8>,
) -> Option<Vec<u8>> {
    let mut header = [VERSION; HEADER];
    header[1..].copy_from_slice(&asked_at.millis().to_be_bytes());
    let mut ciphertext = plain;
    let nonce = key.seal_in_place_append_tag(covered(header, epoch, name), &mut ciphertext).ok()?;
    Some([&header[..], nonce.as_ref(), &ciphertext].concat())
}

/// Opens a value that was stored as the record `name`. `None` when it cannot be read.
pub fn open(
    key: &RandomizedNonceKey,
    name: &str,
    epoch: &Epoch,
    value: &[u8],
) -> Option<(StoreTime, Vec<u8>)> {
    let (header, sealed) = value.split_first_chunk::<HEADER>()?;
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE>()?;
    if header[0] != VERSION {
        return None;
    }
    let mut text = ciphertext.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = key.open_in_place(nonce, covered(*header, epoch, name), &mut text).ok()?;
    let length = plain.len();
    text.truncate(length);
    Some((asked_at(value)?, text))
}

/// The `asked_at` of a value of any version, whether it can be read or not.
pub fn asked_at(value: &[u8]) -> Option<StoreTime> {
    let millis = value.get(1..HEADER)?.first_chunk()?;
    Some(StoreTime::from_millis(u64::from_be_bytes(*millis)))
}

/// The associated data. The parts before the name have fixed lengths, so no two names give the same bytes.
fn covered(header: [u8; HEADER], epoch: &Epoch, name: &str) -> Aad<Vec<u8>> {
    Aad::from([&header[..], epoch, name.as_bytes()].concat())
}
