//! Passthrough: each call uses its own token, and no caller sees an answer that was fetched with another
//! token.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex},
};

use hypersender_grpc::{
    grpc::contact::{CacheControl, CacheStatus, GetProfilePictureRequest, GetProfilePictureResponse},
    sandbox::Sandbox,
};
use tonic::Code;

use crate::support::{CHAT, Launch, Refusal, Reply, Service, Upstream, about, picture, refusal};

const PASSTHROUGH: (&str, &str) = ("HYPERSENDER_GRPC_CREDENTIALS", "passthrough");
const BASE_URL: &str = "HYPERSENDER_WHATSAPP_BASE_URL";

/// A Hypersender with a status for each token: 401, unless a test sets another one.
struct Accounts {
    upstream: Upstream,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    statuses: HashMap<String, u16>,
    calls: Vec<String>,
}

impl Accounts {
    async fn start(statuses: &[(&str, u16)]) -> Self {
        let statuses = statuses.iter().map(|(token, status)| ((*token).to_owned(), *status)).collect();
        let book = Arc::new(Mutex::new(Book { statuses, calls: Vec::new() }));
        let accounts = book.clone();
        let upstream = Upstream::answering(move |asked| {
            let token = asked.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
            accounts.lock().unwrap().answer(token)
        });
        Self { upstream: upstream.await, book }
    }

    fn set(&self, token: &str, status: u16) {
        self.book.lock().unwrap().statuses.insert(token.into(), status);
    }

    /// The tokens of the requests since the last time.
    fn take_calls(&self) -> Vec<String> {
        mem::take(&mut self.book.lock().unwrap().calls)
    }
}

impl Book {
    fn answer(&mut self, token: &str) -> Reply {
        self.calls.push(token.to_owned());
        match self.statuses.get(token).copied().unwrap_or(401) {
            // The link contains the token, so that a test sees whose answer a caller gets.
            200 => Reply::picture(&format!(
                "https://pps.whatsapp.net/v/{}.jpg?oe=7FFFFFFF",
                token.replace('|', "_")
            )),
            status => Reply::status(status),
        }
    }
}

async fn open(accounts: &Accounts) -> Service {
    let base_url = accounts.upstream.base_url();
    let shop = ("HYPERSENDER_WHATSAPP_INSTANCE_ID", "shop");
    Launch::serve().variables(&[PASSTHROUGH, (BASE_URL, &base_url), shop]).start().await
}

/// Makes a call for the picture of `chat` with these entries of `authorization`.
async fn look_up(
    service: &Service,
    authorization: &[&str],
    chat: &str,
) -> Result<GetProfilePictureResponse, Refusal> {
    service.ask_as(authorization, about(chat)).await
}

/// The file in the link, which names the token, and the state of the cache.
fn whose(answer: &GetProfilePictureResponse) -> (&str, CacheStatus) {
    let (place, _) = picture(answer).url.split_once('?').unwrap();
    (place.rsplit('/').next().unwrap(), answer.cache_info.unwrap().status())
}

#[tokio::test]
async fn each_token_has_its_own_answers() {
    let accounts = Accounts::start(&[("12|Zq9mark-first", 200), ("Zq9mark-second", 200)]).await;
    let service = open(&accounts).await;
    let check = async |entry: &str, file: &str, status: CacheStatus, asked: &[&str]| {
        let answer = look_up(&service, &[entry], CHAT).await.unwrap();
        assert_eq!(whose(&answer), (file, status), "{entry}");
        assert_eq!(accounts.take_calls(), asked, "{entry}");
    };
    check("Bearer 12|Zq9mark-first", "12_Zq9mark-first.jpg", CacheStatus::Miss, &["12|Zq9mark-first"]).await;
    check("Bearer Zq9mark-second", "Zq9mark-second.jpg", CacheStatus::Miss, &["Zq9mark-second"]).await;
    check("bearer 12|Zq9mark-first", "12_Zq9mark-first.jpg", CacheStatus::Hit, &[]).await;
    check("BEARER  Zq9mark-second", "Zq9mark-second.jpg", CacheStatus::Hit, &[]).await;

    // For a caller with another token, an answer from the cache does not exist either.
    let cached = CacheControl { only_if_cached: true, ..Default::default() };
    let request = GetProfilePictureRequest { cache_control: Some(cached), ..about(CHAT) };
    let refused = service.ask_as(&["Bearer Zq9mark-third"], request).await.unwrap_err();
    assert_eq!(refused, (Code::FailedPrecondition, "NOT_CACHED".into()));
    assert_eq!(accounts.take_calls(), [""; 0]);
    assert!(!service.logs().contains("Bearer"));
}

#[tokio::test]
async fn a_call_without_one_token_is_refused_before_anything_else() {
    let accounts = Accounts::start(&[("Zq9mark-first", 200)]).await;
    let service = open(&accounts).await;
    look_up(&service, &["Bearer Zq9mark-first"], CHAT).await.unwrap();
    accounts.take_calls();
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
        let told = look_up(&service, entries, CHAT).await.map(drop);
        assert_eq!(told, Err((Code::Unauthenticated, "CALLER_UNKNOWN".into())), "{entries:?}");
    }
    assert_eq!(accounts.take_calls(), [""; 0]);
}

#[tokio::test]
async fn a_token_that_hypersender_rejects_is_the_callers_matter() {
    let statuses = [("Zq9mark-good", 200), ("Zq9mark-fading", 200), ("Zq9mark-foreign", 403)];
    let accounts = Accounts::start(&statuses).await;
    let service = open(&accounts).await;
    for token in ["Bearer Zq9mark-good", "Bearer Zq9mark-fading"] {
        look_up(&service, &[token], CHAT).await.unwrap();
    }
    let reason = "UPSTREAM_CREDENTIALS_REJECTED";
    accounts.set("Zq9mark-fading", 401);
    for (entry, chat, code) in [
        ("Bearer Zq9mark-nobody", CHAT, Code::Unauthenticated),
        ("Bearer Zq9mark-foreign", CHAT, Code::PermissionDenied),
        // The call for another contact learns that the token is rejected. From then on the token's cached
        // answers are unreachable, too.
        ("Bearer Zq9mark-fading", "15551230002", Code::Unauthenticated),
        ("Bearer Zq9mark-fading", CHAT, Code::Unauthenticated),
    ] {
        let status = service.ask(about(chat), &[("authorization", entry)]).await.unwrap_err();
        assert_eq!(refusal(&status), (code, reason.into()), "{entry}");
        assert!(status.message().contains("the token of this call"), "{status:?}");
        assert!(!status.message().contains("configured"), "{status:?}");
    }
    // The answers of other tokens stay cached, and a rejected token is not sent again at once.
    accounts.take_calls();
    let answer = look_up(&service, &["Bearer Zq9mark-good"], CHAT).await.unwrap();
    assert_eq!(whose(&answer), ("Zq9mark-good.jpg", CacheStatus::Hit));
    look_up(&service, &["Bearer Zq9mark-foreign"], "15551230003").await.unwrap_err();
    assert_eq!(accounts.take_calls(), [""; 0]);
}

#[tokio::test]
async fn the_services_own_token_is_not_the_callers_matter() {
    let accounts = Accounts::start(&[]).await;
    let own = ("HYPERSENDER_WHATSAPP_API_KEY", "Zq9mark-own");
    let base_url = accounts.upstream.base_url();
    let service = Launch::serve().variables(&[own, (BASE_URL, &base_url)]).start().await;
    for (status, chat) in [(401, CHAT), (403, "15551230002")] {
        accounts.set("Zq9mark-own", status);
        // Each call has another instance, since a rejected token cools down the whole instance.
        let instance = format!("shop-{status}");
        let request = GetProfilePictureRequest { instance, ..about(chat) };
        let told = service.ask(request, &[("authorization", "Bearer Zq9mark-ignored")]).await.unwrap_err();
        assert_eq!(refusal(&told), (Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED".into()));
        assert!(told.message().contains("the configured token"), "{told:?}");
    }
    assert_eq!(accounts.take_calls(), ["Zq9mark-own", "Zq9mark-own"]);
}

#[tokio::test]
async fn the_sandbox_takes_its_token_from_the_call() {
    let service = Service::sandboxed().variables(&[PASSTHROUGH]).start().await;
    let entry = format!("Bearer {}", Sandbox::TOKEN);
    look_up(&service, &[&entry], CHAT).await.unwrap();
    let told = look_up(&service, &["Bearer Zq9mark-other"], CHAT).await.map(drop);
    assert_eq!(told, Err((Code::Unauthenticated, "UPSTREAM_CREDENTIALS_REJECTED".into())));
}
