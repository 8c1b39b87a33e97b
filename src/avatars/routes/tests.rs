use std::hash::RandomState;

use axum::body::Body;
use http::{
    Request,
    header::{AUTHORIZATION, HOST},
};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tower::ServiceExt;

use super::*;
use crate::{
    avatars::{AddressKey, Settings},
    domain::{Allowed, Caller, Credential, Instance},
    server::{Known, TokenHash},
    telemetry::{Metrics, MetricsForm},
};

/// Shows nothing, and notes for which contacts it was asked.
struct Gallery {
    tagger: Tagger,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Show for Gallery {
    async fn show(&self, wanted: Wanted, _: &Seen) -> Shown {
        let Wanted { instance, credential, chat, size } = wanted;
        let token = credential.expose_token();
        self.asked.lock().push(format!("{} {} {token} {size:?}", instance.as_str(), chat.as_str()));
        Shown::NotYet
    }

    fn tagger(&self) -> &Tagger {
        &self.tagger
    }
}

pub(super) struct World {
    routes: Router,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    metrics: Metrics,
    pub(super) addresses: Addresses,
}

impl World {
    /// `shop` has a token, which the caller "secret" may use; `other` has one, which it may not use.
    pub(super) fn new(has_callers: bool, permits: usize) -> Self {
        let source = || {
            let shops = ["shop", "none"].map(|name| Instance::parse(name).unwrap());
            let mut known = Known::default();
            let caller = Caller::new("crm", Allowed::These(Arc::new(shops.into())));
            known.add_token(TokenHash::of("secret"), caller).unwrap();
            Ok(known)
        };
        let of = |name: &str| {
            (
                Instance::parse(name).unwrap(),
                Credential::new(format!("token of {name}").into(), &RandomState::new()),
            )
        };
        let credentials =
            Credentials { by_instance: [of("shop"), of("other")].into(), any: None, default_instance: None };
        let asked = Arc::default();
        let mut metrics = Metrics::new(&[]);
        let settings = Settings {
            root: Some("https://avatars.example".parse().unwrap()),
            keys: vec![AddressKey::new([1; 32])],
            ..Settings::default()
        };
        let addresses = settings.addresses();
        let images = Images {
            pictures: Gallery { tagger: Tagger::new([7; 16]), asked: Arc::clone(&asked) },
            addresses: addresses.clone(),
            credentials: credentials.into(),
            callers: has_callers.then(|| Callers::new(source).unwrap()),
            clock: Clock::system(),
            metrics: metrics.with_avatars(),
            in_progress: InProgress::new(permits),
        };
        Self { routes: images.routes(), asked, metrics, addresses }
    }

    pub(super) async fn send(&self, method: &str, path: &str, token: &str) -> Response {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "avatars.example");
        if !token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        self.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// The status, and the contacts that were asked for.
    async fn check(&self, (method, path, token): (&str, &str, &str), status: u16, asked: &[&str]) {
        let response = self.send(method, path, token).await;
        let row = format!("{method} {path} {token}: {response:?}");
        assert_eq!(response.status(), status, "{row}");
        assert_eq!(*self.asked.lock(), asked, "{row}");
        assert_eq!(response.headers().contains_key("avatar-error"), status >= 400, "{row}");
        self.asked.lock().clear();
    }
}

const PLAIN: &str = "/instances/shop/contacts/15551230001/avatar";

#[tokio::test]
async fn the_plain_address_is_for_known_callers() {
    let world = World::new(true, 8);
    let shown = "shop 15551230001 token of shop S640";
    for (method, path, token, status, asked) in [
        ("GET", PLAIN, "secret", 200, &[shown][..]),
        ("HEAD", PLAIN, "secret", 200, &[shown]),
        (
            "GET",
            "/instances/shop/contacts/%2B15551230001%40C.us/avatar?size=90",
            "secret",
            200,
            &["shop 15551230001@c.us token of shop S96"],
        ),
        ("GET", "/instances/shop/contacts/+15551230001/avatar", "secret", 200, &[shown]),
        ("GET", PLAIN, "", 401, &[]),
        ("GET", PLAIN, "wrong", 401, &[]),
        ("GET", "/instances/shop/contacts/15551230001/avatar?size=1", "secret", 400, &[]),
        // The caller is checked before anything else is said about the address.
        ("GET", "/instances/shop/contacts/15551230001/avatar?size=1", "", 401, &[]),
        ("GET", "/instances/x%20/contacts/1/avatar", "", 401, &[]),
        ("GET", "/instances/other/contacts/15551230001/avatar", "secret", 403, &[]),
        ("GET", "/instances/none/contacts/15551230001/avatar", "secret", 404, &[]),
        ("GET", "/instances/x%20/contacts/15551230001/avatar", "secret", 400, &[]),
        ("GET", "/instances/shop/contacts/1/avatar", "secret", 400, &[]),
        ("GET", "/instances/shop/contacts/1555123%/avatar", "secret", 400, &[]),
        ("GET", "/instances/shop/contacts/1555123%ff/avatar", "secret", 400, &[]),
        ("GET", "/instances/shop/contacts/15551230001/15551230001/avatar", "secret", 400, &[]),
        ("GET", "/instances//contacts/15551230001/avatar", "secret", 404, &[]),
        ("GET", "/instances/shop/contacts//avatar", "secret", 404, &[]),
        ("GET", "/instances/shop/contacts/15551230001/avatars", "secret", 404, &[]),
        ("POST", PLAIN, "secret", 405, &[]),
        ("OPTIONS", PLAIN, "", 405, &[]),
        ("GET", "/", "secret", 404, &[]),
        ("GET", "/favicon.ico", "", 404, &[]),
    ] {
        world.check((method, path, token), status, asked).await;
    }
}

#[tokio::test]
async fn without_callers_there_is_no_plain_address() {
    let world = World::new(false, 8);
    for token in ["", "secret"] {
        world.check(("GET", PLAIN, token), 404, &[]).await;
    }
}

#[tokio::test]
async fn a_sealed_address_needs_no_caller() {
    let url = |world: &World, instance, chat| {
        let (instance, chat) = (Instance::parse(instance).unwrap(), ChatId::parse(chat).unwrap());
        let url = world.addresses.url(&instance, &chat, Clock::system().now().wall).unwrap();
        url.strip_prefix("https://avatars.example").unwrap().to_owned()
    };
    for has_callers in [false, true] {
        let world = World::new(has_callers, 8);
        let path = url(&world, "shop", "15551230001");
        assert!(path.starts_with("/avatars/"), "{path}");
        let shown = "shop 15551230001 token of shop S640";
        let sized = format!("{path}?size=48&utm_source=x");
        world.check(("GET", &path, ""), 200, &[shown]).await;
        world.check(("HEAD", &path, "wrong"), 200, &[shown]).await;
        world.check(("GET", &sized, ""), 200, &["shop 15551230001 token of shop S48"]).await;
        world.check(("GET", &format!("{path}?default=x"), ""), 400, &[]).await;
        world.check(("GET", &format!("{path}A"), ""), 404, &[]).await;
        world.check(("GET", &format!("{path}/"), ""), 404, &[]).await;
        world.check(("GET", "/avatars/", ""), 404, &[]).await;
        world.check(("DELETE", &path, ""), 405, &[]).await;
        // This server has no token for the instance any more.
        world.check(("GET", &url(&world, "none", "15551230001"), ""), 404, &[]).await;
    }
}

#[tokio::test]
async fn all_addresses_that_show_nothing_have_the_same_response() {
    let world = World::new(false, 8);
    let mut responses = Vec::new();
    for path in ["/avatars/AAAA", "/avatars/%41", "/", PLAIN] {
        let (head, body) = world.send("GET", path, "").await.into_parts();
        responses.push((head.status, head.headers, body.collect().await.unwrap().to_bytes()));
    }
    assert!(responses.windows(2).all(|pair| pair[0] == pair[1]), "{responses:?}");
}

#[tokio::test]
async fn a_request_too_many_is_refused_at_once() {
    let world = World::new(true, 0);
    world.check(("GET", PLAIN, "secret"), 503, &[]).await;
    let text = world.metrics.text(MetricsForm::Prometheus);
    let line = "hypersender_avatar_requests_total{status=\"503\",outcome=\"refused\"} 1";
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_gets_the_silhouette_and_400() {
    let world = World::new(true, 8);
    for hosts in [&[][..], &["avatars.example", "avatars.example"]] {
        let mut request = Request::builder().uri(PLAIN).header(AUTHORIZATION, "Bearer secret");
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let response = world.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "image/svg+xml");
        let error = response.headers()["avatar-error"].to_str().unwrap();
        assert!(error.contains("one host"), "{error}");
    }
    assert!(world.asked.lock().is_empty());
}

#[tokio::test]
async fn no_error_repeats_the_address() {
    let world = World::new(true, 8);
    for path in [
        "/instances/shop/contacts/155512345678901234567/avatar",
        "/instances/Lovelace%20/contacts/15551230001/avatar",
        "/instances/shop/contacts/15551230001/avatar?name=Lovelace%ff",
        "/instances/shop/contacts/15551230001/avatar?default=Lovelace",
        "/avatars/Lovelace",
    ] {
        let (head, body) = world.send("GET", path, "secret").await.into_parts();
        assert!(head.status.is_client_error());
        let text = format!("{:?}{:?}", head.headers, body.collect().await.unwrap().to_bytes());
        assert!(!text.contains("Lovelace") && !text.contains("15551"), "{text}");
    }
}
