//! The stand-in for the Hypersender REST API and for WhatsApp's CDN: numbers with known answers, faults on
//! demand, and a count of the look-ups and downloads. Its answers follow the vendor's documentation, byte for
//! byte where that shows one.
//!
//! Deliberately not here: code of the rest of this crate, except `telemetry`, so that the two cannot share a
//! mistake; pictures of people, because every image is drawn here; any address but loopback, because every
//! client of the sandbox can control it.

mod calls;
mod cdn;
mod control;
mod numbers;
mod pictures;
mod reply;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, LOCATION, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tower::Service;

use calls::Calls;
use cdn::Cdn;
use control::Control;
use numbers::Numbers;
use pictures::Pictures;

/// Maximum number of open connections, below the usual limit of open files; more wait in the system's accept
/// queue.
const CONNECTIONS_MAX: usize = 512;

/// Pause after a failed accept, whose usual reason is the limit of open files. Without it, the loop would
/// spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

const CHAT_ID_MISSING: &str =
    r#"{"message":"The given data was invalid.","errors":{"chat_id":["The chat id field is required."]}}"#;

/// A running stand-in. When it is dropped, the runtime soon closes its port and every connection.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    calls: Arc<Calls>,
    task: JoinHandle<()>,
}

impl Sandbox {
    /// An instance to ask. It is invented, and every other id is accepted too.
    pub const INSTANCE: &'static str = "5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47";

    /// The only bearer token that is accepted, for every instance.
    pub const TOKEN: &'static str = "sandbox-token";

    /// Binds `address`, where port 0 takes a free port, and serves in a task of its own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the address is not loopback; the error of the system when it cannot be bound.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let text = format!("the sandbox listens on loopback only, and {address} is another address");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let calls = Arc::new(Calls::default());
        let task = tokio::spawn(serve(listener, routes(calls.clone(), address)));
        Ok(Self { address, calls, task })
    }

    /// The address it listens on, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port that a service tries for its own sandbox. The links of the sandbox hold the port, and the
    /// fingerprint of a link holds its host and port, so a fixed port keeps fingerprints across restarts.
    pub const PORT: u16 = 50080;

    /// The base URL of its REST API.
    pub fn base_url(&self) -> String {
        format!("http://{}/api/whatsapp/v2", self.address)
    }

    /// The test numbers, each with a description of its answer.
    pub fn numbers() -> impl Iterator<Item = (&'static str, &'static str)> {
        numbers::numbers()
    }

    /// Look-ups since the start or the last `DELETE /_sandbox/calls`, refused ones included.
    pub fn calls(&self) -> u64 {
        self.calls.total()
    }

    /// Resolves when the server ends by itself, which is a fault. Dropping the future stops the sandbox.
    pub async fn stopped(mut self) {
        // The panic that ends the task is printed where it happens.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The end of `sandbox --help`: the test numbers, and the endpoints that watch and control the stand-in.
pub fn numbers_help() -> String {
    [&numbers::help(), calls::HELP, control::HELP, pictures::HELP, cdn::HELP].join("\n")
}

struct Api {
    calls: Arc<Calls>,
    control: Arc<Control>,
    numbers: Numbers,
}

fn routes(calls: Arc<Calls>, address: SocketAddr) -> Router {
    let pictures = Arc::new(Pictures::new(format!("http://{address}")));
    let control = Arc::new(Control::new(pictures.clone()));
    let numbers = Numbers::new(pictures.clone());
    let cdn = Arc::new(Cdn::new(calls.clone(), pictures.clone()));
    let api = Api { calls: calls.clone(), control: control.clone(), numbers };
    let path = "/api/whatsapp/v2/{instance}/contacts/profile-picture";
    Router::new()
        .route(path, get(look_up))
        .with_state(Arc::new(api))
        .merge(calls::routes(calls))
        .merge(control::routes(control))
        .merge(pictures::routes(pictures))
        .merge(cdn::routes(cdn))
        .layer(middleware::from_fn(refuse_pages))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
}

/// Refuses orders of web pages. A browser may send them to this machine on behalf of any site, and names the
/// site in `Origin`. Other clients do not send this header.
async fn refuse_pages(request: axum::extract::Request, next: Next) -> Response {
    let is_order = ![Method::GET, Method::HEAD].contains(request.method());
    if is_order && request.headers().contains_key(ORIGIN) {
        return reply::message(StatusCode::FORBIDDEN, "web pages cannot control the sandbox");
    }
    next.run(request).await
}

async fn look_up(
    State(api): State<Arc<Api>>,
    Path(instance): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    // To Laravel, an empty value is a missing one.
    let chat_id = query.get("chat_id").map(String::as_str);
    let chat_id = chat_id.filter(|text| !text.is_empty());
    let contact = chat_id.map(contact_of);
    api.calls.count(&instance, chat_id);
    // Scripts apply before the token is checked, because a script can also play a proxy in front of the API,
    // which checks no token.
    if let Some(answer) = api.control.scripted(&instance, contact).await {
        return answer;
    }
    let token = format!("Bearer {}", Sandbox::TOKEN);
    if headers.get(AUTHORIZATION).is_none_or(|given| *given != token) {
        return unauthenticated(&headers);
    }
    let Some(contact) = contact else {
        return reply::json(StatusCode::UNPROCESSABLE_ENTITY, CHAT_ID_MISSING);
    };
    match api.control.contact(contact) {
        Some(answer) => answer,
        None => api.numbers.answer(contact).await,
    }
}

/// The contact of a chat id: `1555@c.us` is the same contact as `1555`.
fn contact_of(chat_id: &str) -> &str {
    chat_id.split('@').next().unwrap_or(chat_id)
}

/// The answer of Laravel without a valid token: a client that does not accept JSON is redirected to the login
/// page.
fn unauthenticated(headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|types| types.to_str().ok());
    if accept.is_some_and(|types| types.contains("application/json")) {
        return reply::json(StatusCode::UNAUTHORIZED, reply::UNAUTHENTICATED);
    }
    let mut answer = reply::html(StatusCode::FOUND);
    let page = HeaderValue::from_static("/login");
    answer.headers_mut().insert(LOCATION, page);
    answer
}

async fn unknown_route(uri: Uri) -> Response {
    let text = format!("The route {} could not be found.", uri.path());
    reply::message(StatusCode::NOT_FOUND, &text)
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let text = format!("{method} is not supported for route {}.", uri.path());
    reply::message(StatusCode::METHOD_NOT_ALLOWED, &text)
}

/// Accepts connections for ever. This future owns them, so that aborting it closes them too.
async fn serve(listener: TcpListener, routes: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, routes.clone()));
                }
                Err(error) => {
                    tracing::warn!(error = crate::telemetry::chain(&error), "the sandbox could not accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, routes: Router) {
    let service = service_fn(|request: Request<Incoming>| {
        let mut routes = routes.clone();
        async move {
            let Ok(mut response) = routes.call(request).await;
            if reply::is_cut(&response) {
                // hyper closes a connection whose service fails, without a byte of an answer.
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            }
            let id = reply::request_id();
            response.headers_mut().insert("s-request-id", id);
            Ok(response)
        }
    });
    // A connection fails when its client leaves, or when a script asks for that. Both are expected.
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) async fn start() -> Sandbox {
        Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap()
    }

    pub(super) fn client() -> reqwest::Client {
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    pub(super) fn asking(sandbox: &Sandbox, chat_id: &str) -> reqwest::RequestBuilder {
        let base = format!("{}/{}", sandbox.base_url(), Sandbox::INSTANCE);
        client()
            .get(format!("{base}/contacts/profile-picture?chat_id={chat_id}"))
            .bearer_auth(Sandbox::TOKEN)
            .header("accept", "application/json")
    }

    pub(super) async fn look_up(sandbox: &Sandbox, chat_id: &str) -> (u16, String) {
        let answer = asking(sandbox, chat_id).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Asks for `path`, which is the query of a look-up if it begins with `?`, and accepts JSON if there is a
    /// token.
    async fn check(path: &str, token: Option<&str>, status: u16, body: &str) {
        let sandbox = start().await;
        let path = match path.strip_prefix('?') {
            Some(query) => format!("/api/whatsapp/v2/any/contacts/profile-picture?{query}"),
            None => path.to_owned(),
        };
        let mut request = client().get(format!("http://{}{path}", sandbox.address()));
        if let Some(token) = token {
            let json = "text/html, application/json";
            request = request.bearer_auth(token).header("accept", json);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(answer.headers()["s-request-id"].len(), 36, "{path}");
        let is_json = answer.headers()["content-type"] == "application/json";
        assert_eq!(is_json, status != 302, "{path}");
        assert!(answer.text().await.unwrap().contains(body), "{path}");
    }

    #[tokio::test]
    async fn requests_that_never_reach_a_number_are_refused_as_laravel_does() {
        let required = r#"{"message":"The given data was invalid.","errors":{"chat_id":["#;
        let token = Some(Sandbox::TOKEN);
        let other = Some("other");
        check("?chat_id=1", other, 401, reply::UNAUTHENTICATED).await;
        check("?chat_id=1", None, 302, "<html>").await;
        check("?", token, 422, required).await;
        check("?chat_id=", token, 422, required).await;
        check("/api/nowhere", token, 404, r#"{"message":"The route "#).await;
        check("/_sandbox/script", None, 405, r#"{"message":"GET is "#).await;
    }

    #[tokio::test]
    async fn look_ups_are_counted_until_the_count_is_zeroed() {
        let sandbox = start().await;
        let url = format!("http://{}/_sandbox/calls", sandbox.address());
        look_up(&sandbox, "15551230001").await;
        look_up(&sandbox, "15551230001").await;
        look_up(&sandbox, "15551230001@c.us").await;
        assert_eq!(sandbox.calls(), 3);
        let told = client().get(&url).send().await.unwrap();
        let by_chat_id = r#"{"15551230001":2,"15551230001@c.us":1}"#;
        let by_instance = format!(r#"{{"{}":3}}"#, Sandbox::INSTANCE);
        assert_eq!(
            told.text().await.unwrap(),
            format!(
                r#"{{"calls":3,"by_chat_id":{by_chat_id},"by_instance":{by_instance},"images":0,"images_by_contact":{{}}}}"#
            )
        );
        assert_eq!(client().delete(&url).send().await.unwrap().status(), 204);
        assert_eq!(sandbox.calls(), 0);
    }

    #[tokio::test]
    async fn web_pages_take_no_action() {
        let sandbox = start().await;
        let url = |path: &str| format!("http://{}/_sandbox/{path}", sandbox.address());
        look_up(&sandbox, "1").await;
        for (method, path, body) in [
            (Method::POST, "changes", r#"{"count":1}"#),
            (Method::POST, "script", r#"{"status":500}"#),
            (Method::POST, "cdn", r#"{"fault":"gone"}"#),
            (Method::PUT, "contacts/1", r#"{"picture":null}"#),
            (Method::DELETE, "calls", ""),
        ] {
            for origin in ["http://attacker.example", "null"] {
                let request = client().request(method.clone(), url(path)).header(ORIGIN, origin).body(body);
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 403, "{method} {path}");
                assert!(answer.text().await.unwrap().contains("web pages"), "{method} {path}");
            }
        }
        assert_eq!(sandbox.calls(), 1);
        assert!(look_up(&sandbox, "1").await.1.contains("/v/t61.24694-24/"));
    }

    #[tokio::test]
    async fn only_loopback_is_served() {
        let error = Sandbox::start(([0, 0, 0, 0], 0).into()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("loopback"));
    }

    #[tokio::test]
    async fn dropping_it_cuts_even_a_look_up_that_hangs() {
        let sandbox = start().await;
        let hanging = tokio::spawn(asking(&sandbox, "15551230012").send());
        while sandbox.calls() == 0 {
            tokio::task::yield_now().await;
        }
        let address = sandbox.address();
        drop(sandbox);
        assert!(hanging.await.unwrap().is_err());
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn the_help_fits_a_terminal() {
        for line in numbers_help().lines() {
            assert!(line.len() <= 100, "{line}");
        }
    }
}
