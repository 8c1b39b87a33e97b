//! [`HalfClose`]: a byte stream that is closed without losing the bytes that were written last.
//!
//! A TCP socket that is closed with unread bytes in it sends a reset. A reset makes the peer's system discard
//! the bytes that the peer has not read yet: a GOAWAY, or the response that says why the connection ends. So
//! the sending half is closed first. Then everything that still arrives is read and dropped until the peer
//! closes its half, within bounds of time and bytes (a lingering close).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Time for the peer to close its half. A drain waits for it, after the 2 s for the acknowledgement of its
/// last PING.
pub const LINGER: Duration = Duration::from_millis(900);
/// Maximum number of bytes that are read and dropped in this time. A peer that sends more does not read the
/// bytes that were written.
const DROPPED_BYTES_MAX: usize = 4 << 20;

/// A stream whose `shutdown` completes once the peer has closed its half too, or after [`LINGER`].
#[derive(Debug)]
pub struct HalfClose<S> {
    stream: S,
    /// `Some` once the sending half is closed.
    closing: Option<Closing>,
}

#[derive(Debug)]
struct Closing {
    end: Pin<Box<Sleep>>,
    dropped: usize,
}

impl<S> HalfClose<S> {
    /// Wraps `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfClose<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HalfClose<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, closing } = self.get_mut();
        let closing = if let Some(closing) = closing {
            closing
        } else {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
            closing.insert(Closing { end: Box::pin(sleep(LINGER)), dropped: 0 })
        };
        let mut bytes = [0; 4096];
        while closing.dropped < DROPPED_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    closing.dropped += buffer.filled().len();
                }
                // The peer has closed its half, or the connection is broken: nothing can be lost any more.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Pin::new(&mut closing.end).poll(context).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_closes_its_half_is_not_waited_for() {
        let (mut peer, stream) = duplex(64);
        let mut stream = HalfClose::new(stream);
        stream.write_all(b"the last word").await.unwrap();
        let begin = Instant::now();
        let (closed, read) = tokio::join!(stream.shutdown(), async {
            let mut read = String::new();
            peer.read_to_string(&mut read).await.unwrap();
            drop(peer);
            read
        });
        closed.unwrap();
        assert_eq!(read, "the last word");
        assert!(begin.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_waited_for_within_a_bound() {
        let (_peer, stream) = duplex(64);
        let begin = Instant::now();
        HalfClose::new(stream).shutdown().await.unwrap();
        assert!((LINGER..Duration::from_secs(1)).contains(&begin.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_keeps_sending_is_not_read_for_ever() {
        let (mut peer, stream) = duplex(1 << 16);
        let flood = tokio::spawn(async move {
            let mut sent = 0;
            while let Ok(more) = peer.write(&[0; 1 << 14]).await {
                sent += more;
            }
            sent
        });
        let mut stream = HalfClose::new(stream);
        stream.shutdown().await.unwrap();
        drop(stream);
        assert!((DROPPED_BYTES_MAX..2 * DROPPED_BYTES_MAX).contains(&flood.await.unwrap()));
    }
}
