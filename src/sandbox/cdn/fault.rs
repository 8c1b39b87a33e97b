//! [`Fault`]: the ways in which a download goes wrong, and their answers.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;

/// The number of parts in which a dripping body is sent.
const DRIPS: usize = 16;
/// Width and height that a bomb claims to have. Decoded, it would take more than 10 GB.
const BOMB_SIDE: u16 = 60_000;
/// The size of an image that is too large, in bytes.
const LARGE_BYTES: usize = 2 * 1024 * 1024;
/// The start of the segment that holds the size of a baseline JPEG.
const FRAME: [u8; 2] = [0xFF, 0xC0];

const HTML: &str = "<!DOCTYPE html>\n<script>document.title = 'A script ran'</script>\n";
const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\">\
                   <script>document.title = 'A script ran'</script></svg>\n";
/// One transparent pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF!\xF9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// A fault of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    Expired,
    NotFound,
    Gone,
    Unavailable,
    Redirect,
    Cut,
    Hang,
    Html,
    Svg,
    Gif,
    Text,
    Bomb,
    Large,
}

impl Fault {
    /// The answer to a download of `image`, a JPEG. It never comes for [`Fault::Hang`].
    pub async fn answer(self, mut image: Vec<u8>, location: &str) -> Response {
        match self {
            Self::Expired => expired(),
            Self::NotFound => StatusCode::NOT_FOUND.into_response(),
            Self::Gone => StatusCode::GONE.into_response(),
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Self::Redirect => (StatusCode::FOUND, [(LOCATION, location)]).into_response(),
            Self::Cut => cut(&image),
            Self::Hang => std::future::pending().await,
            Self::Html => typed("text/html; charset=utf-8", HTML),
            Self::Svg => typed("image/svg+xml", SVG),
            Self::Gif => typed("image/gif", GIF),
            Self::Text => typed("image/jpeg", HTML),
            Self::Bomb => {
                enlarge(&mut image);
                super::jpeg(image)
            }
            Self::Large => {
                image.resize(LARGE_BYTES, 0);
                super::jpeg(image)
            }
        }
    }
}

/// The answer of WhatsApp's CDN to a link whose time is over.
pub fn expired() -> Response {
    (StatusCode::FORBIDDEN, "URL signature expired").into_response()
}

/// The same answer, whose body is sent slowly: `pause` passes before each of its parts.
pub async fn drip(answer: Response, pause: Duration) -> Response {
    let (head, body) = answer.into_parts();
    // The body was made here, so it is complete and has at most this size.
    let body = axum::body::to_bytes(body, LARGE_BYTES).await.unwrap_or_default();
    let part = body.len().div_ceil(DRIPS).max(1);
    let parts: Vec<_> = body.chunks(part).map(Bytes::copy_from_slice).collect();
    let parts = stream::iter(parts).then(move |part| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(part)
    });
    Response::from_parts(head, Body::from_stream(parts))
}

fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], body.into()).into_response()
}

/// Announces the whole image, sends the first half, and ends the connection.
fn cut(image: &[u8]) -> Response {
    let length = HeaderValue::from(image.len());
    let half = Bytes::copy_from_slice(&image[..image.len() / 2]);
    let ended = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    // The error comes in a turn of its own, so that hyper sends the half before it closes the connection.
    let parts = stream::iter([Ok(half)]).chain(stream::once(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(ended)
    }));
    let mut answer = typed("image/jpeg", Body::from_stream(parts));
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}

/// Makes the JPEG claim to have [`BOMB_SIDE`] pixels in each direction. Nothing else of it changes.
fn enlarge(image: &mut [u8]) {
    let frame = image.windows(FRAME.len()).position(|bytes| bytes == FRAME);
    // After the mark come two bytes of length and one of precision, then height and width.
    if let Some(sides) = frame.and_then(|at| image.get_mut(at + 5..at + 9)) {
        let side = BOMB_SIDE.to_be_bytes();
        sides.copy_from_slice(&[side, side].concat());
    }
}
