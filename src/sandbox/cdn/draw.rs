//! Draws an image from the name of a file: a pattern of squares that is symmetric and fills the image.

use std::hash::{DefaultHasher, Hash, Hasher};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageResult, Rgb, RgbImage};

/// Width and height, those of the pictures that WhatsApp serves.
const SIDE: u32 = 640;
/// The number of squares in a row and in a column.
const SQUARES: u32 = 5;
/// The columns that differ. The others are their mirror image.
const COLUMNS: u32 = SQUARES.div_ceil(2);
/// The quality of the JPEG, of 100.
const QUALITY: u8 = 80;

/// The image of `file`, as a JPEG of 640 x 640. The same name always gives the same bytes.
///
/// # Errors
///
/// When the image cannot be encoded.
pub fn jpeg(file: &str) -> ImageResult<Vec<u8>> {
    let mut hasher = DefaultHasher::new();
    file.hash(&mut hasher);
    let bits = hasher.finish();
    let [red, green, blue, ..] = bits.to_be_bytes();
    // One colour is dark and the other is light, so that the pattern is visible.
    let (dark, light) =
        (Rgb([red, green, blue].map(|part| part / 2)), Rgb([red, green, blue].map(|part| 255 - part / 4)));
    let image = RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let (column, row) = (x * SQUARES / SIDE, y * SQUARES / SIDE);
        let square = row * COLUMNS + column.min(SQUARES - 1 - column);
        if bits >> square & 1 == 1 { dark } else { light }
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&image)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_the_size_of_a_profile_picture() {
        let bytes = jpeg("a").unwrap();
        let image = image::load_from_memory(&bytes).unwrap();
        assert_eq!((image.width(), image.height()), (640, 640));
        assert_eq!(bytes, jpeg("a").unwrap());
        assert_ne!(bytes, jpeg("b").unwrap());
    }
}
