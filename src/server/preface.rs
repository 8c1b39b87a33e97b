//! [`Prefaced`]: a byte stream whose peer has sent the HTTP/2 preface (RFC 9113, 3.4) in time.
//!
//! hyper waits for the preface without a bound, so that silent connections would pile up. It is read here, and handed to
//! hyper again.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What an HTTP/2 connection begins with.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The stream, with the preface to be read again first.
#[derive(Debug)]
pub struct Prefaced<S> {
    preface: Cursor<&'static [u8]>,
    stream: S,
}

impl<S: AsyncRead + Unpin> Prefaced<S> {
    /// Reads the preface.
    ///
    /// # Errors
    ///
    /// When the stream ends before it, or another protocol is spoken.
    pub async fn read(mut stream: S) -> io::Result<Self> {
        let mut start = [0; PREFACE.len()];
        let mut read = 0;
        while read < start.len() {
            let more = stream.read(&mut start[read..]).await?;
            read += more;
            // Said at the first byte that differs, so that whoever speaks HTTP/1 is not kept waiting.
            if more == 0 || start[..read] != PREFACE[..read] {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak HTTP/2"));
            }
        }
        Ok(Self { preface: Cursor::new(PREFACE), stream })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.preface.position() < PREFACE.len() as u64 {
            return Pin::new(&mut this.preface).poll_read(context, buffer);
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_preface_is_read_again_and_what_follows_too() {
        let bytes = [PREFACE.as_slice(), b"settings"].concat();
        let mut read = Vec::new();
        Prefaced::read(&*bytes).await.unwrap().read_to_end(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }

    #[tokio::test]
    async fn what_is_no_preface_is_refused() {
        for start in ["", "PRI * HTTP/2.0", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\n\n"] {
            assert!(Prefaced::read(start.as_bytes()).await.is_err(), "{start:?}");
        }
    }
}
