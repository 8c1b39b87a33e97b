//! [`Pieces`]: the body of an image, in pieces that a slow network can take one by one.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Maximum number of bytes of a piece. The connection of a peer that does not take a piece within 30 s is
/// closed. A whole image in one piece would be too much for a slow network that loads many at a time.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A body that shares its bytes with the picture cache.
#[derive(Debug)]
pub struct Pieces(pub Bytes);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.0.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_image_leaves_in_pieces() {
        let bytes = Bytes::from(vec![7; 2 * PIECE_BYTES_MAX + 1]);
        let mut body = Pieces(bytes.clone());
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(lengths, [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 1]);
        assert_eq!(Pieces(bytes.clone()).collect().await.unwrap().to_bytes(), bytes);
        assert!(Pieces(Bytes::new()).is_end_stream());
    }
}
