//! Valid files of every form, from which the inputs are made. Pillow made those that are constants.

use ::image::{DynamicImage, ExtendedColorType, ImageFormat};
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::avatars::image::tests::{
    ANIMATED_PNG, ANIMATED_WEBP, CLEAR_WEBP, CMYK, GREY, LOSSY_WEBP, PROGRESSIVE, TURNED, detailed, plain,
    png,
};

/// 40 x 24 pixels, colours in half the resolution, and restarts within the scan.
const SUBSAMPLED_JPEG: &str = "\
    /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWG\
    kJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk\
    pKSkpKSkpKSkpKSkpKT/wAARCAAYACgDASIAAhEBAxEB/8QAGAABAQEBAQAAAAAAAAAAAAAAAAIBAwT/xAAoEAACAgECBQQC\
    AwAAAAAAAAABAgMRABIhBBNBUWExcYGhIuGRwdH/xAAYAQEAAwEAAAAAAAAAAAAAAAACAAEDBP/EACURAQABAwIEBwAAAAAA\
    AAAAAAEAAhEhAxIiMYGhQWGxwdHw8f/dAAQAAv/aAAwDAQACEQMRAD8A8vCwQpwepowzMvU+nS/1nbkoIiBAoJOwKihVXt+z\
    WaqnlwIZRsoatgQK2N13LDxftlKlzFBISAAaI2PW/atvoeLXP5FUuTpI4mOOUcOgiSOtRkpe1dvnKkhjtV5SIFA3I3F9+np0\
    o5QXmzlhrbSpoHY0CBXzX3iNgzNJRaM23k9dh8fH8ETc2++xJdceF/Sf/9CuHSNuK/JYmS9O6Lant598ZMVpCGWPewB1PruQ\
    fH9nGDUK14V7zOvV2ZTnIhkM1NyNAjAXWZaqtu22XExJd5OWNRsB2IFjtQo9MYzpq0yzNXFWPNn/0eac0WAVSRRpAFGrH+HL\
    tREdUiaSbpLAJ+x2xjDVWiHzLtc6HeazRo0UZRixFqWIND0oVtjGMGEG0O0qbs//2Q==";
/// 20 x 20 pixels, colours in half the resolution, in several scans.
const SUBSAMPLED_PROGRESSIVE: &str = "\
    /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L\
    2u71////m8H////6/+b9//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4\
    +Pj4+Pj4+Pj4+Pj4+Pj/wgARCAAUABQDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAMCAf/EABYBAQEBAAAAAAAA\
    AAAAAAAAAAABAv/aAAwDAQACEAMQAAABnrvTaaZpkamJf//EABkQAAMBAQEAAAAAAAAAAAAAAAABEUESIf/aAAgBAQABBQJJ\
    czxSGkNP/8QAFREBAQAAAAAAAAAAAAAAAAAAAQD/2gAIAQMBAT8BlYi//8QAFxEAAwEAAAAAAAAAAAAAAAAAAAEQEf/aAAgB\
    AgEBPwGM1n//xAAXEAADAQAAAAAAAAAAAAAAAAAAARAx/9oACAEBAAY/AjDBVX//xAAaEAACAwEBAAAAAAAAAAAAAAAAEQEx\
    QXGR/9oACAEBAAE/IYjTFiYG6D4ZBioyb0Twa6M//9oADAMBAAIAAwAAABDP0L//xAAYEQEBAAMAAAAAAAAAAAAAAAABABEx\
    gf/aAAgBAwEBPxBdnIbgtuwMF//EABoRAAICAwAAAAAAAAAAAAAAAAARASFh4fD/2gAIAQIBAT8QmbE+0VaMh//EAB4QAQAD\
    AQABBQAAAAAAAAAAAAEAESFBMVFhkbHR/9oACAEBAAE/ENQUd5KEAX6hlSkV+oBzcBrxRWP38wtRcDp5iFOjlm0ZLhbddv2h\
    lu+WwVH5P//Z";
/// 16 x 8 pixels of 16 colours, some of them transparent.
const PALETTE_PNG: &str = "\
    iVBORw0KGgoAAAANSUhEUgAAABAAAAAIBAMAAAACWGKkAAAAMFBMVEXB1H/CpJFA44QmtIHacXeOfXtDfYZRYZHJNlt1QGDR\
    BE6CAzIzNq0/E1smAGspABXrgyQTAAAAA3RSTlMAgP/s97MYAAAAU0lEQVR4nAFIALf/Af/8v/VQvO9DAf3cr/7g77wiBPDA\
    zL8Pdu+CBP/cvfulSgEGBOD8B7ump8tfAi8fkGdHmCo3At7A3AqXVGUTANkYQ8YpEMMn51Mki0DVWJUAAAAASUVORK5CYII=";
/// 16 x 8 pixels of one bit.
const BLACK_AND_WHITE_PNG: &str = "\
    iVBORw0KGgoAAAANSUhEUgAAABAAAAAIAQAAAADYDUI6AAAAIElEQVR4nGNgYGAQ28f0hZ0x7hbT6SAm7pdMnySZjLQASYMG\
    i0/C840AAAAASUVORK5CYII=";
/// 8 x 8 pixels with transparency, in seven passes.
const INTERLACED_PNG: &str = "\
    iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAYAAAGzCI4dAAAA1ElEQVR42g3MsY0CQQyF4XewLBxawQmBxEloEi4iu9yVuA0S\
    dzAdOJkiJnEH04GTKWKKWJy84NenBwArBKiIXUV+KgjoBmSQHLrJPSPSSjR1oUM1WiJYBFu62L2a/WUkYDDQFCgOvJFoM5jm\
    pnQsTqcIMg2Wpalci8sjgs2D7dLUUnF7vREna0pfg9Kmc9o2SVPVtCuW5uxpH4AD8HYQz535uwkvVflcjC/Z+RZAA+hukB47\
    67mJXqvqbzFN2fUZwAP4fpCfOvutiT+q+rOYv7L7//sDhpVl0TljIuAAAAAASUVORK5CYII=";
/// 16 x 8 pixels, and their transparency in a part of its own.
const LOSSY_WEBP_WITH_ALPHA: &str = "\
    UklGRrQAAABXRUJQVlA4WAoAAAAQAAAADwAABwAAQUxQSBsAAAABMAhJikImqYQSSiihZBLGKkREBpPF5nB5fAIAVlA4IHIA\
    AACQAgCdASoQAAgABABoJbACdH8EwAbxeRCBJkrySAD+7SDCw91Tmkczx8l4K6HvJpiPEQ3ieul3su/Ke8Rm7fYYcuxejBqP\
    Oisx2v/1e5vFpcgZ13EG+LDvK84WIzUNq8pR+33zclrf8hXT55XMQi6gAAA=";
/// 20 x 12 pixels of 8 colours.
const LOSSLESS_WEBP: &str = "\
    UklGRogAAABXRUJQVlA4THwAAAAvE8ACAD+gqI0UOLrLDeqQgRPUBADBGJcG8ii9SSCU2kg2qOh9UIM6pKoSqn3+Q7Sn0chQ\
    h/8id47XzoOjSLadWhU4eP3iGiyAgWSAHwTk/Yvofwz+Y3jVZTZMcGKJABqeXMWFCgEgs03kRqSjFx0XCngBNahS3FLcEmsH";
/// 40 x 24 pixels with losses.
const DETAILED_WEBP: &str = "\
    UklGRqoCAABXRUJQVlA4IJ4CAABQDQCdASooABgAPuleqU2pJSQiKq35IB0JbACdMoSEVIDoFiUwj9sBzvf9u/W73AbxR6AH\
    7Semv+wHwVfuN6VVYdaxVVjqWO7k+GYeLX6X9gbyyOhVDvrGpd+Lmh3Ds1MCDuZLnlXuIqkYu3yI6TWwvOmQAP7qTI4UxCo2\
    ic4pI/AqfsRGsyl+jooBqm1xUzkOvn8ckdvyctFTS/p0B0E5Ogh12vJkUd32JG8ScxEP4X/0XCI8cmlHDICgMrh2RtC6+hpt\
    hIOW3g6J5H4YJotc5JQ614DRHlHLJlQyo2c6s/CpkyInojjXPs9DWvuDuv4RwMa22yBBupyWQjNTNGBcLpMfbo3W2BoV/lbI\
    DqCKzm6p8Bcu6poFo9oitlwaysVXYckrOchWd1ZxfftL9YVBHGB+gF+hjv5XM7D1KhTvZLNwislzEBkx9KZog9Cv1ySIddl3\
    fYvaORDYoBIlQK8mzUEamYTHRnGPmZT2FwHSBjnJjAy4u+7ntW5PSeVUqq7YzwCxyNDnPlJ64RFFPZNgslSjE1YpaAHY0K7k\
    63M9LASdj3Fu29lT8PYa+kpyE4owxdExFnQHEEc4nn/6cI5k8h6T4RO19LNFAHK0XTqgTIHUvvUwHD6nvX5uY4hgX7euQLEp\
    uEfVKMhgwpvtsI2zJbK3yH4QGiFX+/Mh8F5J6ndozuVPReNbUQk+Yqaa32uc+djYxCvI+VhBFOp4zLWN5Y5ZI6HQBSceQgUo\
    Tibfhp7Jm+KnzX15FKwkkATJrfhfHywjqPn7gfL2Xd6nOo/T7mBzZ79dmxdH4pfPuPbgsyBndqAiAyMNtYUOTdRSRh3YvHWK\
    uCx6+QL4nWxcw2k3wV8u+8/0yVXHSc03O5Ei877jJuX6ddQTXnjAAAAA";

/// Small files of every form.
pub fn small() -> Vec<Vec<u8>> {
    let constants = [
        CMYK,
        PROGRESSIVE,
        GREY,
        TURNED,
        LOSSY_WEBP,
        CLEAR_WEBP,
        ANIMATED_WEBP,
        ANIMATED_PNG,
        SUBSAMPLED_JPEG,
        SUBSAMPLED_PROGRESSIVE,
        PALETTE_PNG,
        BLACK_AND_WHITE_PNG,
        INTERLACED_PNG,
        LOSSY_WEBP_WITH_ALPHA,
        LOSSLESS_WEBP,
        DETAILED_WEBP,
    ];
    let mut files: Vec<_> = constants.iter().map(|text| BASE64_STANDARD.decode(text).unwrap()).collect();
    files.extend(
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP].map(|format| detailed(format).bytes),
    );
    files.extend(COLOURS.map(|(colours, bytes)| png(&noise(16 * 16 * bytes), 16, 16, colours).bytes));
    files
}

/// Files that are reduced to every size, and files of the most pixels and bytes that are accepted.
pub fn large() -> Vec<Vec<u8>> {
    let photo = DynamicImage::ImageRgb8(::image::RgbImage::from_raw(800, 600, noise(800 * 600 * 3)).unwrap())
        .blur(3.0);
    let mut jpeg = Vec::new();
    photo.write_to(&mut std::io::Cursor::new(&mut jpeg), ImageFormat::Jpeg).unwrap();
    let mut files = vec![jpeg, plain(700, 500, ImageFormat::WebP).bytes];
    files.push(plain(2048, 2048, ImageFormat::Jpeg).bytes);
    files.push(plain(2048, 2048, ImageFormat::Png).bytes);
    files.push(png(&vec![0x55; 2048 * 2048 * 8], 2048, 2048, ExtendedColorType::Rgba16).bytes);
    let of_most_pixels = [GREY, PROGRESSIVE, CMYK, SUBSAMPLED_JPEG, SUBSAMPLED_PROGRESSIVE];
    files.extend(of_most_pixels.map(|text| enlarged(BASE64_STANDARD.decode(text).unwrap())));
    files
}

/// The colours of PNG that its encoder writes, and the bytes of a pixel.
const COLOURS: [(ExtendedColorType, usize); 8] = [
    (ExtendedColorType::L8, 1),
    (ExtendedColorType::La8, 2),
    (ExtendedColorType::Rgb8, 3),
    (ExtendedColorType::Rgba8, 4),
    (ExtendedColorType::L16, 2),
    (ExtendedColorType::La16, 4),
    (ExtendedColorType::Rgb16, 6),
    (ExtendedColorType::Rgba16, 8),
];

/// Bytes without a pattern, always the same.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// A JPEG that says it has 2048 x 2048 pixels.
fn enlarged(mut jpeg: Vec<u8>) -> Vec<u8> {
    let is_frame = |pair: &[u8]| pair[0] == 0xFF && matches!(pair[1], 0xC0..=0xC2);
    let frame = jpeg.windows(2).position(is_frame).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[8, 0, 8, 0]);
    jpeg
}
