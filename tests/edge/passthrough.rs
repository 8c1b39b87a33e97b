//! Passthrough: each call is answered with its own token, and nobody sees what another token fetched.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hypersender_grpc::{
    grpc::contact::{CacheControl, CacheStatus, GetProfilePictureResponse},
    sandbox::Sandbox,
};
use tokio::net::TcpListener;
use tonic::Code;

use super::door::{Door, refusal};

const CHAT: &str = "15551230001";
const PASSTHROUGH: (&str, &str) = ("HYPERSENDER_GRPC_CREDENTIALS", "passthrough");

/// A Hypersender that knows the tokens it is told, answers each with a status of its own, and counts.
#[derive(Clone, Default)]
struct Upstream(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    statuses: HashMap<String, u16>,
    calls: Vec<String>,
}

impl Upstream {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let path = "/{instance}/contacts/profile-picture";
        let routes = Router::new().route(path, get(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        address
    }

    fn set(&self, token: &str, status: u16) {
        self.0.lock().unwrap().statuses.insert(token.into(), status);
    }

    /// The tokens it was asked with since the last time.
    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }
}

async fn answer(State(upstream): State<Upstream>, headers: HeaderMap) -> Response {
    let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    let mut book = upstream.0.lock().unwrap();
    let status = book.statuses.get(&token).copied().unwrap_or(401);
    // Each token's link is its own, so that a test sees whose it was given.
    let name = token.replace('|', "_");
    let link = format!("https://pps.whatsapp.net/v/{name}.jpg?oe=7FFFFFFF");
    book.calls.push(token);
    let body = match status {
        200 => format!(r#"{{"message":"Upstream speaks.","data":{{"profilePictureURL":"{link}"}}}}"#),
        _ => r#"{"message":"Upstream speaks."}"#.to_owned(),
    };
    (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn open(upstream: &Upstream) -> Door {
    let base_url = format!("http://{}", upstream.start().await);
    let base_url = ("HYPERSENDER_WHATSAPP_BASE_URL", base_url.as_str());
    Door::open(&[PASSTHROUGH, base_url, ("HYPERSENDER_WHATSAPP_INSTANCE_ID", "shop")]).await
}

fn whose(answer: &GetProfilePictureResponse) -> (&str, CacheStatus) {
    let picture = answer.profile_picture.as_ref().unwrap();
    let (place, _) = picture.url.split_once('?').unwrap();
    (place.rsplit('/').next().unwrap(), answer.cache_info.unwrap().status())
}

#[tokio::test]
async fn each_token_has_its_own_answers() {
    let upstream = Upstream::default();
    upstream.set("12|Zq9mark-first", 200);
    upstream.set("Zq9mark-second", 200);
    let door = open(&upstream).await;
    let check = async |entry: &str, file: &str, status: CacheStatus, asked: &[&str]| {
        let answer = door.look_up(&[entry], "", CHAT).await.unwrap();
        assert_eq!(whose(&answer), (file, status), "{entry}");
        assert_eq!(upstream.take_calls(), asked, "{entry}");
    };
    check("Bearer 12|Zq9mark-first", "12_Zq9mark-first.jpg", CacheStatus::Miss, &["12|Zq9mark-first"]).await;
    check("Bearer Zq9mark-second", "Zq9mark-second.jpg", CacheStatus::Miss, &["Zq9mark-second"]).await;
    check("bearer 12|Zq9mark-first", "12_Zq9mark-first.jpg", CacheStatus::Hit, &[]).await;
    check("BEARER  Zq9mark-second", "Zq9mark-second.jpg", CacheStatus::Hit, &[]).await;

    // What others fetched is not even there for those who ask for cached answers alone.
    let cached = CacheControl { only_if_cached: true, ..Default::default() };
    let status = door.ask(&["Bearer Zq9mark-third"], "", CHAT, cached).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "NOT_CACHED".into()));
    assert_eq!(upstream.take_calls(), [""; 0]);
    assert!(!door.logs().contains("Bearer"));
}

#[tokio::test]
async fn a_call_without_one_token_is_refused_before_anything_else() {
    let upstream = Upstream::default();
    upstream.set("Zq9mark-first", 200);
    let door = open(&upstream).await;
    door.look_up(&["Bearer Zq9mark-first"], "", CHAT).await.unwrap();
    upstream.take_calls();
    for entries in [
        &[][..],
        &[""],
        &["Bearer"],
        &["Bearer "],
        &["Zq9mark-first"],
        &["Basic Zq9mark-first"],
        &["Bearer Zq9mark-first x"],
        &["Bearer Zq9mark-first, Bearer Zq9mark-first"],
        &["Bearer Zq9mark-first", "Bearer Zq9mark-first"],
        &["Bearer Zq9mark-first", "Bearer Zq9mark-second"],
    ] {
        let told = door.look_up(entries, "", CHAT).await.map(drop);
        assert_eq!(told, Err((Code::Unauthenticated, "CALLER_UNKNOWN".into())), "{entries:?}");
    }
    assert_eq!(upstream.take_calls(), [""; 0]);
}

#[tokio::test]
async fn a_token_that_hypersender_rejects_is_the_callers_matter() {
    let upstream = Upstream::default();
    upstream.set("Zq9mark-good", 200);
    upstream.set("Zq9mark-fading", 200);
    upstream.set("Zq9mark-foreign", 403);
    let door = open(&upstream).await;
    for token in ["Bearer Zq9mark-good", "Bearer Zq9mark-fading"] {
        door.look_up(&[token], "", CHAT).await.unwrap();
    }
    let reason = "UPSTREAM_CREDENTIALS_REJECTED";
    upstream.set("Zq9mark-fading", 401);
    for (entry, chat, code) in [
        ("Bearer Zq9mark-nobody", CHAT, Code::Unauthenticated),
        ("Bearer Zq9mark-foreign", CHAT, Code::PermissionDenied),
        // Another contact finds out, and with it everything that the token fetched is out of reach.
        ("Bearer Zq9mark-fading", "15551230002", Code::Unauthenticated),
        ("Bearer Zq9mark-fading", CHAT, Code::Unauthenticated),
    ] {
        let status = door.ask(&[entry], "", chat, CacheControl::default()).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.into()), "{entry}");
        assert!(status.message().contains("the token of this call"), "{status:?}");
        assert!(!status.message().contains("configured"), "{status:?}");
    }
    // The others' are as before, and a rejected token is not asked again at once.
    upstream.take_calls();
    let answer = door.look_up(&["Bearer Zq9mark-good"], "", CHAT).await.unwrap();
    assert_eq!(whose(&answer), ("Zq9mark-good.jpg", CacheStatus::Hit));
    door.look_up(&["Bearer Zq9mark-foreign"], "", "15551230003").await.unwrap_err();
    assert_eq!(upstream.take_calls(), [""; 0]);
}

#[tokio::test]
async fn the_services_own_token_is_not_the_callers_matter() {
    let upstream = Upstream::default();
    upstream.set("Zq9mark-own", 401);
    let base_url = format!("http://{}", upstream.start().await);
    let own = ("HYPERSENDER_WHATSAPP_API_KEY", "Zq9mark-own");
    let door = Door::open(&[own, ("HYPERSENDER_WHATSAPP_BASE_URL", &base_url)]).await;
    for (status, chat) in [(401, CHAT), (403, "15551230002")] {
        upstream.set("Zq9mark-own", status);
        // Another instance each, since a rejected token cools down all of one.
        let instance = format!("shop-{status}");
        let told = door
            .ask(&["Bearer Zq9mark-ignored"], &instance, chat, CacheControl::default())
            .await
            .unwrap_err();
        assert_eq!(refusal(&told), (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED".into()));
        assert!(told.message().contains("the configured token"), "{told:?}");
    }
    assert_eq!(upstream.take_calls(), ["Zq9mark-own", "Zq9mark-own"]);
}

#[tokio::test]
async fn the_sandbox_takes_its_token_from_the_call() {
    let door = Door::open(&[PASSTHROUGH, ("HYPERSENDER_GRPC_SANDBOX", "true")]).await;
    let entry = format!("Bearer {}", Sandbox::TOKEN);
    door.look_up(&[&entry], "", CHAT).await.unwrap();
    let told = door.look_up(&["Bearer Zq9mark-other"], "", CHAT).await.map(drop);
    assert_eq!(told, Err((Code::Unauthenticated, "UPSTREAM_CREDENTIALS_REJECTED".into())));
}
