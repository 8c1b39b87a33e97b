//! Random files: the type is the one that the decoders find, too, and depends on the first bytes alone.

use image::{ImageFormat, guess_format};

use super::Kind;
use crate::avatars::fuzz::{Corpus, run};

#[test]
#[ignore = "`make fuzz` runs it"]
fn the_type_of_any_file_is_the_one_that_its_decoder_finds() {
    let corpus = Corpus {
        valid: [
            &b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01"[..],
            b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR",
            b"RIFF\x24\0\0\0WEBPVP8 ",
            b"GIF89a\x01\0\x01\0\x80\0",
            b"<svg xmlns=\"http://www.w3.org/2000/svg\">",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
        words: &[b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1A\n", b"RIFF", b"WEBP", b"WAVE", b"GIF89a", b"<html>"],
        bytes_max: 64,
    };
    run("the first bytes of a file", |random| {
        let bytes = corpus.draw(random);
        let kind = Kind::of(&bytes);
        let first = &bytes[..bytes.len().min(Kind::BYTES_NEEDED)];
        assert_eq!(Kind::of(first), kind, "the bytes after the first ones change it: {bytes:x?}");
        let guessed = match guess_format(first).ok() {
            _ if first.len() < Kind::BYTES_NEEDED => None,
            Some(ImageFormat::Jpeg) => Some(Kind::Jpeg),
            Some(ImageFormat::Png) => Some(Kind::Png),
            Some(ImageFormat::WebP) => Some(Kind::Webp),
            _ => None,
        };
        assert_eq!(kind, guessed, "{bytes:x?}");
        kind.is_some()
    });
}
