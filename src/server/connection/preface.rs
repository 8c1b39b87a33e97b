//! [`Prefaced`]: a byte stream whose peer has sent the HTTP/2 preface (RFC 9113, 3.4) in time.
//!
//! hyper waits for the preface without a limit, so silent connections would accumulate. The preface is read
//! here, and hyper reads it again. A peer that speaks HTTP/1 gets a response in its own protocol.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The first bytes of an HTTP/2 connection.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Status 505: the major version of HTTP is not supported (RFC 9110, 15.6.6).
const HTTP_1_HEAD: &str =
    "HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n";
const HTTP_1_TEXT: &str = "This port speaks gRPC, over HTTP/2 only; try grpcurl. Metrics and health checks for HTTP/1.1 \
    (/metrics, /livez, /readyz) are on the port set by --admin-listen (HYPERSENDER_GRPC_ADMIN_LISTEN).\n";

/// The stream with its preface: a reader gets the preface first and then the rest.
#[derive(Debug)]
pub struct Prefaced<S> {
    preface: Cursor<&'static [u8]>,
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Prefaced<S> {
    /// Reads the preface. A peer that speaks HTTP/1 gets a response, and the stream is shut down.
    ///
    /// # Errors
    ///
    /// When the stream ends before the preface, or the peer speaks another protocol.
    pub async fn read(mut stream: S) -> io::Result<Self> {
        let mut start = [0; PREFACE.len()];
        let mut read = 0;
        while read < start.len() {
            let more = stream.read(&mut start[read..]).await?;
            read += more;
            // The first byte that differs decides: the wait for the full length of the preface could last for
            // ever, because a peer that speaks HTTP/1 may send fewer bytes.
            if more == 0 || start[..read] != PREFACE[..read] {
                if begins_http_1(&start[..read]) {
                    refuse_http_1(&mut stream).await?;
                }
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak HTTP/2"));
            }
        }
        Ok(Self { preface: Cursor::new(PREFACE), stream })
    }
}

/// Whether `start`, which differs from the preface, begins an HTTP/1 request line: a method in capital
/// letters, and the space after it if that has arrived. A TLS handshake, random bytes or an incomplete
/// preface get no response.
fn begins_http_1(start: &[u8]) -> bool {
    let method = start.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let of_preface = start.iter().zip(PREFACE).take_while(|(byte, expected)| byte == expected).count();
    of_preface <= method
        && method > 0
        && of_preface < start.len()
        && start.get(method).is_none_or(|byte| *byte == b' ')
}

async fn refuse_http_1<S: AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let answer = format!("{HTTP_1_HEAD}content-length: {}\r\n\r\n{HTTP_1_TEXT}", HTTP_1_TEXT.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
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
    use tokio::io::duplex;

    use super::*;

    /// Reads a stream of `bytes`. Returns the bytes behind `Prefaced`, and the response that the peer got.
    async fn read(bytes: &[u8]) -> (io::Result<Vec<u8>>, String) {
        let (mut peer, stream) = duplex(4096);
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        let read = async {
            let mut read = Vec::new();
            Prefaced::read(stream).await?.read_to_end(&mut read).await?;
            Ok(read)
        };
        let (read, mut answer) = (read.await, String::new());
        peer.read_to_string(&mut answer).await.unwrap();
        (read, answer)
    }

    #[tokio::test]
    async fn a_preface_is_read_again_and_what_follows_too() {
        let bytes = [PREFACE.as_slice(), b"settings"].concat();
        let (read, answer) = read(&bytes).await;
        assert_eq!((read.unwrap(), answer.as_str()), (bytes, ""));
    }

    #[tokio::test]
    async fn a_stream_without_the_preface_is_refused_and_http_1_is_answered() {
        for (start, answered) in [
            (&b""[..], false),
            (b"PRI * HTTP/2.0", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\n\n", false),
            (b"\x16\x03\x01\x02\0\x01", false),
            (b"get / HTTP/1.1\r\n", false),
            (b"GET / HTTP/1.1\r\n\r\n", true),
            (b"G", true),
            (b"POST /hypersender.contact.v1.ContactService/GetProfilePicture HTTP/1.1\r\n", true),
            (b"PUT / HTTP/1.0\r\n", true),
        ] {
            let (read, answer) = read(start).await;
            assert!(read.is_err(), "{start:?}");
            assert_eq!(answer.starts_with("HTTP/1.1 505 "), answered, "{start:?}: {answer:?}");
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            assert_eq!(body.contains("--admin-listen"), answered, "{start:?}: {answer:?}");
        }
    }
}
