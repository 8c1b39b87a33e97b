//! Responses that are sent at their own pace, beside usual ones on the same connection.

use std::{sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tonic::{Status, body::Body};

use super::{
    super::{PING_INTERVAL, PING_TIMEOUT},
    peer::{
        ACK, ANSWER_BYTES, DATA, END_STREAM, HEADERS, PING, Peer, RST_STREAM, Received, WINDOW_UPDATE, call,
        frame,
    },
};
use crate::grpc::OwnPace;

/// A window that takes one chunk and a part of the second.
const WINDOW: u32 = 400;
/// The error code of RST_STREAM that says that the stream is no longer needed.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A stream of the service.
struct Stream {
    pace: OwnPace,
    frames: UnboundedSender<Frame<Bytes>>,
    /// Shared with the body.
    permit: Arc<()>,
}

impl Stream {
    /// Makes a stream the response to the next call of `peer`.
    fn next_of(peer: &Peer) -> Self {
        let (frames, receiver) = unbounded_channel();
        let (pace, permit) = (OwnPace::default(), Arc::new(()));
        let mut response = Response::new(body(receiver, permit.clone()));
        response.extensions_mut().insert(pace.clone());
        peer.responses.lock().push(response);
        Self { pace, frames, permit }
    }

    fn send_chunks(&self, count: usize) {
        for _ in 0..count {
            let chunk = Bytes::from_static(&[b'1'; ANSWER_BYTES]);
            self.frames.send(Frame::data(chunk)).expect("the body is there");
        }
    }

    fn send_trailers(&self) {
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        self.frames.send(Frame::trailers(HeaderMap::from_iter([status]))).expect("the body is there");
    }

    fn is_dropped(&self) -> bool {
        self.frames.is_closed() && Arc::strong_count(&self.permit) == 1
    }
}

fn body(frames: UnboundedReceiver<Frame<Bytes>>, permit: Arc<()>) -> Body {
    Body::new(StreamBody::new(stream::unfold((frames, permit), |(mut frames, permit)| async {
        let frame = frames.recv().await?;
        Some((Ok::<_, Status>(frame), (frames, permit)))
    })))
}

fn window(bytes: u32) -> Vec<u8> {
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
    [&[0, 4][..], &bytes.to_be_bytes()].concat()
}

/// Opens the window of `stream` for two more chunks.
fn window_update(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &u32::try_from(2 * ANSWER_BYTES).unwrap().to_be_bytes())
}

impl Peer {
    /// Reads up to the end of `stream`, and acknowledges PINGs. Returns the last frame and the bytes of data.
    async fn end_of(&mut self, stream: u32) -> (Received, usize) {
        let mut bytes = 0;
        loop {
            let received = self.receive().await;
            match received.kind {
                PING if received.flags != ACK => self.send(&frame(PING, ACK, 0, &received.payload)).await,
                DATA if received.stream == stream => bytes += received.payload.len(),
                _ => {}
            }
            let is_end = received.kind == RST_STREAM || received.flags & END_STREAM != 0;
            if received.stream == stream && is_end {
                return (received, bytes);
            }
        }
    }

    /// Calls on another stream and gets the usual answer.
    async fn is_answered(&mut self, stream: u32) {
        self.send(&[call(stream), window_update(stream)].concat()).await;
        let (end, bytes) = self.end_of(stream).await;
        assert_eq!((end.kind, bytes), (HEADERS, ANSWER_BYTES));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_window_is_left_alone_until_it_is_reset_alone() {
    for (open, chunks) in [(0, 0), (0, 3), (WINDOW, 1), (WINDOW, 9)] {
        let row = format!("{chunks} chunks in a window of {open}");
        let mut peer = Peer::with_settings(&window(open)).await;
        let stream = Stream::next_of(&peer);
        peer.send(&call(1)).await;
        stream.send_chunks(chunks);
        // In this time the peer would count as a slow reader.
        let closed = timeout(PING_INTERVAL + PING_TIMEOUT / 2, &mut peer.served).await;
        assert!(closed.is_err(), "{row}: the connection was closed");
        peer.is_answered(3).await;
        assert!(!stream.is_dropped(), "{row}");
        stream.pace.reset.notify_one();
        let (end, _) = peer.end_of(1).await;
        assert_eq!((end.kind, &end.payload[..]), (RST_STREAM, &CANCEL[..]), "{row}");
        assert!(stream.is_dropped(), "{row}");
        peer.is_answered(5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_waits_until_its_chunks_are_read() {
    for is_read in [true, false] {
        let mut peer = Peer::with_settings(&window(WINDOW)).await;
        let stream = Stream::next_of(&peer);
        peer.send(&call(1)).await;
        stream.send_chunks(2);
        stream.send_trailers();
        let minutes = Duration::from_secs(4 * 60);
        assert!(timeout(minutes, peer.end_of(1)).await.is_err(), "the stream has ended");
        assert!(!stream.is_dropped());
        if is_read {
            peer.send(&window_update(1)).await;
            let (end, _) = peer.end_of(1).await;
            assert_eq!((end.kind, end.flags & END_STREAM), (HEADERS, END_STREAM));
        } else {
            stream.pace.reset.notify_one();
            let (end, _) = peer.end_of(1).await;
            assert_eq!((end.kind, &end.payload[..]), (RST_STREAM, &CANCEL[..]));
        }
        assert!(stream.is_dropped());
        peer.is_answered(3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_the_last_chunks_slowly_gets_them_all() {
    let mut peer = Peer::with_settings(&window(0)).await;
    let stream = Stream::next_of(&peer);
    peer.send(&call(1)).await;
    stream.send_chunks(8);
    stream.send_trailers();
    for _ in 0..3 {
        // Together this takes longer than the peer has for one chunk.
        peer.send(&window_update(1)).await;
        let minutes = Duration::from_secs(4 * 60);
        assert!(timeout(minutes, peer.end_of(1)).await.is_err(), "the stream has ended");
    }
    peer.send(&window_update(1)).await;
    let (end, _) = peer.end_of(1).await;
    assert_eq!((end.kind, end.flags & END_STREAM), (HEADERS, END_STREAM));
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_age_of_its_connection() {
    let mut peer = Peer::with(&window(WINDOW), Some(Duration::from_secs(1))).await;
    let stream = Stream::next_of(&peer);
    peer.send(&call(1)).await;
    let ping = peer.until(|kind, flags| kind == PING && flags != ACK).await;
    peer.send(&frame(PING, ACK, 0, &ping)).await;
    assert_eq!(peer.goaway().await, 1);
    assert!(timeout(Duration::from_secs(50), peer.receive()).await.is_err(), "the stream goes on");
    stream.send_chunks(1);
    stream.send_trailers();
    let (end, bytes) = peer.end_of(1).await;
    assert_eq!((end.kind, bytes), (HEADERS, ANSWER_BYTES));
    drop(peer.stream);
    peer.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_peer_leaves_is_dropped() {
    for stalled in [false, true] {
        let mut peer = Peer::with_settings(&window(WINDOW)).await;
        let stream = Stream::next_of(&peer);
        peer.send(&call(1)).await;
        stream.send_chunks(if stalled { 3 } else { 1 });
        peer.until(|kind, _| kind == DATA).await;
        peer.send(&frame(RST_STREAM, 0, 1, &CANCEL)).await;
        peer.is_answered(3).await;
        assert!(stream.is_dropped());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_ends_its_own_stream_alone() {
    for (is_marked, chunks) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let mut peer = Peer::connect().await;
        let mut frames = (0..chunks).map(|_| Ok::<_, Status>(Frame::data(Bytes::from_static(b"chunk"))));
        let panicking = stream::poll_fn(move |_| {
            assert!(frames.len() > 0, "on purpose");
            Poll::Ready(frames.next())
        });
        let mut response = Response::new(Body::new(StreamBody::new(panicking)));
        if is_marked {
            response.extensions_mut().insert(OwnPace::default());
        }
        peer.responses.lock().push(response);
        peer.send(&call(1)).await;
        let (end, _) = peer.end_of(1).await;
        assert_eq!(end.kind, RST_STREAM, "{is_marked} {chunks}");
        peer.is_answered(3).await;
    }
}
