//! Images of every form, and files that are made to do harm.

use ::image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgb, codecs::png::PngEncoder};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::time::Instant;

use super::*;

/// 16 x 8 pixels, red on the left and blue on the right, in the colours of printers.
pub(super) const CMYK: &str = "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwANCQoLCggNCwoLDg4NDxMgFRMSEhMnHB4XIC4pMTAuKS0sMzpKPjM2RjcsLU\
    BXQUZMTlJTUjI+WmFaUGBKUVJP/8AAFAgACAAQBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAcACP/E\
    ABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZAEsAAD8AThgMCczEmnU//9k=";
/// The same in several scans.
pub(super) const PROGRESSIVE: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNy\
    wtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09P\
    T09PT09PT09PT09PT09PT09PT09PT0//wgARCAAIABADASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAAQF/8\
    QAFAEBAAAAAAAAAAAAAAAAAAAABP/aAAwDAQACEAMQAAABz4Bj/wD/xAAUEAEAAAAAAAAAAAAAAAAAAAAQ/9oACAEB\
    AAEFAj//xAAXEQADAQAAAAAAAAAAAAAAAAAABUKB/9oACAEDAQE/AWc6f//EABgRAAIDAAAAAAAAAAAAAAAAAAAFQo\
    HB/9oACAECAQE/AVM60//EABQQAQAAAAAAAAAAAAAAAAAAABD/2gAIAQEABj8CP//EABQQAQAAAAAAAAAAAAAAAAAA\
    ABD/2gAIAQEAAT8hP//aAAwDAQACAAMAAAAQc//EABYRAAMAAAAAAAAAAAAAAAAAAACB8P/aAAgBAwEBPxCSP//EAB\
    QRAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQIBAT8QB//EABQQAQAAAAAAAAAAAAAAAAAAABD/2gAIAQEAAT8QP//Z";
/// The same in grey.
pub(super) const GREY: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNy\
    wtQFdBRkxOUlNSMj5aYVpQYEpRUk//wAALCAAIABABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAABQb/xAAUEAEAAAAA\
    AAAAAAAAAAAAAAAA/9oACAEBAAA/AJ8E/9k=";
/// The same, and EXIF says that the viewer must turn it clockwise by a quarter.
pub(super) const TURNED: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAD/2wBDAA0JCgsKCA\
    0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMR\
    EyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAIAB\
    ADASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAAUG/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/EABQBAQAAAAAA\
    AAAAAAAAAAAAAAX/xAAZEQACAwEAAAAAAAAAAAAAAAAABkOCwcL/2gAMAwEAAhEDEQA/AM+hAYU5q9DzNFbD/9k=";
/// The same as WebP.
pub(super) const LOSSY_WEBP: &str = "UklGRj4AAABXRUJQVlA4IDIAAACQAQCdASoQAAgAAoBCJaACdLoAA5gA/vJ///rVf/+Fa/7sF2B/6rP/vYEh/72A9w\
    AAAA==";
/// 16 x 8 pixels that are red and fully transparent.
pub(super) const CLEAR_WEBP: &str = "UklGRhoAAABXRUJQVlA4TA4AAAAvD8ABEAcQ/Y8IRET/Aw==";
/// A green frame of 16 x 8 pixels, and then a pink one.
pub(super) const ANIMATED_WEBP: &str = "UklGRoQAAABXRUJQVlA4WAoAAAACAAAADwAABwAAQU5JTQYAAAAAAAAAAABBTk1GKAAAAAAAAAAAAA8AAAcAAGQAAA\
    JWUDhMDwAAAC8PwAEAB9D/iP4HIqL/AQBBTk1GKAAAAAAAAAAAAA8AAAcAAGQAAABWUDhMEAAAAC8PwAEABxD973//\
    AxHR/wA=";
/// The same as PNG.
pub(super) const ANIMATED_PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAICAIAAAB/FOjAAAAACGFjVEwAAAACAAAAAPONk3AAAAAaZmNUTAAAAAAAAA\
    AQAAAACAAAAAAAAAAAAAEACgAA6K2c7QAAABVJREFUeJxjZPjPQBJgIk35qAbiAACSUQEPODtb7wAAABpmY1RMAAAA\
    AQAAABAAAAAIAAAAAAAAAAAAAQAKAABz3nY5AAAAGmZkQVQAAAACeJxj/M/wn4EUwESS6lENRAIAFukCDg+N2TEAAA\
    AASUVORK5CYII=";

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const WHITE: [u8; 3] = [255, 255, 255];

fn read(text: &str) -> Image {
    file(BASE64_STANDARD.decode(text).unwrap())
}

fn file(bytes: Vec<u8>) -> Image {
    Image { kind: Kind::of(&bytes).unwrap(), bytes }
}

/// A file of a plain colour.
pub(super) fn plain(width: u32, height: u32, format: ImageFormat) -> Image {
    let mut bytes = Vec::new();
    let pixels = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb(RED)));
    pixels.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    file(bytes)
}

pub(super) fn png(pixels: &[u8], width: u32, height: u32, colours: ExtendedColorType) -> Image {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes).write_image(pixels, width, height, colours).unwrap();
    file(bytes)
}

/// The pixels of what `resize` makes, which is always a JPEG.
fn shown(image: &Image, size: Size) -> RgbImage {
    let bytes = resize(image, size).unwrap();
    ::image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).unwrap().into_rgb8()
}

fn check_colour(found: Rgb<u8>, expected: [u8; 3], of: &str) {
    let far = found.0.iter().zip(expected).any(|(found, expected)| found.abs_diff(expected) > 40);
    assert!(!far, "{of}: {found:?} instead of {expected:?}");
}

#[test]
fn a_request_gets_the_next_size() {
    for (pixels, size) in [
        (0, None),
        (15, None),
        (16, Some(Size::S48)),
        (48, Some(Size::S48)),
        (49, Some(Size::S96)),
        (96, Some(Size::S96)),
        (97, Some(Size::S192)),
        (193, Some(Size::S640)),
        (640, Some(Size::S640)),
        (641, None),
        (u16::MAX, None),
    ] {
        assert_eq!(Size::covering(pixels), size, "{pixels}");
    }
}

#[test]
fn the_longer_side_gets_the_size_and_nothing_is_enlarged() {
    for ((width, height), size, expected) in [
        ((640, 640), Size::S96, (96, 96)),
        ((640, 320), Size::S96, (96, 48)),
        ((333, 1000), Size::S96, (32, 96)),
        ((2048, 1), Size::S48, (48, 1)),
        ((1, 2048), Size::S640, (1, 640)),
        ((640, 640), Size::S640, (640, 640)),
        ((100, 50), Size::S640, (100, 50)),
        ((1, 1), Size::S48, (1, 1)),
        ((2048, 2048), Size::S192, (192, 192)),
    ] {
        let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP];
        // The encoder of WebP is slow.
        let formats = if width * height > 500_000 { &formats[..1] } else { &formats[..] };
        for &format in formats {
            let image = plain(width, height, format);
            let shown = shown(&image, size);
            assert_eq!(shown.dimensions(), expected, "{width} x {height} {format:?}");
            check_colour(*shown.get_pixel(0, 0), RED, "plain");
        }
    }
}

#[test]
fn every_form_of_the_three_types_is_read() {
    for (name, text, left, right) in [
        ("CMYK", CMYK, RED, BLUE),
        ("progressive", PROGRESSIVE, RED, BLUE),
        ("grey", GREY, [76; 3], [29; 3]),
        ("lossy WebP", LOSSY_WEBP, RED, BLUE),
        ("transparent WebP", CLEAR_WEBP, WHITE, WHITE),
        ("animated WebP", ANIMATED_WEBP, GREEN, GREEN),
        ("animated PNG", ANIMATED_PNG, GREEN, GREEN),
    ] {
        let shown = shown(&read(text), Size::S48);
        assert_eq!(shown.dimensions(), (16, 8), "{name}");
        check_colour(*shown.get_pixel(2, 4), left, name);
        check_colour(*shown.get_pixel(13, 4), right, name);
    }
}

#[test]
fn an_image_is_turned_as_its_file_says() {
    let shown = shown(&read(TURNED), Size::S48);
    assert_eq!(shown.dimensions(), (8, 16));
    check_colour(*shown.get_pixel(4, 2), RED, "top");
    check_colour(*shown.get_pixel(4, 13), BLUE, "bottom");
}

#[test]
fn transparent_parts_are_white_in_every_depth() {
    let half = [RED[0], RED[1], RED[2], 128].repeat(64);
    check_colour(
        *shown(&png(&half, 8, 8, ExtendedColorType::Rgba8), Size::S48).get_pixel(4, 4),
        [255, 127, 127],
        "half",
    );
    let deep: Vec<u8> =
        [0xFFFF_u16, 0, 0, 0].repeat(64).iter().flat_map(|value| value.to_ne_bytes()).collect();
    check_colour(
        *shown(&png(&deep, 8, 8, ExtendedColorType::Rgba16), Size::S48).get_pixel(4, 4),
        WHITE,
        "16 bits",
    );
    let grey: Vec<u8> = [0x8000_u16].repeat(64).iter().flat_map(|value| value.to_ne_bytes()).collect();
    check_colour(
        *shown(&png(&grey, 8, 8, ExtendedColorType::L16), Size::S48).get_pixel(4, 4),
        [128; 3],
        "grey",
    );
    let clear = [0, 0].repeat(64);
    check_colour(
        *shown(&png(&clear, 8, 8, ExtendedColorType::La8), Size::S48).get_pixel(4, 4),
        WHITE,
        "grey, clear",
    );
}

#[test]
fn the_same_file_gives_the_same_bytes() {
    let image = plain(640, 480, ImageFormat::Jpeg);
    for size in Size::ALL {
        assert_eq!(resize(&image, size), resize(&image, size));
    }
}

/// The check sum of a chunk of PNG.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    })
}

/// The beginning of a PNG that says it has so many pixels.
fn png_of(width: u32, height: u32) -> Image {
    let header = [&b"IHDR"[..], &width.to_be_bytes(), &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    let check = crc(&header).to_be_bytes();
    let data = b"\0\0\0\0IDAT\x35\xAF\x06\x1E\0\0\0\0IEND\xAE\x42\x60\x82";
    file([&b"\x89PNG\r\n\x1A\n\0\0\0\x0D"[..], &header, &check, data].concat())
}

fn webp_of(width: u32, height: u32) -> Image {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let chunk = [&b"VP8X\x0A\0\0\0\0\0\0\0"[..], &side(width), &side(height), b"VP8L\0\0\0\0"].concat();
    let length = u32::try_from(chunk.len() + 4).unwrap().to_le_bytes();
    file([&b"RIFF"[..], &length, b"WEBP", &chunk].concat())
}

fn jpeg_of(width: u16, height: u16) -> Image {
    let mut image = read(GREY);
    let frame = image.bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    image.bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    image.bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    image
}

#[test]
fn a_file_with_too_many_pixels_is_refused_before_it_is_decoded() {
    let start = Instant::now();
    for _ in 0..100 {
        for image in [
            png_of(60_000, 60_000),
            png_of(2049, 1),
            png_of(u32::MAX / 2, u32::MAX / 2),
            webp_of(60_000, 60_000),
            webp_of(1, 2049),
            webp_of(1 << 24, 1 << 8),
            jpeg_of(60_000, 60_000),
            jpeg_of(1, 2049),
            jpeg_of(u16::MAX, u16::MAX),
        ] {
            let refused = resize(&image, Size::S48).unwrap_err();
            let is_webp_too_large_for_its_format =
                image.kind == Kind::Webp && refused == Undecodable::Invalid;
            assert!(
                refused == Undecodable::TooManyPixels || is_webp_too_large_for_its_format,
                "{:?}",
                image.kind
            );
        }
    }
    // 900 files of which each would be gigabytes.
    assert!(start.elapsed().as_secs() < 30);
}

#[test]
fn a_damaged_file_is_refused() {
    let whole = plain(64, 64, ImageFormat::Jpeg).bytes;
    let half = |image: Image| file(image.bytes[..image.bytes.len() / 2].to_vec());
    for (name, image) in [
        ("half a JPEG", file(whole[..whole.len() / 2].to_vec())),
        ("half a PNG", half(plain(64, 64, ImageFormat::Png))),
        ("half a WebP", half(read(LOSSY_WEBP))),
        ("only the first bytes of a JPEG", file(b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\xFF\xD9".to_vec())),
        ("only the first bytes of a PNG", file(b"\x89PNG\r\n\x1A\n\0\0\0\x0D".to_vec())),
        ("only the first bytes of a WebP", file(b"RIFF\x04\0\0\0WEBP".to_vec())),
        ("a JPEG without pixels", jpeg_of(0, 0)),
        ("a PNG without pixels", png_of(0, 0)),
    ] {
        assert_eq!(resize(&image, Size::S96), Err(Undecodable::Invalid), "{name}");
    }
}

/// A file with many details, so that each of its bytes counts.
pub(super) fn detailed(format: ImageFormat) -> Image {
    let pixels = RgbImage::from_fn(40, 40, |x, y| {
        let noise = (x * 7919 + y * 104_729 + x * y * 31) % 251;
        Rgb([noise, (noise * 3 + x) % 256, (noise * 7 + y) % 256].map(|value| u8::try_from(value).unwrap()))
    });
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(pixels).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    file(bytes)
}

#[test]
fn a_file_that_was_cut_is_refused() {
    const PREVIEW: &[u8] = b"\xFF\xE1\0\x0AExif\xFF\xD8\xFF\xD9";
    const COMMENT: &[u8] = b"\xFF\xFE\0\x04\xFF\xD9";
    let jpeg = detailed(ImageFormat::Jpeg).bytes;
    let with = |segment: &[u8]| file([&jpeg[..2], segment, &jpeg[2..]].concat());
    for (name, image) in [
        ("JPEG with a preview", with(PREVIEW)),
        ("JPEG with a comment", with(COMMENT)),
        ("JPEG", file(jpeg.clone())),
        ("progressive JPEG", read(PROGRESSIVE)),
        ("grey JPEG", read(GREY)),
        ("CMYK JPEG", read(CMYK)),
        ("PNG", detailed(ImageFormat::Png)),
        ("WebP", detailed(ImageFormat::WebP)),
        ("lossy WebP", read(LOSSY_WEBP)),
    ] {
        let whole = resize(&image, Size::S48);
        assert!(whole.is_ok(), "{name}");
        let mut refused = 0;
        for length in Kind::BYTES_NEEDED..image.bytes.len() {
            let made = resize(&Image { kind: image.kind, bytes: image.bytes[..length].to_vec() }, Size::S48);
            refused += usize::from(made == Err(Undecodable::Invalid));
            // The last bytes of PNG and WebP may hold no pixels.
            let is_all_there = image.kind != Kind::Jpeg && made == whole;
            assert!(made == Err(Undecodable::Invalid) || is_all_there, "{name}, {length} bytes");
        }
        let accepted = image.bytes.len() - Kind::BYTES_NEEDED - refused;
        assert!(accepted < 16, "{name}, {accepted} cuts were accepted");
    }
}

#[test]
fn nothing_of_the_file_but_its_pixels_is_served() {
    const SCRIPT: &[u8] = b"<script>alert(document.domain)</script>";
    let comment = [&b"\xFF\xFE\0\x29"[..], SCRIPT].concat();
    let jpeg = plain(16, 16, ImageFormat::Jpeg).bytes;
    let with_comment = [&jpeg[..2], &comment, &jpeg[2..]].concat();
    let png = plain(16, 16, ImageFormat::Png).bytes;
    for (name, bytes) in [
        ("HTML in a comment of a JPEG", with_comment),
        ("HTML behind a JPEG", [&jpeg[..], SCRIPT].concat()),
        ("an archive behind a JPEG", [&jpeg[..], b"PK\x03\x04", SCRIPT].concat()),
        ("an archive behind a PNG", [&png[..], b"PK\x03\x04", SCRIPT].concat()),
        ("a GIF behind a PNG", [&png[..], b"GIF89a", SCRIPT].concat()),
    ] {
        let served = resize(&file(bytes), Size::S48).unwrap();
        assert!(served.starts_with(b"\xFF\xD8\xFF") && served.ends_with(b"\xFF\xD9"), "{name}");
        for part in [SCRIPT, b"PK\x03\x04", b"GIF89a", b"Exif"] {
            assert!(!served.windows(part.len()).any(|window| window == part), "{name}");
        }
    }
    let served = resize(&read(TURNED), Size::S48).unwrap();
    assert!(!served.windows(4).any(|window| window == b"Exif"));
}
