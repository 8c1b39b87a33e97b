//! [`Kind`]: the types of images that are kept. The first bytes of a file decide its type.

/// The type of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JPEG, the type of WhatsApp's pictures.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
}

impl Kind {
    /// All types.
    pub const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::Webp];
    /// The number of bytes that decide the type. No image is shorter.
    pub const BYTES_NEEDED: usize = 12;

    /// The type of the file that begins with `bytes`; `None` for every other file and for fewer than
    /// [`Self::BYTES_NEEDED`] bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first_chunk::<{ Self::BYTES_NEEDED }>()? {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => Some(Self::Webp),
            _ => None,
        }
    }

    /// The usual ending of a file of this type, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_by_the_first_bytes_alone() {
        for (bytes, kind) in [
            (&b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01"[..], Some(Kind::Jpeg)),
            (b"\xFF\xD8\xFF\xDB\0\x43\0\x01\x01\x01\x01\x01rest", Some(Kind::Jpeg)),
            (b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR", Some(Kind::Png)),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Some(Kind::Webp)),
            (b"RIFF\x24\0\0\0WAVEfmt ", None),
            (b"GIF89a\x01\0\x01\0\x80\0", None),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\">", None),
            (b"<!DOCTYPE html><script>", None),
            (b" \xFF\xD8\xFF\xE0\0\x10JFIF\0", None),
            (b"\xFF\xD8\xFF", None),
            (b"", None),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }
}
