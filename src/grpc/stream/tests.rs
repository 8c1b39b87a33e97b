//! Streams without a connection, on a stopped clock (rules 42 and 44 to 46). The tests are the reader of the
//! response's body.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use super::*;
use crate::{
    domain::Instance,
    grpc::{
        ContactMethod, Streams,
        contact::{
            StreamProfilePicturesRequest, StreamProfilePicturesResponse, StreamProgress,
            stream_profile_pictures_response::Event,
        },
        testing::{INSTANCE, Upstream, backend, request},
    },
    stack::RateSettings,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A stream that its test reads.
struct Reader {
    upstream: Upstream,
    streams: Streams,
    response: Response<Body>,
    pace: OwnPace,
    indices: HashSet<i32>,
    progress: Vec<StreamProgress>,
}

impl Reader {
    /// Begins a stream of `count` contacts.
    async fn begin(count: usize, rate: RateSettings, upstream: Upstream, recheck: Option<Recheck>) -> Self {
        let backend = backend(rate, &upstream);
        Self::begin_on(&backend, 0..count, upstream, recheck).await
    }

    /// Begins a stream of the contacts with these numbers.
    async fn begin_on<F: LookupService>(
        backend: &Backend<F>,
        numbers: Range<usize>,
        upstream: Upstream,
        recheck: Option<Recheck>,
    ) -> Self {
        let chat_ids = numbers.map(|number| format!("1555{number:07}")).collect();
        let message = StreamProfilePicturesRequest { chat_ids, ..Default::default() };
        let mut request = request(ContactMethod::StreamProfilePictures, &message);
        if let Some(recheck) = recheck {
            request.extensions_mut().insert(recheck);
        }
        let Ok(response) = call(backend, request).await;
        let pace = response.extensions().get::<OwnPace>().expect("a stream watches its reader").clone();
        Self {
            upstream,
            streams: backend.streams.clone(),
            response,
            pace,
            indices: HashSet::new(),
            progress: Vec::new(),
        }
    }

    async fn frame(&mut self) -> Option<Frame<Bytes>> {
        self.response.body_mut().frame().await.map(Result::unwrap)
    }

    /// Reads the messages of a frame, or returns the trailers.
    fn read(&mut self, frame: Frame<Bytes>) -> Option<HeaderMap> {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return frame.into_trailers().ok(),
        };
        while data.has_remaining() {
            data.advance(1);
            let length = data.get_u32() as usize;
            let message = StreamProfilePicturesResponse::decode(data.split_to(length)).unwrap();
            match message.event.unwrap() {
                Event::Result(result) => assert!(self.indices.insert(result.index), "each index once"),
                Event::Progress(progress) => self.progress.push(progress),
            }
        }
        None
    }

    /// Reads to the end, and returns the status.
    async fn end(&mut self) -> Status {
        loop {
            let frame = self.frame().await.expect("a stream ends with trailers");
            if let Some(trailers) = self.read(frame) {
                assert!(self.frame().now_or_never().is_some_and(|frame| frame.is_none()), "nothing follows");
                return Status::from_header_map(&trailers).unwrap();
            }
        }
    }

    fn requests(&self) -> usize {
        self.upstream.requests.load(SeqCst)
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("every error has a reason").reason
}

const SLOWLY: RateSettings = RateSettings { per_second: 1.0, burst: 1 };
const AT_ONCE: RateSettings = RateSettings { per_second: 0.0, burst: 0 };

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_silent_for_10_seconds_sends_its_progress() {
    let upstream = Upstream::default();
    upstream.refuses_once.store(true, SeqCst);
    let begin = SystemTime::now();
    let mut reader = Reader::begin(3, SLOWLY, upstream, None).await;
    let status = reader.end().await;
    assert_eq!(status.code(), Code::Ok);
    assert_eq!(reader.indices.len(), 3, "a pause costs no contact its answer");
    let (last, paused) = reader.progress.split_last().unwrap();
    assert_eq!((last.done, last.failed, last.total), (3, 0, 3));
    assert!((5..=6).contains(&paused.len()), "one for each 10 s of the pause: {paused:?}");
    for progress in &paused[..5] {
        assert_eq!((progress.done, progress.total), (0, 3));
        for at in [progress.paused_until.unwrap(), progress.next_turn_time.unwrap()] {
            let at = SystemTime::try_from(at).unwrap();
            assert!(at > begin, "it is a time of the wall clock");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_ends_a_stream_after_the_look_ups_in_progress() {
    let mut reader = Reader::begin(100, SLOWLY, Upstream::default(), None).await;
    while reader.indices.len() < 3 {
        let frame = reader.frame().await.unwrap();
        assert_eq!(reader.read(frame), None);
    }
    reader.streams.stop();
    let before = reader.requests();
    let status = reader.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SERVER_STOPPING"));
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert_eq!(reader.requests(), before, "no further look-up starts");
    let last = reader.progress.last().unwrap();
    assert_eq!(usize::try_from(last.done).unwrap(), reader.indices.len());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_loses_its_permission_loses_its_stream() {
    let is_known = Arc::new(AtomicBool::new(true));
    let known = is_known.clone();
    let recheck =
        Recheck::new(move |_| if known.load(SeqCst) { Ok(()) } else { Err(Refusal::InstanceNotAllowed) });
    let mut reader = Reader::begin(100, SLOWLY, Upstream::default(), Some(recheck)).await;
    while reader.indices.len() < 3 {
        let frame = reader.frame().await.unwrap();
        assert_eq!(reader.read(frame), None);
    }
    is_known.store(false, SeqCst);
    let begin = Instant::now();
    let status = reader.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "INSTANCE_NOT_ALLOWED"));
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_two_hours() {
    let slowest = RateSettings { per_second: 0.001, burst: 1 };
    let mut reader = Reader::begin(100, slowest, Upstream::default(), None).await;
    let begin = Instant::now();
    let status = reader.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(begin.elapsed().as_secs(), 2 * 60 * 60);
    assert!(reader.indices.len() > 3, "results that were sent stand");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_stops_the_look_ups_and_is_reset_after_5_minutes() {
    let mut reader = Reader::begin(1_000, AT_ONCE, Upstream::default(), None).await;
    let unread = timeout(Duration::from_secs(299), reader.pace.reset.notified());
    assert!(unread.await.is_err(), "it is reset too early");
    let bound = 64 + 64;
    assert!((64..=bound).contains(&reader.requests()), "{} look-ups without a reader", reader.requests());
    // It reads a little, which gives it another 5 minutes.
    let frame = reader.frame().await.unwrap();
    assert_eq!(reader.read(frame), None);
    let unread = timeout(Duration::from_secs(299), reader.pace.reset.notified());
    assert!(unread.await.is_err(), "it is reset although it has read");
    assert!(reader.requests() <= bound + 64, "{} look-ups", reader.requests());
    let begin = Instant::now();
    reader.pace.reset.notified().await;
    assert!(begin.elapsed() <= 5 * MINUTE, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_waits_for_its_reader_too() {
    let reader = Reader::begin(3, AT_ONCE, Upstream::default(), None).await;
    let unread = timeout(4 * MINUTE, reader.pace.reset.notified());
    assert!(unread.await.is_err());
    assert!(timeout(2 * MINUTE, reader.pace.reset.notified()).await.is_ok(), "no result was ever read");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_body_is_dropped_starts_no_further_look_up() {
    let mut reader = Reader::begin(100, SLOWLY, Upstream::default(), None).await;
    while reader.indices.len() < 3 {
        let frame = reader.frame().await.unwrap();
        assert_eq!(reader.read(frame), None);
    }
    *reader.response.body_mut() = Body::empty();
    sleep(Duration::from_secs(1)).await;
    let before = reader.requests();
    sleep(MINUTE).await;
    assert_eq!(reader.requests(), before);
    let permit = reader.streams.begin(&Instance::parse(INSTANCE).unwrap(), &Caller::ANYONE);
    assert!(permit.is_ok());
}

#[tokio::test(start_paused = true)]
async fn frames_hold_few_messages_and_give_back_their_room_when_they_are_dropped() {
    let mut reader = Reader::begin(1_000, AT_ONCE, Upstream::default(), None).await;
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), reader.frame()).await {
        frames.push(frame);
    }
    // The frames are held, as by a transport that cannot write them.
    let messages: usize = frames
        .iter()
        .map(|frame| {
            let mut data = frame.data_ref().unwrap().clone();
            let mut count = 0;
            while data.has_remaining() {
                data.advance(1);
                let length = data.get_u32() as usize;
                data.advance(length);
                count += 1;
            }
            count
        })
        .sum();
    // The progress that is sent after 10 s needs no room.
    assert!((64..=66).contains(&messages), "{messages} messages without a reader");
    for frame in frames.drain(..) {
        assert_eq!(reader.read(frame), None);
    }
    let status = reader.end().await;
    assert_eq!(status.code(), Code::Ok);
    assert_eq!(reader.indices.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_noticed_while_the_stream_waits_for_turns() {
    let slowest = RateSettings { per_second: 0.01, burst: 1 };
    let reader = Reader::begin(100, slowest, Upstream::default(), None).await;
    let unread = timeout(5 * MINUTE + Duration::from_secs(1), reader.pace.reset.notified());
    assert!(unread.await.is_ok(), "few results wait, and none of them is read");
    assert!(reader.requests() < 10, "{} look-ups", reader.requests());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_ended_and_is_not_read_holds_up_no_other_stream() {
    let upstream = Upstream::default();
    let backend = backend(SLOWLY, &upstream);
    let revoked = Recheck::new(|_| Err(Refusal::InstanceNotAllowed));
    let _unread = Reader::begin_on(&backend, 0..100, upstream.clone(), Some(revoked)).await;
    // The permission is checked after a second. Until then this stream is first in the queue.
    sleep(Duration::from_secs(3)).await;
    let mut other = Reader::begin_on(&backend, 200..210, upstream, None).await;
    let ended = timeout(MINUTE, other.end()).await.expect("the turns are free");
    assert_eq!(ended.code(), Code::Ok);
}
