//! Whether a JPEG is whole. Its decoder fills the part that a cut file lacks with grey, and so do browsers.
//!
//! Not here: files of other types, whose decoders report that something is missing.

use std::ops::RangeInclusive;

/// The second byte of a marker: a restart within a scan.
const RESTART: RangeInclusive<u8> = 0xD0..=0xD7;
/// The start of an image.
const START: u8 = 0xD8;
/// The end of an image.
const END: u8 = 0xD9;
/// A marker without a segment, which arithmetic coding uses.
const TEMPORARY: u8 = 0x01;

/// Whether a JPEG has its own end marker. That of another image within a segment, such as a preview, does not
/// count, because segments are skipped by their lengths.
pub fn is_whole(jpeg: &[u8]) -> bool {
    let mut rest = jpeg;
    while let Some(place) = rest.windows(2).position(begins_segment) {
        let marker = &rest[place + 1..];
        rest = match marker {
            [END, ..] => return true,
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                marker.get(1 + length..).unwrap_or_default()
            }
            _ => return false,
        };
    }
    false
}

/// Whether a segment or the end begins with these two bytes. In a scan, 0xFF is followed by zero or by the
/// number of a restart, and further bytes 0xFF before a marker mean nothing.
fn begins_segment(pair: &[u8]) -> bool {
    pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF | TEMPORARY | START) && !RESTART.contains(&pair[1])
}
