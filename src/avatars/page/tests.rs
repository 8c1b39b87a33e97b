use std::{collections::HashMap, hash::RandomState};

use axum::{body::Body, http::Request};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use url::Url;

use super::*;
use crate::{domain::Credential, sandbox, stack, telemetry::Metrics};

const PICTURE: &str = "15551230001";
const ABSENT: &str = "15551230004";
const NOT_ON_WHATSAPP: &str = "15551230006";
const REJECTED: &str = "15551230007";

/// The port of a service with a sandbox.
struct Port {
    sandbox: sandbox::Sandbox,
    routes: Router,
}

impl Port {
    async fn start() -> Self {
        let sandbox = sandbox::Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let metrics = Metrics::new(&crate::grpc::methods());
        let mut settings = stack::Settings::default();
        settings.cache.refresh_floor = std::time::Duration::ZERO;
        let base_url = Url::parse(&sandbox.base_url()).unwrap();
        let upstream = stack::Upstream::new(
            base_url,
            stack::UpstreamSettings::default(),
            Clock::system(),
            metrics.lookups.clone(),
        );
        let (_, stack) = stack::stack(settings, Clock::system(), &metrics.lookups, None, upstream.unwrap());
        let token = Credential::new(sandbox::Sandbox::TOKEN.into(), &RandomState::new());
        let credentials = Credentials { any: Some(token), ..Credentials::default() };
        let shown = Sandbox {
            control: sandbox.address(),
            instance: Instance::parse(sandbox::Sandbox::INSTANCE).unwrap(),
            numbers: sandbox::Sandbox::numbers()
                .map(|(number, about)| SandboxNumber { number, about })
                .collect(),
        };
        let address = |_: &Instance, chat: &crate::domain::ChatId| {
            Some(format!("https://avatars.example.com/below/avatars/sealed-{}", chat.as_str()))
        };
        let routes = with_addresses(shown, stack, &credentials, Box::new(address));
        Self { sandbox, routes: loopback_only(routes) }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, http::HeaderMap, String) {
        self.send(request(Method::GET, path, &[], "")).await
    }

    /// The answer to an action of the page.
    async fn act(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let headers = [("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
        let (status, _, body) = self.send(request(Method::POST, path, &headers, &body.to_string())).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn ask(&self, number: &str, again: bool) -> Value {
        let (status, contact) = self.act("/_page/ask", json!({ "number": number, "again": again })).await;
        assert_eq!(status, 200, "{contact}");
        contact
    }

    async fn state(&self) -> (HashMap<String, Value>, Value) {
        let (status, _, body) = self.get("/_page/state").await;
        assert_eq!(status, 200);
        let mut state: Value = serde_json::from_str(&body).unwrap();
        let contacts: Vec<Value> = serde_json::from_value(state["contacts"].take()).unwrap();
        let number = |contact: &Value| contact["number"].as_str().unwrap().to_owned();
        (contacts.into_iter().map(|contact| (number(&contact), contact)).collect(), state["upstream"].take())
    }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", "127.0.0.1:8080");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn the_page_is_one_document_with_a_policy_of_its_own() {
    let port = Port::start().await;
    let (status, headers, html) = port.get("/").await;
    assert_eq!(
        (status.as_u16(), &headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(html.starts_with("<!DOCTYPE html>"));
    let policy = headers["content-security-policy"].to_str().unwrap();
    for part in [
        "default-src 'none'; img-src 'self'; connect-src 'self'; script-src 'sha256-",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    for path in ["/", "/_page/state", "/_page/icon.svg"] {
        let (status, headers, _) = port.get(path).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin", "{path}");
        assert!(!headers.contains_key("access-control-allow-origin"), "{path}");
    }
}

#[tokio::test]
async fn the_state_asks_nobody_and_each_look_up_has_its_status() {
    let port = Port::start().await;
    let (contacts, upstream) = port.state().await;
    assert_eq!((contacts.len(), &upstream["look_ups"]), (15, &json!(0)));
    assert_eq!(contacts[PICTURE]["status"], Value::Null);
    assert_eq!(contacts[PICTURE]["error"], Value::Null);
    assert_eq!(contacts[PICTURE]["avatar"], json!(format!("/avatars/sealed-{PICTURE}")));

    let first = port.ask(PICTURE, false).await;
    assert_eq!((&first["status"], &first["finding"]), (&json!("MISS"), &json!("picture")));
    assert_eq!(port.ask(PICTURE, false).await["status"], "HIT");
    assert_eq!(port.ask(PICTURE, true).await["status"], "REFRESHED");
    let (contacts, upstream) = port.state().await;
    assert_eq!(
        (&contacts[PICTURE]["status"], &contacts[PICTURE]["version"]),
        (&json!("HIT"), &first["version"])
    );
    assert_eq!(upstream["look_ups_by_number"], json!({ PICTURE: 2 }));
    assert_eq!(upstream["images"], 0);
}

#[tokio::test]
async fn a_number_without_a_picture_has_its_reason() {
    let port = Port::start().await;
    let absent = port.ask(ABSENT, false).await;
    assert_eq!((&absent["finding"], &absent["error"]), (&json!("absent"), &Value::Null));
    let missing = port.ask(NOT_ON_WHATSAPP, false).await;
    assert_eq!(
        (&missing["finding"], &missing["error"]["reason"]),
        (&json!("not_found"), &json!("NOT_ON_WHATSAPP"))
    );
    let rejected = port.ask(REJECTED, false).await;
    assert_eq!(
        (&rejected["status"], &rejected["error"]["reason"]),
        (&Value::Null, &json!("UPSTREAM_CREDENTIALS_REJECTED"))
    );

    let (contacts, _) = port.state().await;
    assert_eq!(contacts[ABSENT]["status"], "HIT");
    assert_eq!(contacts[NOT_ON_WHATSAPP]["error"], missing["error"]);
    assert_eq!(contacts[REJECTED]["error"], rejected["error"], "the last failure stays");
    // The rejected token belongs to another instance, so that it does not empty the cache of the others.
    assert_ne!(contacts[REJECTED]["instance"], contacts[ABSENT]["instance"]);
}

#[tokio::test]
async fn a_changed_picture_is_seen_with_the_next_answer() {
    let port = Port::start().await;
    let before = port.ask(PICTURE, false).await;
    assert_eq!(port.act("/_page/change", json!({ "number": PICTURE })).await.0, 204);
    assert_eq!(port.ask(PICTURE, false).await["version"], before["version"]);
    let after = port.ask(PICTURE, true).await;
    assert_eq!(after["status"], "REFRESHED");
    assert_ne!(after["version"], before["version"]);
}

#[tokio::test]
async fn other_sites_take_no_action() {
    let port = Port::start().await;
    port.ask(PICTURE, false).await;
    let before = port.ask(PICTURE, true).await["version"].clone();
    let json = ("content-type", "application/json");
    let (ask, change) = (json!({ "number": ABSENT }).to_string(), json!({ "number": PICTURE }).to_string());
    let ours = ("sec-fetch-site", "same-origin");
    for (status, headers) in [
        // A form and a fetch of another site, of another port of this machine, and of no browser.
        (403, vec![("sec-fetch-site", "cross-site"), ("content-type", "text/plain")]),
        (403, vec![("sec-fetch-site", "cross-site"), json]),
        (403, vec![("sec-fetch-site", "same-site"), json]),
        (403, vec![("sec-fetch-site", "none"), json]),
        (403, vec![json]),
        (403, vec![ours, ("sec-fetch-site", "cross-site"), json]),
        // A name that another site lets resolve to this machine.
        (421, vec![ours, json, ("host", "attacker.example:8080")]),
        (421, vec![ours, json, ("host", "localhost.attacker.example")]),
        (421, vec![ours, json, ("host", "localhost"), ("host", "localhost")]),
        // A form of the page itself is none of its actions.
        (415, vec![ours, ("content-type", "text/plain")]),
        (415, vec![ours, ("content-type", "application/x-www-form-urlencoded")]),
    ] {
        for (path, body) in [("/_page/ask", &ask), ("/_page/change", &change)] {
            let (got, answered, text) = port.send(request(Method::POST, path, &headers, body)).await;
            assert_eq!(got.as_u16(), status, "{headers:?}: {text}");
            assert!(!answered.contains_key("access-control-allow-origin"), "{headers:?}");
        }
    }
    // An image, a link, and the question that a browser asks before it sends JSON to another site.
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT] {
        for path in ["/_page/ask", "/_page/change"] {
            let (got, answered, _) = port.send(request(method.clone(), path, &[ours, json], &change)).await;
            assert_eq!(got, 405, "{method} {path}");
            assert!(!answered.contains_key("access-control-allow-methods"), "{method} {path}");
        }
    }
    assert_eq!(port.get("/_page/state").await.0, 200);
    let hidden = port.send(request(Method::GET, "/_page/state", &[("host", "attacker.example")], "")).await;
    assert_eq!(hidden.0, 421);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(hidden.1[name], value, "{name}");
    }
    assert_eq!(port.sandbox.calls(), 2);
    assert_eq!(port.ask(PICTURE, true).await["version"], before, "no picture has changed");
}

#[tokio::test]
async fn an_action_that_cannot_be_understood_names_the_field() {
    let port = Port::start().await;
    for (body, status, named) in [
        (json!({}), 422, "`number`"),
        (json!({ "number": 5 }), 422, "number"),
        (json!({ "number": PICTURE, "max_age": 0 }), 422, "`max_age`"),
        (json!({ "number": "1" }), 404, "number"),
        (json!({ "number": "1".repeat(2000) }), 413, "length limit"),
    ] {
        for path in ["/_page/ask", "/_page/change"] {
            let (got, answer) = port.act(path, body.clone()).await;
            assert_eq!(got.as_u16(), status, "{path} {body}");
            assert!(answer["error"].as_str().unwrap().contains(named), "{path} {body}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_sandbox_that_is_gone_is_reported() {
    let port = Port::start().await;
    let Port { sandbox, routes } = port;
    let address = sandbox.address();
    drop(sandbox);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let answer = routes.clone().oneshot(request(Method::GET, "/_page/state", &[], "")).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let state: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(state["upstream"], Value::Null);
    assert_eq!(state["contacts"].as_array().map(Vec::len), Some(15));
    let headers = [("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
    let body = json!({ "number": PICTURE }).to_string();
    let answer = routes.oneshot(request(Method::POST, "/_page/change", &headers, &body)).await.unwrap();
    assert_eq!(answer.status(), 502);
}
