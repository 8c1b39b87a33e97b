//! [`PictureCache`]: images in memory, by fingerprint and size.
