//! Random files: one that is accepted becomes a JPEG of the size that was asked for, with nothing but pixels.

mod seeds;

use std::io::Cursor;

use ::image::{ImageFormat, ImageReader};

use super::{tests::crc, *};
use crate::avatars::fuzz::{Corpus, Random, run};

/// Maximum number of bytes of a file: that of a download.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Parts of the three types: markers of JPEG, and names of chunks.
const WORDS: [&[u8]; 38] = [
    b"\xFF\xC0",
    b"\xFF\xC1",
    b"\xFF\xC2",
    b"\xFF\xC3",
    b"\xFF\xC4",
    b"\xFF\xC9",
    b"\xFF\xD0",
    b"\xFF\xD7",
    b"\xFF\xD8",
    b"\xFF\xD9",
    b"\xFF\xDA",
    b"\xFF\xDB",
    b"\xFF\xDC",
    b"\xFF\xDD",
    b"\xFF\xE0",
    b"\xFF\xE1",
    b"\xFF\xE2\0\x10ICC_PROFILE\0\x01\x01",
    b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0\x02",
    b"\xFF\xFE",
    b"Exif\0\0",
    b"MM\0\x2A",
    b"\0\0\0\rIHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"iCCP",
    b"zTXt",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"eXIf",
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
    b"ANMF",
];

/// Makes the lengths and check sums true again that decoders look at first, so that the alterations reach the
/// code behind.
fn repair(file: &mut Vec<u8>, random: &mut Random) {
    match Kind::of(file) {
        Some(Kind::Jpeg) => {
            if random.one_in(8) {
                repeat_a_scan(file, random);
            }
            if !file.ends_with(&[0xFF, 0xD9]) {
                file.extend([0xFF, 0xD9]);
            }
        }
        Some(Kind::Png) => repair_chunks(file),
        Some(Kind::Webp) => {
            let length = u32::try_from(file.len() - 8).unwrap();
            file[4..8].copy_from_slice(&length.to_le_bytes());
        }
        None => {}
    }
}

/// Repeats one of the scans of a JPEG up to the length of a file.
fn repeat_a_scan(file: &mut Vec<u8>, random: &mut Random) {
    let starts = |from: usize| file[from..].windows(2).position(|pair| pair == [0xFF, 0xDA]);
    let Some(start) = starts(random.below(file.len())) else { return };
    let end = starts(start + 2).map_or(file.len() - 2, |length| start + 2 + length);
    if start < end {
        let copies = random.below(200).min(FILE_BYTES_MAX / (end - start));
        let scans = file[start..end].repeat(copies);
        drop(file.splice(end..end, scans));
    }
}

/// Gives every chunk of a PNG its check sum, as far as the lengths of the chunks lead.
fn repair_chunks(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = usize::try_from(u32::from_be_bytes(*length)).unwrap().saturating_add(at + 8);
        let Some(chunk) = file.get(at + 4..end) else { return };
        let check = crc(chunk).to_be_bytes();
        let Some(place) = file.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&check);
        at = end + 4;
    }
}

/// A file of small or, seldom, of many pixels.
fn draw([small, large]: &[Corpus; 2], random: &mut Random) -> Image {
    let corpus = if random.one_in(256) { large } else { small };
    let mut bytes = corpus.draw(random);
    if !random.one_in(4) {
        repair(&mut bytes, random);
        bytes.truncate(FILE_BYTES_MAX);
    }
    // A file of no type reaches the decoders, too, as one of any type.
    let kind = Kind::of(&bytes).unwrap_or(*random.pick(&Kind::ALL));
    Image { kind, bytes }
}

/// Whether the file is accepted. Its image then has every property of one that is served.
fn is_accepted(image: &Image, size: Size) -> bool {
    let Ok(made) = resize(image, size) else { return false };
    assert_eq!(resize(image, size).as_ref(), Ok(&made), "the same file gives the same bytes");
    let segments = segments(&made);
    assert!(segments.iter().all(|marker| [0xE0, 0xDB, 0xC0, 0xC4, 0xDA].contains(marker)), "{segments:x?}");
    let shown = ::image::load_from_memory_with_format(&made, ImageFormat::Jpeg).unwrap();
    let (width, height) = dimensions(image);
    let longest = width.max(height);
    assert!(longest <= SIDE_MAX);
    assert_eq!(shown.width().max(shown.height()), longest.min(size.pixels()), "{width} x {height}");
    true
}

/// The dimensions that the file names.
fn dimensions(image: &Image) -> (u32, u32) {
    let format = match image.kind {
        Kind::Jpeg => ImageFormat::Jpeg,
        Kind::Png => ImageFormat::Png,
        Kind::Webp => ImageFormat::WebP,
    };
    ImageReader::with_format(Cursor::new(&*image.bytes), format).into_dimensions().unwrap()
}

/// The markers of the segments between the start and the end of a JPEG, which has nothing behind its end.
fn segments(jpeg: &[u8]) -> Vec<u8> {
    assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]));
    let (mut markers, mut rest) = (Vec::new(), &jpeg[2..]);
    while let [0xFF, marker, high, low, ..] = *rest {
        markers.push(marker);
        rest = &rest[2 + usize::from(u16::from_be_bytes([high, low]))..];
        if marker == 0xDA {
            let is_marker = |pair: &[u8]| pair[0] == 0xFF && pair[1] != 0;
            rest = &rest[rest.windows(2).position(is_marker).unwrap()..];
        }
    }
    assert_eq!(rest, [0xFF, 0xD9]);
    markers
}

#[test]
#[ignore = "`make fuzz` runs it"]
fn an_accepted_file_becomes_a_jpeg_of_the_size_without_anything_else() {
    let corpora = [seeds::small(), seeds::large()].map(|valid| Corpus {
        valid,
        words: &WORDS,
        bytes_max: FILE_BYTES_MAX,
    });
    for image in corpora.iter().flat_map(|corpus| &corpus.valid) {
        assert!(Kind::of(image).is_some());
    }
    run("images", |random| {
        let image = draw(&corpora, random);
        is_accepted(&image, *random.pick(&Size::ALL))
    });
}
