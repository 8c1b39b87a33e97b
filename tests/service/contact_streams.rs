//! `StreamProfilePictures` against the built service: many contacts, each result as soon as it is known
//! (rules 35, 44 and 45).

use std::{collections::HashMap, time::Duration};

use hypersender_grpc::grpc::contact::{
    CacheStatus, ProfilePictureResult, StreamProfilePicturesRequest, StreamProfilePicturesResponse,
    StreamProgress, profile_picture_result::Outcome, stream_profile_pictures_response::Event,
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::support::{Client, Service, patiently, summary};

fn stream<T: Into<String>>(chat_ids: impl IntoIterator<Item = T>) -> StreamProfilePicturesRequest {
    let chat_ids = chat_ids.into_iter().map(Into::into).collect();
    StreamProfilePicturesRequest { chat_ids, ..Default::default() }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("1555777{number:04}")).collect()
}

/// Everything that a stream sent, and its status.
#[derive(Debug, Default)]
struct Read {
    results: Vec<ProfilePictureResult>,
    progress: Vec<StreamProgress>,
    /// Whether the last message was progress.
    ends_in_progress: bool,
    end: Option<Status>,
}

impl Read {
    fn take(&mut self, message: StreamProfilePicturesResponse) {
        self.ends_in_progress = matches!(message.event, Some(Event::Progress(_)));
        match message.event.expect("every message has an event") {
            Event::Result(result) => self.results.push(result),
            Event::Progress(progress) => self.progress.push(progress),
        }
    }

    async fn to_the_end(mut messages: Streaming<StreamProfilePicturesResponse>) -> Self {
        let mut read = Self::default();
        loop {
            match patiently("a message", messages.message()).await {
                Ok(Some(message)) => read.take(message),
                Ok(None) => return read,
                Err(status) => {
                    read.end = Some(status);
                    return read;
                }
            }
        }
    }

    fn indices(&self) -> Vec<i32> {
        let mut indices: Vec<_> = self.results.iter().map(|result| result.index).collect();
        indices.sort_unstable();
        indices
    }

    fn result(&self, index: i32) -> &ProfilePictureResult {
        self.results.iter().find(|result| result.index == index).expect("a result for each index")
    }
}

async fn read(client: &mut Client, request: StreamProfilePicturesRequest) -> Result<Read, Status> {
    let messages = patiently("a response", client.stream_profile_pictures(request)).await?;
    Ok(Read::to_the_end(messages.into_inner()).await)
}

#[tokio::test]
async fn each_index_gets_one_result_and_progress_comes_last() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    let chat_ids = ["15551230001", "abc", "15551230004", "+15551230001", "15551230006", ""];
    let read = read(&mut client, stream(chat_ids)).await.unwrap();
    assert!(read.end.is_none(), "{:?}", read.end);
    assert_eq!(read.indices(), [0, 1, 2, 3, 4, 5]);
    let summaries: Vec<_> = (0..6).map(|index| summary(read.result(index))).collect();
    let expected =
        ["Present", "CHAT_ID_INVALID", "NotAvailable", "Present", "NOT_ON_WHATSAPP", "CHAT_ID_INVALID"];
    assert_eq!(summaries, expected);
    for (result, chat_id) in (0..6).map(|index| read.result(index)).zip(chat_ids) {
        assert_eq!(result.requested_chat_id, chat_id);
    }
    assert_eq!(read.result(0).cache_info, read.result(3).cache_info, "duplicates share a look-up");
    assert!(read.ends_in_progress);
    let last = read.progress.last().unwrap();
    assert_eq!((last.done, last.failed, last.total), (6, 3, 6));
    assert_eq!((last.next_turn_time, last.paused_until), (None, None));
}

#[tokio::test]
async fn ten_thousand_contacts_are_each_answered_once() {
    let service = Service::start(&["--rate", "0", "--cache-entries", "20000"]).await;
    let mut client = service.client().await;
    let first = read(&mut client, stream(numbers(10_000))).await.unwrap();
    assert!(first.end.is_none(), "{:?}", first.end);
    assert_eq!(first.indices(), (0..10_000).collect::<Vec<_>>());
    let second = read(&mut client, stream(numbers(10_000))).await.unwrap();
    assert_eq!(second.indices().len(), 10_000);
    assert!(
        second
            .results
            .iter()
            .all(|result| result.cache_info.is_none_or(|cache| { cache.status() == CacheStatus::Hit }))
    );
    let metrics = service.metrics().await;
    let at = |outcome: &str| {
        metrics.value(&format!("hypersender_results_total{{method=\"stream\",outcome=\"{outcome}\"}}"))
    };
    let sum = ["picture", "not_available", "failed"].map(at).into_iter().sum::<f64>();
    assert!((sum - 20_000.0).abs() < 0.5, "{sum}");
}

#[tokio::test]
async fn a_known_fingerprint_makes_a_small_result_without_a_link() {
    let service = Service::start(&["--rate", "0"]).await;
    let mut client = service.client().await;
    let first = read(&mut client, stream(numbers(200))).await.unwrap();
    let known = first.results.iter().filter_map(|result| match &result.outcome {
        Some(Outcome::ProfilePicture(picture)) if !picture.fingerprint.is_empty() => {
            Some((result.requested_chat_id.clone(), picture.fingerprint.clone()))
        }
        _ => None,
    });
    let known_fingerprints: HashMap<_, _> = known.collect();
    let pictures = known_fingerprints.len();
    assert!(pictures > 100);
    let request = StreamProfilePicturesRequest { known_fingerprints, ..stream(numbers(200)) };
    let second = read(&mut client, request).await.unwrap();
    assert_eq!(second.results.iter().filter(|result| summary(result) == "Unchanged").count(), pictures);
}

#[tokio::test]
async fn the_call_itself_fails_only_for_the_request() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    for (request, code, expected) in [
        (stream([""; 0]), Code::InvalidArgument, "BATCH_SIZE_INVALID"),
        (stream(vec!["15551230001"; 10_001]), Code::InvalidArgument, "BATCH_SIZE_INVALID"),
        (stream(["1".repeat(3 << 20)]), Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (
            StreamProfilePicturesRequest { instance: "no instance".to_owned(), ..stream(["15551230001"]) },
            Code::InvalidArgument,
            "INSTANCE_INVALID",
        ),
    ] {
        let status = read(&mut client, request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, expected);
    }
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_and_keeps_what_it_has_sent() {
    let service = Service::start(&["--rate", "1", "--burst", "1"]).await;
    let mut request = tonic::Request::new(stream(numbers(100)));
    request.set_timeout(Duration::from_secs(3));
    let messages = patiently("a response", service.bare_client().stream_profile_pictures(request)).await;
    let read = Read::to_the_end(messages.unwrap().into_inner()).await;
    let status = read.end.expect("its time is too short");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
    assert!(!read.results.is_empty() && read.results.len() < 100, "{}", read.results.len());
    assert!(read.ends_in_progress);
    let done = read.progress.last().unwrap().done;
    assert_eq!(usize::try_from(done).unwrap(), read.results.len());
}

#[tokio::test]
async fn a_stream_that_comes_during_the_drain_wait_is_served_until_the_goaway() {
    let mut service = Service::start(&["--rate", "2", "--burst", "1", "--drain-wait", "3s"]).await;
    let mut client = service.client().await;
    service.signalled("TERM", "stopping").await;
    let read = read(&mut client, stream(numbers(1_000))).await.expect("its client could not know better");
    let status = read.end.expect("the server stops long before the last result");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "SERVER_STOPPING");
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    // The stream was served during the wait, and each result stands.
    assert!(read.results.len() > 1, "{} results", read.results.len());
    assert!(read.ends_in_progress);
    let done = read.progress.last().unwrap().done;
    assert_eq!(usize::try_from(done), Ok(read.results.len()));
    assert_eq!(service.exit_code().await, 0);
}
