//! [`Messages`]: counts the messages in one direction of a call, by their prefixes. A frame of data may have
//! several messages, or a part of one.

use crate::grpc::PREFIX_BYTES;

/// The position in the messages of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages {
    /// The bytes of the prefix that have passed.
    prefix_bytes: usize,
    /// The bytes of the message that have not passed; before the end of the prefix, its length so far.
    left: u32,
}

impl Messages {
    /// Passes over `data`. Returns how many messages end in it.
    pub fn pass(&mut self, mut data: &[u8]) -> u64 {
        let mut ended = 0;
        while let Some((&first, rest)) = data.split_first() {
            if self.prefix_bytes == 0
                && let Some((prefix, rest)) = data.split_first_chunk::<PREFIX_BYTES>()
            {
                // The usual case: the whole prefix is there. Its first byte says whether the message is
                // compressed.
                let [_, length @ ..] = *prefix;
                (self.prefix_bytes, self.left, data) = (PREFIX_BYTES, u32::from_be_bytes(length), rest);
            } else if self.prefix_bytes < PREFIX_BYTES {
                self.left = if self.prefix_bytes == 0 { 0 } else { self.left << 8 | u32::from(first) };
                (self.prefix_bytes, data) = (self.prefix_bytes + 1, rest);
            }
            if self.prefix_bytes == PREFIX_BYTES {
                let passed = data.len().min(self.left as usize);
                data = &data[passed..];
                // It fits, because it is at most the old value.
                self.left -= u32::try_from(passed).unwrap_or(self.left);
                if self.left == 0 {
                    (self.prefix_bytes, ended) = (0, ended + 1);
                }
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut_into_frames() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![1; length.into()]].concat();
        let large = [&[0, 0, 1, 0, 0][..], &vec![1; 1 << 16]].concat();
        let all = [message(0), message(5), large, message(1), message(0), message(0)].concat();
        for size in [1, 2, 3, 5, 7, 16, 1_000, all.len()] {
            let mut messages = Messages::default();
            let counts: Vec<_> = all.chunks(size).map(|frame| messages.pass(frame)).collect();
            assert_eq!(counts.iter().sum::<u64>(), 6, "frames of {size}");
            // The last two messages are nothing but their prefixes.
            assert_eq!(messages.pass(&[0, 0, 0, 0]), 0);
            assert_eq!(messages.pass(&[0]), 1);
        }
        let mut messages = Messages::default();
        assert_eq!(messages.pass(&all[..all.len() - 1]), 5, "a message counts when it has ended");
    }
}
