//! [`News`]: the messages between replicas: `version ‖ kind ‖ sender ‖ tag ‖ the rest`.
//! A replica that returned says nothing more than that.
//!
//! News about a scope are sealed with a key of the scope, so that only a replica with the token can send and
//! read them. News about the turns of an instance are plain: a sender could change the turns in the store
//! just as well.

use std::time::Duration;

use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey};

use super::{
    keys::{InstanceTag, Tag},
    time::StoreTime,
};
use crate::domain::ChatId;

const VERSION: u8 = 1;
const REJECTED: u8 = 1;
const CHANGED: u8 = 2;
const TURNS: u8 = 3;
const RETURNED: u8 = 4;
/// Version, kind and sender.
const HEADER: usize = 10;
const NONCE: usize = 12;

/// The random name of a process. It skips its own messages.
pub type ProcessId = [u8; 8];

/// A message that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// The message that `sender` may have missed messages: it was without the store or without a subscription.
pub fn returned(sender: ProcessId) -> Sealed {
    Sealed([&[VERSION, RETURNED][..], &sender].concat())
}

/// News about a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeNews {
    /// Hypersender rejected the token.
    Rejected { at: StoreTime },
    /// The picture of a contact is another one or is gone.
    Changed { chat: ChatId, asked_at: StoreTime },
}

/// The turns of an instance are booked this far ahead, and paused for this long, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnNews {
    pub free_in: Duration,
    pub spare_in: Duration,
    pub pause: Duration,
    /// The number of changes of the record.
    pub changes: u64,
}

/// A message as it came in.
#[derive(Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// Of this process.
    Own,
    /// About a scope.
    Scope(ScopeMessage<'a>),
    /// About the turns of an instance.
    Turns(InstanceTag, TurnNews),
    /// The sender may have missed messages.
    Returned,
}

/// News about a scope that are still sealed.
#[derive(Debug, PartialEq, Eq)]
pub struct ScopeMessage<'a> {
    pub tag: Tag,
    kind: u8,
    /// Everything before the nonce.
    covered: &'a [u8],
    nonce: [u8; NONCE],
    ciphertext: &'a [u8],
}

impl ScopeNews {
    /// The message from `sender` about the scope `tag`. `None` when this machine has no random numbers.
    pub fn seal(&self, sender: ProcessId, tag: Tag, key: &RandomizedNonceKey) -> Option<Sealed> {
        let (kind, time, chat) = match self {
            Self::Rejected { at } => (REJECTED, at, ""),
            Self::Changed { chat, asked_at } => (CHANGED, asked_at, chat.as_str()),
        };
        let covered = [&[VERSION, kind][..], &sender, &tag].concat();
        let mut text = [&time.micros().to_be_bytes()[..], chat.as_bytes()].concat();
        let nonce = key.seal_in_place_append_tag(Aad::from(&covered), &mut text).ok()?;
        Some(Sealed([&covered, &nonce.as_ref()[..], &text].concat()))
    }
}

impl TurnNews {
    /// The message from `sender` about `instance`.
    pub fn encode(&self, sender: ProcessId, instance: InstanceTag) -> Sealed {
        let mut message = [&[VERSION, TURNS][..], &sender, &instance].concat();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let times = [self.free_in, self.spare_in, self.pause].map(micros);
        message.extend(times.into_iter().chain([self.changes]).flat_map(u64::to_be_bytes));
        Sealed(message)
    }
}

impl<'a> News<'a> {
    /// Reads a message. `own` is the name of this process. `None` when the message cannot be understood.
    pub fn read(message: &'a [u8], own: ProcessId) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let [version, kind, sender @ ..] = header;
        if *version != VERSION {
            return None;
        }
        if *sender == own {
            return Some(Self::Own);
        }
        if *kind == RETURNED {
            return rest.is_empty().then_some(Self::Returned);
        }
        if *kind == TURNS {
            let (instance, numbers) = rest.split_first_chunk()?;
            let ([free_in, spare_in, pause, changes], []) = numbers.as_chunks::<8>() else {
                return None;
            };
            let time = |bytes: &[u8; 8]| Duration::from_micros(u64::from_be_bytes(*bytes));
            let turns = TurnNews {
                free_in: time(free_in),
                spare_in: time(spare_in),
                pause: time(pause),
                changes: u64::from_be_bytes(*changes),
            };
            return Some(Self::Turns(*instance, turns));
        }
        let (tag, sealed) = rest.split_first_chunk()?;
        let (nonce, ciphertext) = sealed.split_first_chunk()?;
        let covered = &message[..HEADER + tag.len()];
        Some(Self::Scope(ScopeMessage { tag: *tag, kind: *kind, covered, nonce: *nonce, ciphertext }))
    }
}

impl ScopeMessage<'_> {
    /// Opens the message with the key of its scope. `None` when it cannot be read.
    pub fn open(&self, key: &RandomizedNonceKey) -> Option<ScopeNews> {
        let mut text = self.ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let plain: &[u8] = key.open_in_place(nonce, Aad::from(self.covered), &mut text).ok()?;
        let (time, chat) = plain.split_first_chunk()?;
        let time = StoreTime::from_micros(u64::from_be_bytes(*time));
        match self.kind {
            REJECTED => Some(ScopeNews::Rejected { at: time }),
            CHANGED => {
                let chat = ChatId::parse(std::str::from_utf8(chat).ok()?).ok()?;
                Some(ScopeNews::Changed { chat, asked_at: time })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{keys::ScopeKeys, seal::tests::unhex},
        *,
    };
    use crate::domain::Instance;

    const SENDER: ProcessId = *b"sender!!";
    const OTHER: ProcessId = *b"another.";
    const TIME: StoreTime = StoreTime::from_millis(1_764_000_000_000);

    fn keys(token: &str) -> ScopeKeys {
        ScopeKeys::derive(token, &Instance::parse("shop").unwrap())
    }

    fn changed() -> ScopeNews {
        ScopeNews::Changed { chat: ChatId::parse("15551230001").unwrap(), asked_at: TIME }
    }

    fn opened(message: &[u8], token: &str) -> Option<ScopeNews> {
        match News::read(message, OTHER)? {
            News::Scope(message) => message.open(&keys(token).news),
            News::Own | News::Turns(..) | News::Returned => None,
        }
    }

    /// The message was sealed with Python's cryptography. Replicas of all versions must be able to read it.
    #[test]
    fn the_layout_is_that_of_the_format() {
        let message = unhex(
            "010273656e6465722121d3bd77ada1f6c68b769a5b041c03b597000102030405060708090a0b53220cb8f229e937faae9e35\
             01f8ad6ee8a774a80536e0d7d526a942fd3d310bada34d",
        );
        assert_eq!(opened(&message, "example-token"), Some(changed()));
    }

    #[test]
    fn news_of_a_scope_open_with_its_key_and_unaltered_only() {
        let keys = keys("a");
        for news in [changed(), ScopeNews::Rejected { at: TIME }] {
            let Sealed(message) = news.seal(SENDER, keys.tag(), &keys.news).unwrap();
            assert_eq!(opened(&message, "a"), Some(news));
            assert_eq!(opened(&message, "b"), None);
            for index in 0..message.len() {
                let mut altered = message.clone();
                altered[index] ^= 1;
                assert_eq!(opened(&altered, "a"), None, "byte {index}");
                assert_eq!(opened(&message[..index], "a"), None, "cut after byte {index}");
            }
        }
    }

    #[test]
    fn nothing_of_the_contact_can_be_read_in_a_message() {
        let keys = keys("a");
        let Sealed(message) = changed().seal(SENDER, keys.tag(), &keys.news).unwrap();
        assert!(!message.windows(11).any(|part| part == b"15551230001"));
    }

    #[test]
    fn a_process_skips_its_own_messages() {
        let keys = keys("a");
        let Sealed(message) = changed().seal(SENDER, keys.tag(), &keys.news).unwrap();
        assert_eq!(News::read(&message, SENDER), Some(News::Own));
    }

    #[test]
    fn a_replica_that_returned_says_no_more_than_that() {
        let Sealed(message) = returned(SENDER);
        assert_eq!(News::read(&message, OTHER), Some(News::Returned));
        assert_eq!(News::read(&message, SENDER), Some(News::Own));
        assert_eq!(News::read(&[&message[..], b"\0"].concat(), OTHER), None);
    }

    #[test]
    fn turns_come_through_and_other_lengths_versions_and_kinds_do_not() {
        let seconds = Duration::from_secs;
        let turns = TurnNews { free_in: seconds(3), spare_in: seconds(2), pause: seconds(1), changes: 7 };
        let Sealed(message) = turns.encode(SENDER, [5; 8]);
        assert_eq!(News::read(&message, OTHER), Some(News::Turns([5; 8], turns)));
        for length in 0..message.len() {
            assert_eq!(News::read(&message[..length], OTHER), None, "{length}");
        }
        assert_eq!(News::read(&[&message[..], b"\0"].concat(), OTHER), None);
        let with = |index: usize, byte| {
            let mut other = message.clone();
            other[index] = byte;
            other
        };
        assert_eq!(News::read(&with(0, 2), OTHER), None);
        assert_eq!(opened(&with(1, 99), "a"), None);
    }
}
