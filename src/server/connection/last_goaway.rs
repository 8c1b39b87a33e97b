//! [`LastGoaway`]: filters the frames that h2 reads around the last GOAWAY of a connection, so that no call
//! in flight is lost.
//!
//! A connection ends in two steps (RFC 9113, 6.8). The first GOAWAY allows every stream, and a PING follows
//! it. Once the peer acknowledges the PING, a second GOAWAY names the last stream that is answered. Frames of
//! later streams, which the peer sent before it read the second GOAWAY, are to be ignored. h2 ignores
//! HEADERS, DATA and RST_STREAM of such a stream, but takes a WINDOW_UPDATE for a protocol error, and ends
//! the connection with all its calls. gRPC's C core sends such frames: its acknowledgement leaves before the
//! calls that it has queued. Those WINDOW_UPDATEs are removed here.
//!
//! h2 waits for the acknowledgement without a limit, and a client that reads its connection only during calls
//! does not send one. [`Ending::acknowledge`] inserts it. A call that the peer sends after that has an id
//! above the last stream of the second GOAWAY, so the peer knows that it may retry the call.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::preface::PREFACE;

/// Length, type, flags and stream of a frame (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The largest frame that the server accepts. h2 ends the connection for a larger one.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The acknowledgement of the PING that h2 sends behind the first GOAWAY. The payload is a constant of h2;
/// the tests of `connection` compare it with the PING on the wire.
const ACKNOWLEDGEMENT: [u8; 17] =
    [0, 0, 8, PING, ACK, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// The progress of the end of a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    begun: AtomicBool,
    acknowledged: AtomicBool,
}

impl Ending {
    /// Must be called just before the first GOAWAY is requested.
    pub fn begin(&self) {
        self.0.begun.store(true, Relaxed);
    }

    /// Inserts the acknowledgement of the PING, as soon as the peer is at the end of a frame. Takes effect
    /// when the connection is polled next.
    pub fn acknowledge(&self) {
        self.0.acknowledged.store(true, Relaxed);
    }
}

/// The preface and the frames of a peer, as h2 reads them.
///
/// Until the end of the connection begins, bytes pass through as they arrive, and only the boundaries of
/// frames are followed, which costs a dozen instructions a frame. From then on, frames are passed on whole.
#[derive(Debug)]
pub struct LastGoaway<S> {
    stream: S,
    ending: Ending,
    passed: Passed,
    /// Bytes read while the connection ends and not checked yet: usually less than a frame.
    unseen: BytesMut,
    /// Frames that are checked, for h2 to read.
    seen: BytesMut,
    /// The highest stream that h2 knows when it sends the last GOAWAY; `None` before.
    last_stream: Option<u32>,
    /// Whether h2 is going to end the connection for a fault of the peer. If so, no more frames are checked.
    is_broken: bool,
}

/// The position within the peer's frames up to which h2 has read.
#[derive(Debug)]
struct Passed {
    /// The head of the next frame, as far as it has arrived.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the payload of the last frame that have not arrived.
    payload_bytes: usize,
    /// The highest stream that the peer has opened.
    opened: u32,
    /// Whether the next frame must be a CONTINUATION: h2 ends the connection for any other.
    is_in_header_block: bool,
}

fn payload_bytes(head: &[u8]) -> usize {
    u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize
}

fn stream_id(head: &[u8]) -> u32 {
    u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff
}

impl Passed {
    /// The position before the preface, which is followed like the payload of a frame.
    fn preface() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            payload_bytes: PREFACE.len(),
            opened: 0,
            is_in_header_block: false,
        }
    }

    /// Follows the frames in `bytes`, which continue the bytes of the last call.
    fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            let payload = self.payload_bytes.min(bytes.len());
            self.payload_bytes -= payload;
            bytes = &bytes[payload..];
            match bytes.split_first_chunk() {
                Some((head, rest)) if self.head_bytes == 0 => {
                    self.enter(head);
                    bytes = rest;
                }
                _ if bytes.is_empty() => return,
                _ => {
                    let part = (HEAD_BYTES - self.head_bytes).min(bytes.len());
                    self.head[self.head_bytes..][..part].copy_from_slice(&bytes[..part]);
                    self.head_bytes += part;
                    bytes = &bytes[part..];
                    if self.head_bytes == HEAD_BYTES {
                        self.head_bytes = 0;
                        self.enter(&{ self.head });
                    }
                }
            }
        }
    }

    fn enter(&mut self, head: &[u8; HEAD_BYTES]) {
        self.payload_bytes = payload_bytes(head);
        self.note(head);
    }

    fn note(&mut self, head: &[u8]) {
        let (kind, flags) = (head[3], head[4]);
        if kind == HEADERS {
            self.opened = self.opened.max(stream_id(head));
        }
        if kind == HEADERS || kind == CONTINUATION {
            self.is_in_header_block = flags & END_HEADERS == 0;
        }
    }

    /// Bytes up to the next boundary, as far as they are known; 0 at a boundary.
    fn to_boundary(&self) -> usize {
        match self.head_bytes {
            0 => self.payload_bytes,
            head_bytes => HEAD_BYTES - head_bytes,
        }
    }
}

impl<S> LastGoaway<S> {
    /// Reads from `stream`, which begins with the preface.
    pub fn new(stream: S, ending: Ending) -> Self {
        Self {
            stream,
            ending,
            passed: Passed::preface(),
            unseen: BytesMut::new(),
            seen: BytesMut::new(),
            last_stream: None,
            is_broken: false,
        }
    }

    /// Moves whole frames from `unseen` to `seen`, without those that h2 would take for a protocol error.
    fn look(&mut self) {
        while !self.is_broken
            && let Some(head) = self.unseen.first_chunk::<HEAD_BYTES>()
        {
            let frame_bytes = HEAD_BYTES + payload_bytes(head);
            if frame_bytes > HEAD_BYTES + FRAME_BYTES_MAX {
                self.is_broken = true;
                break;
            }
            if self.unseen.len() < frame_bytes {
                return;
            }
            let (kind, stream) = (head[3], stream_id(head));
            let frame = self.unseen.split_to(frame_bytes);
            self.passed.note(&frame);
            let is_of_ignored_stream =
                self.last_stream.is_some_and(|last| last < stream && stream <= self.passed.opened);
            if kind == WINDOW_UPDATE && is_of_ignored_stream {
                continue;
            }
            if *frame == ACKNOWLEDGEMENT {
                // A slow peer may send its own acknowledgement after the inserted one. h2 accepts only one.
                if self.last_stream.is_some() {
                    continue;
                }
                self.last_stream = Some(self.passed.opened);
            }
            self.seen.extend_from_slice(&frame);
        }
        if self.is_broken {
            self.seen.unsplit(self.unseen.split());
        }
    }

    /// Inserts the acknowledgement of the PING, if that is requested and the peer has not sent it.
    fn acknowledge(&mut self) {
        if self.last_stream.is_none() && self.ending.0.acknowledged.load(Relaxed) {
            self.last_stream = Some(self.passed.opened);
            self.seen.extend_from_slice(&ACKNOWLEDGEMENT);
        }
    }
}

impl<S: AsyncRead + Unpin> LastGoaway<S> {
    /// Reads at most `limit` bytes, which h2 gets unchanged.
    fn pass(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        limit: usize,
    ) -> Poll<io::Result<()>> {
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(limit.min(buffer.remaining())));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let bytes = part.filled().len();
        self.passed.follow(part.filled());
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }

    /// Reads while the connection ends.
    fn read_frames(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // First the rest of the frame in which the end began: h2 has read its head already, or a part of it.
        let to_boundary = self.passed.to_boundary();
        if to_boundary > 0 {
            return self.pass(context, buffer, to_boundary);
        }
        loop {
            self.look();
            if self.seen.is_empty() && !self.passed.is_in_header_block {
                self.acknowledge();
            }
            if !self.seen.is_empty() {
                let bytes = self.seen.len().min(buffer.remaining());
                buffer.put_slice(&self.seen[..bytes]);
                self.seen.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 4096];
            let mut part = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
            if part.filled().is_empty() {
                // An incomplete frame is left. h2 reads it and reports the error.
                if self.unseen.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.is_broken = true;
            }
            self.unseen.extend_from_slice(part.filled());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LastGoaway<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.0.begun.load(Relaxed) {
            return this.read_frames(context, buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.passed.follow(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LastGoaway<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    // Vectored writes are not offered: with them, h2 flushes for each response of 256 bytes or more, and
    // responses with a link are longer. Without them, h2 copies up to 1,024 bytes into a buffer that it
    // writes once nothing more is ready.

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const DATA: u8 = 0;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn headers(stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, b"fields")
    }

    fn window_update(stream: u32) -> Vec<u8> {
        frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])
    }

    /// A peer, and the stream that h2 would read.
    struct Connection {
        peer: DuplexStream,
        read: LastGoaway<DuplexStream>,
        ending: Ending,
    }

    impl Connection {
        /// A connection whose preface has been read.
        async fn new() -> Self {
            let (peer, stream) = duplex(1 << 20);
            let ending = Ending::default();
            let mut connection = Self { peer, read: LastGoaway::new(stream, ending.clone()), ending };
            connection.passes(PREFACE).await;
            connection
        }

        /// Sends `bytes` in pieces of `piece` bytes, and returns the bytes that h2 reads.
        async fn send(&mut self, bytes: &[u8], piece: usize) -> Vec<u8> {
            let mut read = Vec::new();
            for piece in bytes.chunks(piece) {
                self.peer.write_all(piece).await.unwrap();
                read.extend(self.read());
            }
            read
        }

        /// The bytes that h2 can read now.
        fn read(&mut self) -> Vec<u8> {
            let mut read = Vec::new();
            while let Some(bytes) = self.read.read_buf(&mut read).now_or_never()
                && bytes.unwrap() > 0
            {}
            read
        }

        async fn passes(&mut self, bytes: &[u8]) {
            assert_eq!(self.send(bytes, usize::MAX).await, bytes);
        }
    }

    #[tokio::test]
    async fn window_updates_of_streams_that_are_ignored_are_withheld() {
        let before = [headers(1), frame(DATA, 0, 1, &[0; 300]), headers(3)].concat();
        let crossing = [
            ACKNOWLEDGEMENT.to_vec(),
            headers(5),
            window_update(5),
            frame(DATA, 1, 5, b"message"),
            window_update(3),
            window_update(0),
            window_update(7),
            headers(7),
            window_update(7),
        ];
        let passed = [
            ACKNOWLEDGEMENT.to_vec(),
            headers(5),
            frame(DATA, 1, 5, b"message"),
            window_update(3),
            window_update(0),
            // Never opened, not even by a frame that is ignored: a fault of the peer, which h2 is to see.
            window_update(7),
            headers(7),
        ];
        for piece in [1, 5, 9, 13, 1 << 20] {
            let mut connection = Connection::new().await;
            assert_eq!(connection.send(&before, piece).await, before, "{piece}");
            connection.ending.begin();
            assert_eq!(connection.send(&crossing.concat(), piece).await, passed.concat(), "{piece}");
        }
    }

    #[tokio::test]
    async fn until_the_last_goaway_everything_passes() {
        let mut connection = Connection::new().await;
        // An acknowledgement before the PING was sent has no meaning.
        connection.passes(&ACKNOWLEDGEMENT).await;
        connection.passes(&window_update(9)).await;
        connection.ending.begin();
        connection.passes(&window_update(9)).await;
        connection.passes(&headers(1)).await;
        connection.passes(&window_update(1)).await;
    }

    #[tokio::test]
    async fn a_silent_peer_s_ping_is_acknowledged_for_it_once() {
        let mut connection = Connection::new().await;
        connection.passes(&headers(1)).await;
        connection.ending.begin();
        assert_eq!(connection.read(), b"");
        connection.ending.acknowledge();
        assert_eq!(connection.read(), ACKNOWLEDGEMENT);
        let late = [ACKNOWLEDGEMENT.to_vec(), headers(3), window_update(3), window_update(1)].concat();
        let passed = [headers(3), window_update(1)].concat();
        assert_eq!(connection.send(&late, usize::MAX).await, passed);
    }

    #[tokio::test]
    async fn nothing_is_put_into_the_middle_of_a_frame_or_of_a_header_block() {
        let block = [frame(HEADERS, 0, 1, b"fi"), frame(CONTINUATION, END_HEADERS, 1, b"elds")].concat();
        for (sent, split) in [(headers(1), 4), (headers(1), 12), (block.clone(), 11), (block, 15)] {
            // The frame began before the end of the connection, so that h2 has read a part of it.
            let mut connection = Connection::new().await;
            connection.passes(&sent[..split]).await;
            connection.ending.begin();
            connection.ending.acknowledge();
            assert_eq!(connection.read(), b"", "{split}");
            let rest = [&sent[split..], &ACKNOWLEDGEMENT].concat();
            assert_eq!(connection.send(&sent[split..], usize::MAX).await, rest, "{split}");
        }
    }

    #[tokio::test]
    async fn a_part_of_a_frame_that_comes_during_the_end_does_not_hold_it_up() {
        let mut connection = Connection::new().await;
        connection.ending.begin();
        assert_eq!(connection.send(&headers(1)[..12], usize::MAX).await, b"");
        connection.ending.acknowledge();
        assert_eq!(connection.read(), ACKNOWLEDGEMENT);
        assert_eq!(connection.send(&headers(1)[12..], usize::MAX).await, headers(1));
    }

    #[tokio::test]
    async fn what_h2_ends_the_connection_for_reaches_it() {
        let too_large = frame(DATA, 0, 1, &vec![0; FRAME_BYTES_MAX + 1]);
        for sent in [too_large, headers(1)[..12].to_vec()] {
            let mut connection = Connection::new().await;
            connection.ending.begin();
            let mut read = connection.send(&sent, usize::MAX).await;
            connection.peer.shutdown().await.unwrap();
            read.extend(connection.read());
            assert_eq!(read, sent);
        }
    }
}
