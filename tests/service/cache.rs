//! The cache: calls that cause no request to Hypersender.

use std::time::Duration;

use futures_util::future::join_all;
use hypersender_grpc::grpc::contact::{
    CacheInfo, CacheStatus, GetProfilePictureRequest, GetProfilePictureResponse,
};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;

use crate::support::{
    CHAT, Client, DOCUMENTED_ABSENCE, Fault, INSTANCE, Reply, Service, Upstream, about, link, link_until,
    patiently, picture, unix_seconds,
};

const DAY_SECONDS: i64 = 24 * 60 * 60;

fn fresh() -> Reply {
    Reply::picture(&link("374498176", DAY_SECONDS))
}

async fn ask(client: &mut Client, chat_id: &str) -> Result<GetProfilePictureResponse, Status> {
    client.get_profile_picture(about(chat_id)).await.map(tonic::Response::into_inner)
}

fn cache_info(response: &GetProfilePictureResponse) -> CacheInfo {
    response.cache_info.expect("every response tells how it was found")
}

#[tokio::test]
async fn a_second_call_is_a_hit_with_an_age_and_a_lifetime() {
    for reply in [fresh(), Reply::json(200, DOCUMENTED_ABSENCE)] {
        let upstream = Upstream::start([reply]).await;
        let service = Service::asking(&upstream).start().await;
        let mut client = service.client().await;
        let first = ask(&mut client, CHAT).await.unwrap();
        let second = ask(&mut client, CHAT).await.unwrap();
        let cache = cache_info(&second);
        assert_eq!((cache_info(&first).status(), cache.status()), (CacheStatus::Miss, CacheStatus::Hit));
        let zero = prost_types::Duration::default();
        assert!(cache.age.unwrap().nanos > 0 || cache.age.unwrap().seconds > 0);
        assert!(cache.ttl.unwrap().seconds > 0, "{cache:?}");
        assert!(!cache.collapsed);
        assert_eq!(cache_info(&first).age, Some(zero));
        assert_eq!(first.profile_picture, second.profile_picture);
        assert_eq!(upstream.calls(), 1);
    }
}

#[tokio::test]
async fn that_a_contact_is_not_there_is_kept() {
    let missing = r#"{"errors":{"exists":false}}"#;
    for reply in [Reply::status(404), Reply::json(422, missing)] {
        let upstream = Upstream::start([reply, fresh()]).await;
        let service = Service::asking(&upstream).start().await;
        let mut client = service.client().await;
        for _ in 0..3 {
            assert_eq!(ask(&mut client, CHAT).await.unwrap_err().code(), Code::NotFound);
        }
        assert_eq!(upstream.calls(), 1);
    }
}

/// Checks that a failure is not stored: after its cool-down, upstream is asked again.
async fn check_not_kept(failure: Reply) {
    let upstream = Upstream::start([failure.clone(), fresh()]).await;
    let service = Service::asking(&upstream).flags(&["--attempts", "1"]).start().await;
    let mut client = service.client().await;
    ask(&mut client, CHAT).await.unwrap_err();
    let answered = async {
        loop {
            match ask(&mut client, CHAT).await {
                Ok(response) => break response,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let response = patiently("an answer after a failure", answered).await;
    assert_eq!(cache_info(&response).status(), CacheStatus::Miss, "{failure:?}");
    assert_eq!(upstream.calls(), 2, "{failure:?}");
}

#[tokio::test]
async fn failures_are_not_kept() {
    let checks = [400, 401, 429, 500, 502, 503].map(Reply::status).map(check_not_kept);
    join_all(checks).await;
    let state = r#"{"session":"x","status":"FAILED"}"#;
    let checks = [Reply::html(200), Reply::cut(), Reply::json(422, state)].map(check_not_kept);
    join_all(checks).await;
}

#[tokio::test]
async fn ten_thousand_cold_calls_of_one_key_ask_once() {
    const CONNECTIONS: usize = 50;
    const CALLS: usize = 10_000;
    let upstream = Upstream::start([fresh().held()]).await;
    let flags = ["--deadline", "30s", "--attempt-timeout", "15s"];
    let service = Service::asking(&upstream).flags(&flags).start().await;
    let clients = join_all((0..CONNECTIONS).map(|_| service.client())).await;
    let calls = (0..CALLS).map(|call| {
        let mut client = clients[call % CONNECTIONS].clone();
        async move { ask(&mut client, CHAT).await }
    });
    let release = async {
        upstream.called(1).await;
        // A call that comes after this second is a hit. Only the number of collapsed calls depends on it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        upstream.release();
    };
    let (responses, ()) = tokio::join!(join_all(calls), release);
    let responses: Vec<_> = responses.into_iter().map(Result::unwrap).collect();
    assert_eq!(responses.len(), CALLS);
    assert!(responses.iter().any(|response| cache_info(response).collapsed));
    assert!(responses.iter().any(|response| !cache_info(response).collapsed));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_nobody_along() {
    let upstream = Upstream::start([fresh().held()]).await;
    let service = Service::asking(&upstream).flags(&["--attempt-timeout", "15s"]).start().await;
    let mut leader = service.client().await;
    let leader = tokio::spawn(async move { ask(&mut leader, CHAT).await });
    upstream.called(1).await;
    let mut client = service.client().await;
    let followers = join_all((0..10).map(|_| {
        let mut client = client.clone();
        async move { ask(&mut client, CHAT).await }
    }));
    let leave = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        leader.abort();
        tokio::time::sleep(Duration::from_millis(300)).await;
        upstream.release();
    };
    let (responses, ()) = tokio::join!(followers, leave);
    for response in responses {
        response.unwrap();
    }
    assert_eq!(cache_info(&ask(&mut client, CHAT).await.unwrap()).status(), CacheStatus::Hit);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn an_attempt_that_everybody_left_still_fills_the_cache() {
    let upstream = Upstream::start([fresh().held()]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(service.channel().await);
    let caller = tokio::spawn({
        let mut client = client.clone();
        async move { ask(&mut client, CHAT).await }
    });
    upstream.called(1).await;
    caller.abort();
    health.check(HealthCheckRequest::default()).await.unwrap();
    upstream.release();
    ask(&mut client, CHAT).await.unwrap();
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn different_keys_share_nothing() {
    let upstream = Upstream::start([fresh()]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    let other = "0b9f6c1e-53d2-4a57-8e0c-2f1d7a4b6c98";
    let keys = [
        ("", "15551230001"),
        ("", "15551230001@c.us"),
        ("", "15551230001@lid"),
        (other, "15551230001"),
        ("SHOP", "15551230001"),
        ("shop", "15551230001"),
    ];
    for (calls, (instance, chat_id)) in keys.into_iter().enumerate() {
        let request = GetProfilePictureRequest { instance: instance.into(), ..about(chat_id) };
        let response = client.get_profile_picture(request).await.unwrap().into_inner();
        assert_eq!(cache_info(&response).status(), CacheStatus::Miss, "{instance} {chat_id}");
        assert_eq!(upstream.calls(), calls + 1, "{instance} {chat_id}");
    }
    let same = [
        (INSTANCE, "+15551230001"),
        ("9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D", "15551230001"),
        ("", "15551230001@s.whatsapp.net"),
    ];
    for (instance, chat_id) in same {
        let request = GetProfilePictureRequest { instance: instance.into(), ..about(chat_id) };
        let response = client.get_profile_picture(request).await.unwrap().into_inner();
        assert_eq!(cache_info(&response).status(), CacheStatus::Hit, "{instance} {chat_id}");
    }
}

#[tokio::test]
async fn rejected_credentials_put_what_is_stored_out_of_reach() {
    let upstream = Upstream::start([fresh(), Reply::status(401)]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    ask(&mut client, "15551230001").await.unwrap();
    for chat_id in ["15551230002", "15551230001"] {
        let status = ask(&mut client, chat_id).await.unwrap_err();
        assert_eq!(Fault::from(&status).reason, "UPSTREAM_CREDENTIALS_REJECTED", "{chat_id}");
    }
}

#[tokio::test]
async fn a_stored_link_is_not_handed_out_in_its_last_minute() {
    // Both links lead to the same picture. The first one reaches its last minute during this test or, on a
    // slow machine, before it.
    let last_minute = unix_seconds() + 3;
    let [short, long] = [last_minute + 60, last_minute + 86_400].map(|end| link_until("374498176", end));
    let upstream = Upstream::start([Reply::picture(&short), Reply::picture(&long)]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    let handed_out = async {
        let mut handed_out = 0;
        loop {
            let begin = unix_seconds();
            let response = ask(&mut client, CHAT).await.unwrap();
            if picture(&response).url == long {
                break handed_out;
            }
            assert_eq!(picture(&response).url, short);
            assert!(begin < last_minute, "handed out in its last minute");
            handed_out += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let handed_out = patiently("the longer link", handed_out).await;
    assert!(handed_out > 0 || unix_seconds() >= last_minute);
    assert_eq!(upstream.calls(), 2);
}
