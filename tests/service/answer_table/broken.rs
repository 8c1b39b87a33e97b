//! Answers that cannot be understood, truncated answers, and missing answers.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::net::TcpListener;
use tonic::{Code, Request};

use super::{INVALID, Told, UNAVAILABLE, check, check_told, check_with, fault};
use crate::support::{Authority, CHAT, Fault, Pushback, Reply, Service, Upstream, about, link, patiently};

const SPEAKS: &str = r#"{"message":"Upstream speaks."}"#;
const BODY_BYTES_MAX: usize = 64 * 1024;
const TIMED_OUT: Told = fault(Code::Unavailable, "UPSTREAM_TIMEOUT", Pushback::Ms(1000));

const fn blocked(pushback_ms: u64) -> Told {
    fault(Code::Unavailable, "UPSTREAM_BLOCKED", Pushback::Ms(pushback_ms))
}

#[tokio::test]
async fn a_body_that_is_not_the_documented_one_is_invalid() {
    for body in [
        "",
        " ",
        "null",
        "[]",
        r#""https://pps.whatsapp.net/a_n.jpg""#,
        "{}",
        SPEAKS,
        r#"{"data":null}"#,
        r#"{"data":[]}"#,
        r#"{"data":{}}"#,
        r#"{"data":"https://pps.whatsapp.net/a_n.jpg"}"#,
        r#"{"profilePictureURL":null}"#,
        r#"{"data":{"profilepictureurl":null}}"#,
        r#"{"data":{"profilePictureURL":17}}"#,
        r#"{"data":{"profilePictureURL":false}}"#,
        r#"{"data":{"profilePictureURL":{}}}"#,
        r#"{"data":{"profilePictureURL":["https://pps.whatsapp.net/a_n.jpg"]}}"#,
        r#"{"data":{"profilePictureURL":null}"#,
        r#"{"data":{"profilePictureURL":null}} more"#,
        r"{'data':{'profilePictureURL':null}}",
        r#"{"queued":"true"}"#,
    ] {
        check(body, [Reply::json(200, body)], INVALID, 1).await;
    }
    check("HTML", [Reply::html(200)], INVALID, 1).await;
    let latin1 = b"{\"message\":\"\xe9\",\"data\":{\"profilePictureURL\":null}}".to_vec();
    check("not UTF-8", [Reply::json(200, latin1)], INVALID, 1).await;
}

#[tokio::test]
async fn a_link_that_is_no_web_address_is_invalid() {
    for link in [
        "null",
        " ",
        "/v/t61/a_n.jpg",
        "//pps.whatsapp.net/a_n.jpg",
        "pps.whatsapp.net/a_n.jpg",
        "ftp://pps.whatsapp.net/a_n.jpg",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "https://",
        "https://user@pps.whatsapp.net/a_n.jpg",
        "https://user:word@pps.whatsapp.net/a_n.jpg",
    ] {
        check(link, [Reply::picture(link)], INVALID, 1).await;
    }
}

#[tokio::test]
async fn a_body_over_64_kib_is_not_read() {
    let padded = |bytes: usize| {
        let body = r#"{"data":{"profilePictureURL":null}}"#;
        [Reply::json(200, format!("{body}{}", " ".repeat(bytes - body.len())))]
    };
    check("just fits", padded(BODY_BYTES_MAX), Told::Absence, 1).await;
    check("a byte more", padded(BODY_BYTES_MAX + 1), INVALID, 1).await;
    check("much more", padded(10 * BODY_BYTES_MAX), INVALID, 1).await;
    // The length of a body without Content-Length is known only at its end.
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(BODY_BYTES_MAX + 1));
    check("much more and no length", [Reply::raw(endless)], INVALID, 1).await;
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_a_way() {
    for status in [301, 302, 303, 307, 308] {
        let reply = Reply::html(status).header("Location", "/login");
        check(&status.to_string(), [reply], INVALID, 1).await;
    }
    check("304", [Reply::empty(304)], INVALID, 1).await;
}

#[tokio::test]
async fn a_page_or_status_from_somewhere_else_is_invalid() {
    for status in [404, 405, 422] {
        check(&format!("{status} in HTML"), [Reply::html(status)], INVALID, 1).await;
    }
    for status in [201, 202, 203, 206, 299, 402, 405, 406, 409, 410, 413, 418, 451, 499, 501, 600] {
        check(&status.to_string(), [Reply::status(status)], INVALID, 1).await;
    }
    check("204", [Reply::empty(204)], INVALID, 1).await;
    let picture = Reply::json(201, r#"{"data":{"profilePictureURL":null}}"#);
    check("an answer with another status", [picture], INVALID, 1).await;
    for body in [
        SPEAKS,
        "{}",
        r#"{"errors":[]}"#,
        r#"{"errors":{}}"#,
        r#"{"errors":"text"}"#,
        r#"{"status":"STARTING"}"#,
        r#"{"session":"default"}"#,
        r#"{"session":"default","status":3}"#,
    ] {
        check(body, [Reply::json(422, body)], INVALID, 1).await;
    }
}

#[tokio::test]
async fn a_challenge_or_block_page_is_of_this_machine_and_asked_again_later() {
    let challenge = |reply: Reply| reply.header("cf-mitigated", "challenge");
    for (row, reply) in [
        ("403 in HTML", Reply::html(403)),
        ("403 without a body", Reply::empty(403).closing()),
        ("403 with a long page", Reply::json(403, " ".repeat(BODY_BYTES_MAX + 1))),
        ("403 with a challenge", challenge(Reply::html(403))),
        ("403 with a challenge in JSON", challenge(Reply::status(403))),
        ("429 with a challenge", challenge(Reply::html(429))),
        ("503 with a challenge", challenge(Reply::html(503))),
        ("a challenge of another kind", Reply::html(202).header("X-Amzn-Waf-Action", "challenge")),
        ("405 with a puzzle", Reply::html(405).header("X-Amzn-Waf-Action", "captcha")),
        ("a short hint", Reply::html(403).header("Retry-After", 5)),
    ] {
        check(row, [reply], blocked(30_000), 1).await;
    }
    check("a long hint", [Reply::html(403).header("Retry-After", 900)], blocked(300_000), 1).await;
    let other = Reply::html(503).header("cf-mitigated", "something else");
    check("no challenge", [other], UNAVAILABLE, 3).await;
}

#[tokio::test]
async fn a_block_is_told_the_operator_once() {
    let upstream = Upstream::start([Reply::html(403).held()]).await;
    let mut service = Service::asking(&upstream).start().await;
    let client = service.client().await;
    let calls = (0..10).map(|contact| {
        let mut client = client.clone();
        async move { client.get_profile_picture(about(&format!("1555123000{contact}"))).await }
    });
    let (told, ()) = join(join_all(calls), async {
        upstream.called(10).await;
        upstream.release();
    })
    .await;
    for status in told {
        assert_eq!(Fault::from(&status.unwrap_err()).reason, "UPSTREAM_BLOCKED");
    }
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0);
    let warned = |line: &&str| line.contains("\"WARN\"") && line.contains("upstream");
    assert_eq!(service.logs().lines().filter(warned).count(), 1);
}

#[tokio::test]
async fn a_failing_upstream_is_asked_again() {
    for status in [408, 425, 502, 504, 505, 507, 520, 522, 524, 530, 599] {
        check(&status.to_string(), [Reply::status(status)], UNAVAILABLE, 3).await;
    }
    check("502 in HTML", [Reply::html(502)], UNAVAILABLE, 3).await;
    check("500", [Reply::status(500)], UNAVAILABLE, 2).await;
    check("500 in HTML", [Reply::html(500)], UNAVAILABLE, 2).await;
    check_with(&["--attempts", "1"], "one attempt", [Reply::status(502)], UNAVAILABLE, 1).await;
    check_with(&["--attempts", "5"], "five attempts", [Reply::status(502)], UNAVAILABLE, 5).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    check("before its first byte", [Reply::cut()], UNAVAILABLE, 3).await;
    check("by a reset", [Reply::reset()], UNAVAILABLE, 3).await;
    check("in its head", [Reply::raw("HTTP/1.1 200 OK\r\nContent-Le").closing()], UNAVAILABLE, 3).await;
    check("in its body", [Reply::picture(&link("1", 9999)).half()], UNAVAILABLE, 3).await;
    check("in the body of an error", [Reply::status(404).half()], UNAVAILABLE, 3).await;
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a";
    check("in a chunk", [Reply::raw(chunk).closing()], UNAVAILABLE, 3).await;
    check("no HTTP at all", [Reply::raw("220 mail.example.com ESMTP\r\n").closing()], UNAVAILABLE, 3).await;
}

/// Checks a row whose requests reach no script. The log shows the number of attempts.
async fn check_unreachable(row: &str, base_url: &str, attempts: usize) {
    let mut service = Service::asking_at(base_url).flags(&["--allow-http"]).start().await;
    let status = service.client().await.get_profile_picture(about(CHAT)).await.unwrap_err();
    let fault = Fault::from(&status);
    assert_eq!((fault.code, fault.reason.as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"), "{row}");
    assert_eq!(fault.pushback, Pushback::Ms(1000), "{row}");
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0);
    assert_eq!(service.logs().matches("upstream cannot be reached").count(), attempts, "{row}");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    check_unreachable("refused", &free, 3).await;
    // A resolver rejects a label of more than 63 characters without a request to the network.
    check_unreachable("no such name", &format!("http://{}.invalid", "a".repeat(64)), 3).await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_tried_again() {
    let flags = ["--attempt-timeout", "500ms"];
    check_with(&flags, "no answer", [Reply::hang()], TIMED_OUT, 3).await;
    let stuck = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{");
    check_with(&flags, "half an answer", [stuck], TIMED_OUT, 3).await;
}

#[tokio::test]
async fn a_caller_s_deadline_is_never_told_as_cancelled() {
    let upstream = Upstream::start([Reply::hang()]).await;
    let service = Service::asking(&upstream).start().await;
    let mut request = Request::new(about(CHAT));
    request.set_timeout(Duration::from_secs(2));
    let call = service.bare_client().get_profile_picture(request).await;
    let fault = Fault::from(&call.unwrap_err());
    assert_eq!((fault.code, fault.reason.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert_eq!(fault.pushback, Pushback::Unsaid);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_call_that_states_no_deadline_has_the_server_s() {
    let exceeded = fault(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", Pushback::Unsaid);
    let check = check_with(&["--deadline", "1s"], "no answer", [Reply::hang()], exceeded, 1);
    patiently("the server's deadline", check).await;
}

/// Checks a server certificate for `name`, from an authority that the service trusts or does not trust. A bad
/// certificate is not retried.
async fn check_certificate(row: &str, name: &str, expired: bool, trusted: bool, told: Told) {
    let [trust, other] = [Authority::new(), Authority::new()];
    let authority = if trusted { &trust } else { &other };
    let fresh = Reply::picture("https://pps.whatsapp.net/1_2_3_n.jpg");
    let upstream = Upstream::start_tls([fresh], authority.server(name, expired)).await;
    let file = trust.file();
    let launch = Service::asking(&upstream).variable("SSL_CERT_FILE", file.path().to_str().unwrap());
    check_told(launch, row, told).await;
    assert_eq!(upstream.connections(), 1, "{row}");
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_not_tried_again() {
    let link = || Told::Link("https://pps.whatsapp.net/1_2_3_n.jpg".to_owned());
    check_certificate("fits", "localhost", false, true, link()).await;
    check_certificate("another host's", "example.com", false, true, UNAVAILABLE).await;
    check_certificate("nobody's we trust", "localhost", false, false, UNAVAILABLE).await;
    check_certificate("expired", "localhost", true, true, UNAVAILABLE).await;
}
