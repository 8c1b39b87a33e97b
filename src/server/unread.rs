//! [`Unread`]: the answers of one connection that its peer leaves lying.
//!
//! A peer that opens no window keeps the answers to its calls in this server's memory for as long as it likes: neither
//! HTTP/2 nor hyper sets a limit to that.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::sleep;
use tower::Service;

/// What has been lying for this long, or up to twice as long, is not going to be read: no caller waits that long, and a
/// network that does is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts the parts of answers that wait for their peer, those that began in this period apart from those of the last one.
/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<Periods>);

#[derive(Debug, Default)]
struct Periods {
    /// Which count is that of this period.
    current: AtomicUsize,
    lying: [AtomicUsize; 2],
}

impl Unread {
    /// `service`, with its answers counted.
    pub fn watch<S>(&self, service: S) -> Watched<S> {
        Watched { service: Mutex::new(service), unread: self.clone() }
    }

    /// Whether no call is in flight and no answer waits for the peer: each holds a clone.
    pub fn is_idle(&self) -> bool {
        // This one, and that of the watched service.
        Arc::strong_count(&self.0) <= 2
    }

    /// Resolves when a part of an answer has been lying for too long.
    pub async fn too_long(&self) {
        let Periods { current, lying } = &*self.0;
        loop {
            sleep(PATIENCE).await;
            let next = 1 - current.load(Relaxed);
            if lying[next].load(Relaxed) > 0 {
                return;
            }
            current.store(next, Relaxed);
        }
    }
}

/// A service as hyper wants it, whose answers are counted while they wait for their peer.
#[derive(Debug)]
pub struct Watched<S> {
    /// One connection calls it from one task. A lock that nobody else wants costs less than a copy for each call.
    service: Mutex<S>,
    unread: Unread,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Unsent<B>>;
    type Error = Infallible;
    type Future = Watching<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // tonic's services and the layers around them are ready at any time: what is too much is refused, not held up.
        let call = self.service.lock().call(request);
        Watching { call, unread: self.unread.clone() }
    }
}

pin_project! {
    /// A call that has no answer yet.
    #[derive(Debug)]
    pub struct Watching<F> {
        #[pin]
        call: F,
        unread: Unread,
    }
}

impl<F, B> Future for Watching<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Unsent<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.call.poll(context));
        Poll::Ready(Ok(response.map(|body| Unsent { body, unread: this.unread.clone() })))
    }
}

/// What of an answer is still to be sent.
#[derive(Debug)]
pub struct Unsent<B> {
    body: B,
    unread: Unread,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Unsent<B> {
    type Data = Lying;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Lying>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| Ok(frame?.map_data(|data| Lying::begin(data, this.unread.clone())))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A part of an answer, which waits for its peer until it is dropped: hyper and h2 drop it once it is written, and neither
/// tells of it in another way. A window of one byte is enough for hyper to be done with the whole answer.
#[derive(Debug)]
pub struct Lying {
    data: Bytes,
    unread: Unread,
    /// The period in which it began to wait.
    since: usize,
}

impl Lying {
    fn begin(data: Bytes, unread: Unread) -> Self {
        let since = unread.0.current.load(Relaxed);
        unread.0.lying[since].fetch_add(1, Relaxed);
        Self { data, unread, since }
    }
}

impl Drop for Lying {
    fn drop(&mut self) {
        self.unread.0.lying[self.since].fetch_sub(1, Relaxed);
    }
}

impl Buf for Lying {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, channel::Channel};
    use tokio::time::timeout;

    use super::*;

    fn unsent(unread: &Unread) -> (http_body_util::channel::Sender<Bytes>, Unsent<Channel<Bytes>>) {
        let (sender, body) = Channel::new(8);
        (sender, Unsent { body, unread: unread.clone() })
    }

    async fn is_too_long(unread: &Unread) -> bool {
        timeout(PATIENCE * 3, unread.too_long()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_finds_no_place_is_noticed() {
        let unread = Unread::default();
        let (mut sender, mut body) = unsent(&unread);
        sender.send_data(Bytes::from_static(b"part")).await.unwrap();
        let part = body.frame().await.unwrap().unwrap();
        // hyper may be done with the answer before its peer is.
        drop(body);
        assert!(is_too_long(&unread).await);
        drop(part);
        assert!(!is_too_long(&unread).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_next_part_is_left_alone() {
        let unread = Unread::default();
        let (mut sender, mut body) = unsent(&unread);
        sender.send_data(Bytes::from_static(b"part")).await.unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(timeout(Duration::from_secs(1), body.frame()).await.is_err());
        assert!(!is_too_long(&unread).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_part_after_part_may_take_its_time() {
        let unread = Unread::default();
        let (mut sender, mut body) = unsent(&unread);
        let reading = async {
            for _ in 0..10 {
                sender.send_data(Bytes::from_static(b"part")).await.unwrap();
                let part = body.frame().await.unwrap().unwrap();
                sleep(PATIENCE / 2).await;
                drop(part);
            }
        };
        assert!(
            timeout(PATIENCE * 10, async {
                tokio::select! { () = reading => false, () = unread.too_long() => true }
            })
            .await
            .is_ok_and(|too_long| !too_long)
        );
    }
}
