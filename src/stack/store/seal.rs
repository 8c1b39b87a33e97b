//! The sealed form of a stored value: `version ‖ asked_at in ms, 8 bytes, big-endian ‖ nonce ‖ ciphertext`.
//!
//! The seal covers the name of the record, the version, `asked_at` and the epoch of the scope, so that a
//! value cannot be changed, moved to another contact or outlive its epoch. The engines read the first 9 bytes
//! only.

use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey};

use super::{
    engine::{Epoch, header as asked_at},
    time::StoreTime,
};

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

/// The associated data. The parts before the name have fixed lengths, so no two names give the same bytes.
fn covered(header: [u8; HEADER], epoch: &Epoch, name: &str) -> Aad<Vec<u8>> {
    Aad::from([&header[..], epoch, name.as_bytes()].concat())
}

#[cfg(test)]
pub mod tests {
    use super::{super::keys::ScopeKeys, *};
    use crate::domain::Instance;

    const NAME: &str = "{test:8d9001d32c6a703d}:a:ed448aa6d697dbddf623ba1fa18f8e39";
    const EPOCH: Epoch = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const TIME: StoreTime = StoreTime::from_millis(1_764_000_000_000);

    fn keys(token: &str) -> ScopeKeys {
        ScopeKeys::derive(token, &Instance::parse("shop").unwrap())
    }

    /// The value was sealed with Python's cryptography. Replicas of all versions must be able to read it.
    #[test]
    fn the_layout_is_that_of_the_format() {
        let value = unhex(
            "010000019ab697e800000102030405060708090a0bbd4e2683327f3b994789dce680bb8dc3abb7c4163a4aadc782a5535e\
             a6f27a81535df742bab3",
        );
        let message = unhex("0a021001110040624159440600190086256559440600");
        assert_eq!(open(&keys("example-token").value, NAME, &EPOCH, &value), Some((TIME, message)));
    }

    pub fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    #[test]
    fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
        let key = keys("a").value;
        let value = seal(&key, NAME, &EPOCH, TIME, b"plain".to_vec()).unwrap();
        assert_eq!(open(&key, NAME, &EPOCH, &value), Some((TIME, b"plain".to_vec())));
        assert_eq!(asked_at(&value), Some(TIME));
        assert_eq!(open(&keys("b").value, NAME, &EPOCH, &value), None, "another token");
        assert_eq!(open(&keys("a").news, NAME, &EPOCH, &value), None, "another key of the scope");
        assert_eq!(open(&key, &NAME.replace(":a:", ":f:"), &EPOCH, &value), None, "another record");
        assert_eq!(open(&key, NAME, &[0; 16], &value), None, "another epoch");
        for index in 0..value.len() {
            let mut altered = value.clone();
            altered[index] ^= 1;
            assert_eq!(open(&key, NAME, &EPOCH, &altered), None, "byte {index}");
            assert_eq!(open(&key, NAME, &EPOCH, &value[..index]), None, "cut after byte {index}");
        }
    }

    #[test]
    fn two_values_of_the_same_answer_differ() {
        let seal = || seal(&keys("a").value, NAME, &EPOCH, TIME, b"plain".to_vec()).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn the_time_of_a_value_of_another_version_can_be_read() {
        let value = [&[9], &7_u64.to_be_bytes()[..], b"whatever follows"].concat();
        assert_eq!(asked_at(&value), Some(StoreTime::from_millis(7)));
        assert_eq!(asked_at(&value[..8]), None);
    }
}
