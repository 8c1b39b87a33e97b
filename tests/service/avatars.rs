//! Images of contacts: the addresses that gRPC hands out, the plain ones, and the end of the port.

use hypersender_grpc::server::TokenHash;
use reqwest::{Client, Method, RequestBuilder, Response, Version};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{CHAT, Files, Launch, Service, about, patiently, picture};

const LISTEN: &[&str] = &["--avatars-listen", "127.0.0.1:0"];
const TOKEN: &str = "Zq9mark-crm-4f1d";

fn launch() -> Launch {
    Service::sandboxed().flags(LISTEN)
}

/// The address of the image of `chat`, which gRPC hands out.
async fn address(service: &Service, chat: &str) -> String {
    picture(&service.ask(about(chat), &[]).await.unwrap()).avatar_url.clone()
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn send(request: RequestBuilder) -> Response {
    patiently("an image", request.send()).await.unwrap()
}

/// Sends a request until there is a picture. The first request may have to wait for too long for it.
async fn present(request: impl Fn() -> RequestBuilder) -> Response {
    patiently("a picture", async {
        loop {
            let response = send(request()).await;
            if header(&response, "avatar-status") == "present" {
                return response;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The larger side of a JPEG, from its frame header.
fn pixels(jpeg: &[u8]) -> u16 {
    let at = jpeg.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).expect("a frame");
    let side = |at: usize| u16::from_be_bytes([jpeg[at], jpeg[at + 1]]);
    side(at + 5).max(side(at + 7))
}

#[tokio::test]
async fn the_address_of_a_contact_shows_its_picture() {
    let service = launch().start().await;
    let (url, client) = (address(&service, CHAT).await, client());
    let response = present(|| client.get(format!("{url}?size=90"))).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "image/jpeg"));
    assert!(header(&response, "cache-control").starts_with("private, max-age="), "{response:?}");
    assert!(!header(&response, "date").is_empty());
    let tag = header(&response, "etag").to_owned();
    let jpeg = response.bytes().await.unwrap();
    assert_eq!(pixels(&jpeg), 96);

    let response = send(client.head(format!("{url}?size=96"))).await;
    assert_eq!(header(&response, "content-length"), jpeg.len().to_string());
    assert!(response.bytes().await.unwrap().is_empty());
    let response = send(client.get(format!("{url}?size=96")).header("if-none-match", &tag)).await;
    assert_eq!((response.status().as_u16(), header(&response, "etag")), (304, tag.as_str()));
    let large = present(|| client.get(&url)).await;
    assert_ne!(header(&large, "etag"), tag);

    let name = "hypersender_avatar_requests_total{status=\"304\",outcome=\"present\"}";
    let samples = service.counted(name, 1.0).await;
    assert!(samples.value("hypersender_avatar_image_bytes") > 0.0);
    assert!(samples.value("hypersender_avatar_downloads_total{outcome=\"image\"}") >= 1.0);
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let service = launch().start().await;
    let url = address(&service, CHAT).await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let response = present(|| client.get(&url)).await;
    assert_eq!(response.version(), Version::HTTP_2);
    let head = send(client.head(&url)).await;
    assert_eq!(header(&head, "content-length"), response.bytes().await.unwrap().len().to_string());
}

#[tokio::test]
async fn what_cannot_be_shown_has_a_default_image_or_a_status() {
    let service = launch().start().await;
    let client = client();
    let known = address(&service, CHAT).await;
    let absent = address(&service, "15551230004").await;
    let initials = format!("{absent}?default=initials&name=Ada+Lovelace");
    for (method, url, status, outcome, has_image) in [
        (Method::GET, absent.clone(), 200, "absent", true),
        (Method::GET, initials, 200, "absent", true),
        (Method::GET, format!("{absent}?default=404"), 404, "absent", false),
        (Method::GET, format!("{known}A"), 404, "", true),
        (Method::GET, format!("{known}?size=0"), 400, "", true),
        (Method::GET, format!("{known}?size=0&default=404"), 400, "", true),
        (Method::POST, known.clone(), 405, "", true),
    ] {
        let row = format!("{method} {url}");
        let response = send(client.request(method, &url)).await;
        assert_eq!(response.status().as_u16(), status, "{row}");
        assert_eq!(header(&response, "avatar-status"), outcome, "{row}");
        assert_eq!(header(&response, "avatar-error").is_empty(), !outcome.is_empty(), "{row}");
        assert_eq!(header(&response, "content-type") == "image/svg+xml", has_image, "{row}");
        let text = response.text().await.unwrap();
        assert_eq!(text.starts_with("<svg "), has_image, "{row}: {text}");
        assert_eq!(text.contains(">AL<"), row.contains("Ada"), "{row}: {text}");
    }
}

#[tokio::test]
async fn a_backend_asks_by_the_name_of_a_contact() {
    let files = Files::new();
    let TokenHash(hash) = TokenHash::of(TOKEN);
    let hash: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("[callers.crm]\ntoken_sha256 = \"{}\"\ninstances = [\"shop\"]\n", hash.concat());
    let file = files.write("callers.toml", &text);
    let service = launch().flags(&["--callers-file", &file]).start().await;
    let client = client();
    let root = format!("http://{}", service.avatars.unwrap());
    let plain = |instance, chat| client.get(format!("{root}/instances/{instance}/contacts/{chat}/avatar"));
    let response = present(|| plain("shop", CHAT).bearer_auth(TOKEN)).await;
    assert_eq!((response.status().as_u16(), header(&response, "vary")), (200, "authorization"));
    for (request, status) in [
        (plain("shop", CHAT), 401),
        (plain("shop", CHAT).bearer_auth("Zq9mark-other"), 401),
        (plain("other", CHAT).bearer_auth(TOKEN), 403),
        (plain("shop", "1").bearer_auth(TOKEN), 400),
    ] {
        let response = send(request).await;
        assert_eq!(response.status().as_u16(), status);
        assert!(!response.headers().contains_key("www-authenticate"));
        assert!(!header(&response, "avatar-error").is_empty());
    }
}

#[tokio::test]
async fn the_port_closes_with_the_service_whatever_its_peers_do() {
    let mut service = launch().flags(&["--drain-wait", "0s"]).start().await;
    let address = service.avatars.unwrap();
    let idle = client();
    send(idle.get(format!("http://{address}/avatars/A"))).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /avatars/A HTTP/1.1\r\n").await.unwrap();
    service.signal("TERM").await;
    assert_eq!(patiently("the end", service.exit_code()).await, 0, "{}", service.logs());
    assert!(TcpStream::connect(address).await.is_err());
}
