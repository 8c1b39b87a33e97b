//! [`Messages`]: the messages of a stream on their way to its reader, and how many of them the reader has not
//! taken yet (rules 41 and 42).

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep_until},
};

use crate::{
    domain::{Answer, LookupError},
    grpc::{
        contact::{self, StreamProgress, stream_profile_pictures_response::Event},
        many::Many,
        unary::append,
    },
    telemetry::{ManyMethod, ManyMetrics, ResultKind},
};

/// Maximum number of results that are made and that the transport has not written yet.
const UNSENT_MAX: usize = 64;
/// Maximum number of results in one frame. Many small frames would cost more than their results.
const FRAME_RESULTS_MAX: usize = 16;
/// When frames wait for the reader and the transport writes none of them for this long, the stream is reset.
const READER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Why no room for a further result comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The reader has left: the body of the response is dropped.
    Left,
    /// The reader takes nothing.
    SlowReader,
}

/// The messages of one stream.
#[derive(Debug)]
pub struct Messages {
    many: Many,
    /// For each contact the first index with it, and for each index the next one with the same contact. An
    /// index without a successor has [`NONE`].
    first: Vec<u32>,
    next: Vec<u32>,
    frames: UnboundedSender<Frame<Bytes>>,
    unsent: Arc<Unsent>,
    /// Results that are encoded and not handed to the body yet.
    frame: Vec<u8>,
    permits: Vec<OwnedSemaphorePermit>,
    /// The permit for the next result.
    room: Option<OwnedSemaphorePermit>,
    done: i32,
    failed: i32,
    last_sent: Instant,
    metrics: Arc<ManyMetrics>,
}

const NONE: u32 = u32::MAX;

/// The messages that the transport has not written yet.
#[derive(Debug)]
struct Unsent {
    /// One permit for each result that may still be made.
    room: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// Notified when a frame is written.
    progress: Notify,
}

/// The frames that wait for the reader.
#[derive(Debug)]
struct Waiting {
    frames: usize,
    /// When the reader took the last frame before them, or the first of them was sent.
    since: Instant,
}

impl Unsent {
    /// When the reader will have taken nothing for too long; `None` while it has taken everything.
    fn unread_at(&self) -> Option<Instant> {
        let waiting = self.waiting.lock();
        (waiting.frames > 0).then(|| waiting.since + READER_TIMEOUT)
    }
}

/// The messages of one frame. h2 drops them once they are written.
struct Chunk {
    bytes: Vec<u8>,
    unsent: Arc<Unsent>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.permits.clear();
        let mut waiting = self.unsent.waiting.lock();
        waiting.frames -= 1;
        waiting.since = Instant::now();
        drop(waiting);
        self.unsent.progress.notify_one();
    }
}

impl Messages {
    /// No result is sent yet.
    pub fn new(many: Many, frames: UnboundedSender<Frame<Bytes>>, metrics: Arc<ManyMetrics>) -> Self {
        let mut first = vec![NONE; many.chats.len()];
        let mut next = vec![NONE; many.contact_of.len()];
        for (index, contact) in many.contact_of.iter().enumerate().rev() {
            if let Some(contact) = contact {
                let first = &mut first[*contact as usize];
                next[index] = std::mem::replace(first, u32::try_from(index).unwrap_or(NONE));
            }
        }
        let room = Arc::new(Semaphore::new(UNSENT_MAX));
        let waiting = Mutex::new(Waiting { frames: 0, since: Instant::now() });
        let unsent = Arc::new(Unsent { room, waiting, progress: Notify::new() });
        let (done, failed, last_sent) = (0, 0, Instant::now());
        Self {
            many,
            first,
            next,
            frames,
            unsent,
            frame: Vec::new(),
            permits: Vec::new(),
            room: None,
            done,
            failed,
            last_sent,
            metrics,
        }
    }

    /// Whether each index has its result.
    pub fn are_complete(&self) -> bool {
        usize::try_from(self.done) == Ok(self.many.contact_of.len())
    }

    /// The instant of the last message, or of the last progress that was due.
    pub fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// Resolves when the reader has left.
    pub async fn left(&self) {
        self.frames.closed().await;
    }

    /// Takes the room for one more result, if there is any without waiting.
    pub fn try_room(&mut self) -> bool {
        if self.room.is_none() {
            self.room = self.unsent.room.clone().try_acquire_owned().ok();
        }
        self.room.is_some()
    }

    /// Waits for the room for one more result. Everything that is encoded is sent before.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when the reader will not make any.
    pub async fn room(&mut self) -> Result<(), NoRoom> {
        if self.try_room() {
            return Ok(());
        }
        self.flush();
        self.room = self.while_read(self.unsent.room.clone().acquire_owned()).await?.ok();
        Ok(())
    }

    /// Waits until the transport has written every message.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when the reader does not take them.
    pub async fn written(&mut self) -> Result<(), NoRoom> {
        self.flush();
        let unsent = &*self.unsent;
        let written = async {
            while unsent.unread_at().is_some() {
                unsent.progress.notified().await;
            }
        };
        self.while_read(written).await
    }

    /// Waits for `work` as long as the reader takes anything.
    async fn while_read<T>(&self, work: impl Future<Output = T>) -> Result<T, NoRoom> {
        tokio::select! {
            done = work => Ok(done),
            () = self.left() => Err(NoRoom::Left),
            () = self.unread() => Err(NoRoom::SlowReader),
        }
    }

    /// Resolves when the reader has taken nothing for too long. It never does while nothing waits for the
    /// reader, until a further message is sent.
    pub async fn unread(&self) {
        loop {
            match self.unsent.unread_at() {
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    /// The indices of the request whose chat id is malformed.
    pub fn malformed(&self) -> Vec<usize> {
        let contacts = self.many.contact_of.iter().enumerate();
        contacts.filter_map(|(index, contact)| contact.is_none().then_some(index)).collect()
    }

    /// The indices of the request for a contact.
    pub fn indices(&self, contact: usize) -> impl Iterator<Item = usize> + use<> {
        let mut indices = Vec::new();
        let mut index = self.first[contact];
        while index != NONE {
            indices.push(index as usize);
            index = self.next[index as usize];
        }
        indices.into_iter()
    }

    /// Encodes the result for `index`. The room for it must have been taken.
    pub fn result(&mut self, index: usize, found: Option<Result<Answer, LookupError>>) {
        let (result, kind) = self.many.result(index, found);
        self.metrics.result(ManyMethod::Stream, kind);
        self.done += 1;
        self.failed += i32::from(kind == ResultKind::Failed);
        let event = Some(Event::Result(result));
        append(&contact::StreamProfilePicturesResponse { event }, &mut self.frame);
        self.permits.extend(self.room.take());
        self.last_sent = Instant::now();
        if self.permits.len() >= FRAME_RESULTS_MAX {
            self.flush();
        }
    }

    /// Hands the encoded results to the body.
    pub fn flush(&mut self) {
        if self.frame.is_empty() {
            return;
        }
        let (bytes, permits) = (std::mem::take(&mut self.frame), std::mem::take(&mut self.permits));
        self.send_chunk(bytes, permits);
    }

    /// Sends the state of the stream after a silence. Nothing is sent while earlier messages are unread,
    /// because it would not reach the reader either.
    pub fn progress(&mut self, progress: StreamProgress) {
        self.flush();
        if self.unsent.unread_at().is_none() {
            self.last_progress(progress);
        }
        self.last_sent = Instant::now();
    }

    /// Sends the state of the stream, after all results.
    pub fn last_progress(&mut self, progress: StreamProgress) {
        self.flush();
        let (done, failed) = (self.done, self.failed);
        let total = i32::try_from(self.many.contact_of.len()).unwrap_or(i32::MAX);
        let event = Some(Event::Progress(StreamProgress { done, failed, total, ..progress }));
        let mut bytes = Vec::new();
        append(&contact::StreamProfilePicturesResponse { event }, &mut bytes);
        self.send_chunk(bytes, Vec::new());
    }

    /// Sends the trailers, which end the response.
    pub fn end(&mut self, trailers: HeaderMap) {
        self.flush();
        self.send(Frame::trailers(trailers));
    }

    fn send_chunk(&self, bytes: Vec<u8>, permits: Vec<OwnedSemaphorePermit>) {
        let mut waiting = self.unsent.waiting.lock();
        if waiting.frames == 0 {
            waiting.since = Instant::now();
        }
        waiting.frames += 1;
        drop(waiting);
        self.send(Frame::data(Bytes::from_owner(Chunk { bytes, unsent: self.unsent.clone(), permits })));
    }

    fn send(&self, frame: Frame<Bytes>) {
        // A body that is dropped has no reader. The stream notices that by itself.
        let _ = self.frames.send(frame);
    }
}
