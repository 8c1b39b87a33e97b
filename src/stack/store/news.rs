//! [`News`]: the messages between replicas: `version ‖ kind ‖ sender ‖ tag ‖ the rest`.
//!
//! News about a scope are sealed with a key of the scope, so that only a replica with the token can send and
//! read them. News about the turns of an instance are plain: a sender could change the turns in the store just
//! as well.

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
/// Version, kind and sender.
const HEADER: usize = 10;
const NONCE: usize = 12;

/// The random name of a process. It skips its own messages.
pub type ProcessId = [u8; 8];

/// A message that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

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
