//! [`Size`], and [`resize`]: decodes a downloaded image, and encodes it as a JPEG of a size.
//!
//! The file comes from outside, so its dimensions are checked before anything is decoded, and everything is
//! encoded again: nothing of the file itself, such as a comment or a second format behind the first, reaches
//! a browser. A file that was cut is an error, whatever its type is.

mod whole;

use std::io::Cursor;

use ::image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    codecs::jpeg::JpegEncoder, metadata::Orientation,
};
use bytes::Bytes;
use fast_image_resize::{PixelType, Resizer, images::Image as Pixels};
use thiserror::Error;

use self::whole::is_whole;
use super::fetch::{Image, Kind};

/// The version of the encoding. It is part of each entity tag: raise it when the bytes of an image change.
pub const ENCODER_VERSION: u32 = 1;

/// Maximum width and height of an image, in pixels. WhatsApp's have 640.
const SIDE_MAX: u32 = 2048;
/// Maximum memory for a decoded image, in bytes: 2048 x 2048 pixels of four channels of 16 bits.
const DECODED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The quality of JPEG, of 100. Small images show no difference to a higher one.
const QUALITY: u8 = 80;

/// The sizes of images, in pixels of the longer side. An image is never enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// 48 px.
    S48,
    /// 96 px.
    S96,
    /// 192 px.
    S192,
    /// 640 px.
    S640,
}

impl Size {
    /// All sizes, the smallest first.
    pub const ALL: [Self; 4] = [Self::S48, Self::S96, Self::S192, Self::S640];
    /// The fewest pixels that a request may ask for.
    pub const PIXELS_MIN: u16 = 16;
    /// The most pixels that a request may ask for.
    pub const PIXELS_MAX: u16 = 640;

    /// The number of pixels.
    #[must_use]
    pub fn pixels(self) -> u32 {
        match self {
            Self::S48 => 48,
            Self::S96 => 96,
            Self::S192 => 192,
            Self::S640 => 640,
        }
    }

    /// The smallest size with at least so many pixels; `None` for a number outside of [`Self::PIXELS_MIN`] to
    /// [`Self::PIXELS_MAX`].
    #[must_use]
    pub fn covering(pixels: u16) -> Option<Self> {
        if pixels < Self::PIXELS_MIN {
            return None;
        }
        Self::ALL.into_iter().find(|size| size.pixels() >= u32::from(pixels))
    }
}

/// Why a downloaded image cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Undecodable {
    /// It has more than 2048 x 2048 pixels, or needs more than 32 MiB.
    #[error("the image has too many pixels")]
    TooManyPixels,
    /// It is not a valid image of its type.
    #[error("the image cannot be decoded")]
    Invalid,
}

/// Decodes `image`, reduces it to `size`, and encodes it as a JPEG without metadata. It takes milliseconds,
/// so it must run on a thread for blocking work.
///
/// The orientation of the file is applied, transparent parts become white, an animation is reduced to its
/// first frame, and a colour profile is ignored. The same file gives the same bytes.
///
/// # Errors
///
/// See [`Undecodable`].
pub fn resize(image: &Image, size: Size) -> Result<Bytes, Undecodable> {
    let (decoded, orientation) = decoded(image)?;
    let mut reduced = DynamicImage::ImageRgb8(reduced(flat(decoded), size)?);
    reduced.apply_orientation(orientation);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(reduced.as_bytes(), reduced.width(), reduced.height(), ExtendedColorType::Rgb8)
        .map_err(|_| Undecodable::Invalid)?;
    // A copy, without the spare capacity, which would stay in memory as long as the image. To shrink the
    // buffer is not enough: the allocator leaves it in its place unless more than half of it is spare.
    Ok(Bytes::copy_from_slice(&bytes))
}

/// The pixels of the file, and how they must be turned.
fn decoded(image: &Image) -> Result<(DynamicImage, Orientation), Undecodable> {
    let format = match image.kind {
        Kind::Jpeg => ImageFormat::Jpeg,
        Kind::Png => ImageFormat::Png,
        Kind::Webp => ImageFormat::WebP,
    };
    if image.kind == Kind::Jpeg && !is_whole(&image.bytes) {
        return Err(Undecodable::Invalid);
    }
    let mut reader = ImageReader::with_format(Cursor::new(image.bytes.as_slice()), format);
    reader.limits(limits());
    let mut source = reader.into_decoder().map_err(|error| reason(&error))?;
    if source.total_bytes() > DECODED_BYTES_MAX {
        return Err(Undecodable::TooManyPixels);
    }
    let orientation = source.orientation().unwrap_or(Orientation::NoTransforms);
    let decoded = DynamicImage::from_decoder(source).map_err(|error| reason(&error))?;
    Ok((decoded, orientation))
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    limits
}

fn reason(error: &ImageError) -> Undecodable {
    match error {
        ImageError::Limits(_) => Undecodable::TooManyPixels,
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Unsupported(_)
        | ImageError::IoError(_) => Undecodable::Invalid,
    }
}

/// The image without transparency, on white.
fn flat(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let pixels = image.into_rgba8();
    let mut flat = RgbImage::new(pixels.width(), pixels.height());
    for (to, from) in flat.pixels_mut().zip(pixels.pixels()) {
        let [red, green, blue, alpha] = from.0;
        to.0 = [red, green, blue].map(|channel| on_white(channel, alpha));
    }
    flat
}

fn on_white(channel: u8, alpha: u8) -> u8 {
    let (channel, alpha) = (u16::from(channel), u16::from(alpha));
    let mixed = (channel * alpha + 255 * (255 - alpha) + 127) / 255;
    u8::try_from(mixed).unwrap_or(u8::MAX)
}

fn reduced(image: RgbImage, size: Size) -> Result<RgbImage, Undecodable> {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= size.pixels() {
        return Ok(image);
    }
    let scaled = |side: u32| ((side * size.pixels() + longest / 2) / longest).max(1);
    let (to_width, to_height) = (scaled(width), scaled(height));
    let from = Pixels::from_vec_u8(width, height, image.into_raw(), PixelType::U8x3);
    let mut to = Pixels::new(to_width, to_height, PixelType::U8x3);
    let resized = Resizer::new().resize(&from.map_err(|_| Undecodable::Invalid)?, &mut to, None);
    resized.map_err(|_| Undecodable::Invalid)?;
    RgbImage::from_raw(to_width, to_height, to.into_vec()).ok_or(Undecodable::Invalid)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
