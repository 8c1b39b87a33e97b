//! [`Content`]: the plaintext of a sealed address. Each content has exactly one form.

use std::str;

use crate::domain::{ChatId, Instance};

/// The length of a content is a multiple of this, so that an address does not show the length of the names.
const BLOCK_BYTES: usize = 32;
const END_BYTES: usize = size_of::<u64>();
/// The bytes of the longest content: an instance has at most 64 characters, a chat id 25.
pub const CONTENT_BYTES_MAX: usize = (END_BYTES + 1 + 64 + 1 + 25).next_multiple_of(BLOCK_BYTES);

/// The content of a sealed address.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The end of the address, in Unix seconds.
    pub end: u64,
    /// The instance that sees the contact.
    pub instance: &'a Instance,
    /// The contact.
    pub chat: &'a ChatId,
}

impl Content<'_> {
    /// Writes the content to the start of `bytes`, which are zeros and have room for [`CONTENT_BYTES_MAX`].
    /// Returns its length.
    pub fn write(self, bytes: &mut [u8]) -> usize {
        bytes[..END_BYTES].copy_from_slice(&self.end.to_be_bytes());
        let mut length = END_BYTES;
        for name in [self.instance.as_str(), self.chat.as_str()] {
            bytes[length] = u8::try_from(name.len()).expect("a name has at most 64 characters");
            bytes[length + 1..][..name.len()].copy_from_slice(name.as_bytes());
            length += 1 + name.len();
        }
        length.next_multiple_of(BLOCK_BYTES)
    }
}

/// Reads what [`Content::write`] has written: the end, the instance and the chat id. `None` for all other
/// bytes, also if they hold names in another form than the canonical one.
pub fn read(content: &[u8]) -> Option<(u64, Instance, ChatId)> {
    let (end, mut rest) = content.split_first_chunk::<END_BYTES>()?;
    let instance = Instance::parse(name(&mut rest)?).ok()?;
    let chat = ChatId::parse(name(&mut rest)?).ok()?;
    let written = Content { end: u64::from_be_bytes(*end), instance: &instance, chat: &chat };
    let mut canonical = [0; CONTENT_BYTES_MAX];
    let length = written.write(&mut canonical);
    (canonical[..length] == *content).then_some((written.end, instance, chat))
}

/// Takes the next name from `bytes`.
fn name<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    *bytes = rest;
    str::from_utf8(name).ok()
}
