//! `BatchGetProfilePictures` against the built service: one call for as many as 100 contacts
//! (rules 35 and 36).

use std::collections::HashMap;

use hypersender_grpc::grpc::contact::{
    BatchGetProfilePicturesRequest, BatchGetProfilePicturesResponse, CacheControl, CacheStatus,
    ProfilePictureResult, profile_picture_result::Outcome,
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Client, INSTANCE, Reply, Service, Upstream, about, patiently, summary};

fn batch<T: Into<String>>(chat_ids: impl IntoIterator<Item = T>) -> BatchGetProfilePicturesRequest {
    let chat_ids = chat_ids.into_iter().map(Into::into).collect();
    BatchGetProfilePicturesRequest { chat_ids, ..Default::default() }
}

async fn ask(
    client: &mut Client,
    request: BatchGetProfilePicturesRequest,
) -> Result<BatchGetProfilePicturesResponse, Status> {
    let answer = patiently("an answer", client.batch_get_profile_pictures(request)).await;
    answer.map(tonic::Response::into_inner)
}

fn fingerprint(result: &ProfilePictureResult) -> String {
    match &result.outcome {
        Some(Outcome::ProfilePicture(picture)) => picture.fingerprint.clone(),
        _ => panic!("{result:?} has a picture"),
    }
}

#[tokio::test]
async fn each_contact_has_its_own_answer_in_the_order_of_the_request() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    let chat_ids = ["15551230001", "abc", "15551230004", "+15551230001 ", "15551230006", ""];
    let response = ask(&mut client, batch(chat_ids)).await.unwrap();
    let summaries: Vec<_> = response.results.iter().map(summary).collect();
    let expected =
        ["Present", "CHAT_ID_INVALID", "NotAvailable", "Present", "NOT_ON_WHATSAPP", "CHAT_ID_INVALID"];
    assert_eq!(summaries, expected);
    assert_eq!(response.failed_count, 3);
    for (index, (result, chat_id)) in response.results.iter().zip(chat_ids).enumerate() {
        assert_eq!(usize::try_from(result.index), Ok(index));
        assert_eq!(result.requested_chat_id, chat_id);
        let is_error = matches!(result.outcome, Some(Outcome::Error(_)));
        assert_eq!(result.cache_info.is_none(), is_error, "{chat_id:?}");
    }
    // Duplicates are equal in canonical form: one look-up, and the same cache_info.
    assert_eq!(response.results[0].cache_info, response.results[3].cache_info);
    assert_eq!(response.results[0].outcome, response.results[3].outcome);
}

#[tokio::test]
async fn a_result_has_the_status_that_a_single_call_has() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    for chat_id in ["abc", "15551230006"] {
        let single = client.get_profile_picture(about(chat_id)).await.unwrap_err();
        let response = ask(&mut client, batch([chat_id])).await.unwrap();
        let Some(Outcome::Error(error)) = &response.results[0].outcome else { panic!("{response:?}") };
        assert_eq!((error.code, error.message.as_str()), (single.code() as i32, single.message()));
        assert_eq!(error.encode_to_vec(), single.details(), "the same details, for {chat_id:?}");
    }
}

#[tokio::test]
async fn a_second_batch_comes_from_memory_and_costs_no_request() {
    let service = Service::start(&["--rate", "0"]).await;
    let mut client = service.client().await;
    let chat_ids: Vec<_> = (0..100).map(|number| format!("1555777{number:04}")).collect();
    let first = ask(&mut client, batch(chat_ids.clone())).await.unwrap();
    let second = ask(&mut client, batch(chat_ids)).await.unwrap();
    assert_eq!((first.failed_count, second.failed_count), (0, 0));
    for (first, second) in first.results.iter().zip(&second.results) {
        assert_eq!(first.cache_info.unwrap().status(), CacheStatus::Miss);
        assert_eq!(second.cache_info.unwrap().status(), CacheStatus::Hit);
        assert_eq!(first.outcome, second.outcome);
    }
}

#[tokio::test]
async fn a_picture_that_the_caller_knows_is_unchanged() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    let response = ask(&mut client, batch(["15551230001", "15551230004"])).await.unwrap();
    let known = fingerprint(&response.results[0]);
    let known_fingerprints = HashMap::from([
        ("15551230001".to_owned(), known.clone()),
        // The key must be the text of the request, so that this one is ignored.
        ("15551230001@c.us".to_owned(), known),
        ("15551230004".to_owned(), String::new()),
        ("15551239999".to_owned(), "unknown".to_owned()),
    ]);
    let chat_ids = ["15551230001", "15551230004", " 15551230001"];
    let request = BatchGetProfilePicturesRequest { known_fingerprints, ..batch(chat_ids) };
    let response = ask(&mut client, request).await.unwrap();
    let summaries: Vec<_> = response.results.iter().map(summary).collect();
    assert_eq!(summaries, ["Unchanged", "NotAvailable", "Present"]);
    assert_eq!(response.results[0].cache_info.unwrap().status(), CacheStatus::Hit);
}

#[tokio::test]
async fn the_call_itself_fails_only_for_the_request() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    let one = || batch(["15551230001"]);
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let cache_control = Some(CacheControl { max_age: Some(negative), ..Default::default() });
    let known = |count: usize| (0..count).map(|index| (index.to_string(), "x".to_owned())).collect();
    for (request, code, reason, field) in [
        (batch([""; 0]), Code::InvalidArgument, "BATCH_SIZE_INVALID", Some("chat_ids")),
        (batch(["15551230001"; 101]), Code::InvalidArgument, "BATCH_SIZE_INVALID", Some("chat_ids")),
        (
            BatchGetProfilePicturesRequest { known_fingerprints: known(101), ..one() },
            Code::InvalidArgument,
            "BATCH_SIZE_INVALID",
            Some("known_fingerprints"),
        ),
        (
            BatchGetProfilePicturesRequest { instance: "no instance".to_owned(), ..one() },
            Code::InvalidArgument,
            "INSTANCE_INVALID",
            Some("instance"),
        ),
        (
            BatchGetProfilePicturesRequest { cache_control, ..one() },
            Code::InvalidArgument,
            "CACHE_CONTROL_INVALID",
            Some("cache_control.max_age"),
        ),
        (batch(["1".repeat(600 << 10)]), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", None),
    ] {
        let status = ask(&mut client, request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, reason);
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
        let named = violations.and_then(|mut violations| violations.pop()).map(|violation| violation.field);
        assert_eq!(named.as_deref(), field);
    }
    let hundred = ask(&mut client, batch(["15551230001"; 100])).await.unwrap();
    assert_eq!((hundred.results.len(), hundred.failed_count), (100, 0));
    let largest = BatchGetProfilePicturesRequest { known_fingerprints: known(100), ..one() };
    ask(&mut client, largest).await.unwrap();
}

#[tokio::test]
async fn a_large_batch_is_read_although_its_message_is_no_small_one() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    let known_fingerprints = (0..100).map(|index| (index.to_string(), "f".repeat(4000))).collect();
    let request = BatchGetProfilePicturesRequest { known_fingerprints, ..batch(["15551230001"]) };
    assert!(request.encoded_len() > 400_000);
    let response = ask(&mut client, request).await.unwrap();
    assert_eq!(summary(&response.results[0]), "Present");
}

#[tokio::test]
async fn only_if_cached_answers_each_contact_by_itself() {
    let service = Service::start(&[]).await;
    let mut client = service.client().await;
    ask(&mut client, batch(["15551230001"])).await.unwrap();
    let cache_control = Some(CacheControl { only_if_cached: true, ..Default::default() });
    let request = BatchGetProfilePicturesRequest { cache_control, ..batch(["15551230001", "15551230002"]) };
    let response = ask(&mut client, request).await.unwrap();
    let summaries: Vec<_> = response.results.iter().map(summary).collect();
    assert_eq!(summaries, ["Present", "NOT_CACHED"]);
}

#[tokio::test]
async fn look_ups_that_do_not_end_in_time_fail_alone() {
    let upstream = Upstream::start([Reply::hang()]).await;
    let service = Service::asking(&upstream).flags(&["--rate", "1", "--burst", "1"]).start().await;
    let mut request = tonic::Request::new(BatchGetProfilePicturesRequest {
        instance: INSTANCE.to_owned(),
        ..batch(["15551230001", "15551230002", "15551230003", "15551230004", "abc"])
    });
    request.set_timeout(std::time::Duration::from_millis(1500));
    let mut client = service.bare_client();
    let response = patiently("an answer", client.batch_get_profile_pictures(request)).await.unwrap();
    let mut summaries: Vec<_> = response.into_inner().results.iter().map(summary).collect();
    summaries.sort_unstable();
    // Two turns come in time, and nothing answers them.
    let expected =
        ["CHAT_ID_INVALID", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "RATE_LIMITED", "RATE_LIMITED"];
    assert_eq!(summaries, expected);
}
