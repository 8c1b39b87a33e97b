//! Answers with and without a hint about the time of the next request.

use std::time::{Duration, SystemTime};

use tonic::Code;

use super::{Told, UNAVAILABLE, Wait, check, check_with, fault};
use crate::support::{Pushback, Reply, unix_seconds};

/// Only one attempt is made, because these rows do not test the wait before a retry.
const ONCE: &[&str] = &["--attempts", "1"];

fn limited(pushback_ms: u64) -> Told {
    fault(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED", Pushback::Ms(pushback_ms))
}

fn unavailable(pushback_ms: u64) -> Told {
    fault(Code::Unavailable, "UPSTREAM_UNAVAILABLE", Pushback::Ms(pushback_ms))
}

/// A wait between half of this time and all of it, because time passes during the test.
fn about(code: Code, reason: &'static str, seconds: u64) -> Told {
    Told::Fault(code, reason, Wait::Between(seconds * 500, seconds * 1000))
}

fn date(seconds: i64) -> String {
    let time = Duration::from_secs(unix_seconds().saturating_add_signed(seconds));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + time)
}

fn retry_after(status: u16, value: impl std::fmt::Display) -> [Reply; 1] {
    [Reply::status(status).header("Retry-After", value)]
}

fn reset(value: impl std::fmt::Display) -> Reply {
    let reply = Reply::status(429).header("X-RateLimit-Reset", value);
    reply.header("X-RateLimit-Limit", 60).header("X-RateLimit-Remaining", 0)
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let (code, reason) = (Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED");
    check("seconds", retry_after(429, 7), limited(7000), 1).await;
    check("just too long for us", retry_after(429, 3), limited(3000), 1).await;
    check("a date", retry_after(429, date(200)), about(code, reason, 200), 1).await;
    check("a huge number", retry_after(429, 86_400), limited(300_000), 1).await;
    check("more than a number holds", retry_after(429, "9".repeat(40)), limited(300_000), 1).await;
    check("a date in another century", retry_after(429, date(4_000_000_000)), limited(300_000), 1).await;
    check("a reset", [reset(unix_seconds() + 200)], about(code, reason, 200), 1).await;
    check("a distant reset", [reset(u64::MAX)], limited(300_000), 1).await;
    let both = reset(unix_seconds() + 200).header("Retry-After", 9);
    check("a reset and seconds", [both], limited(9000), 1).await;
    check("in HTML", [Reply::html(429).header("Retry-After", 7)], limited(7000), 1).await;
}

#[tokio::test]
async fn a_rate_limit_without_a_readable_hint_waits_a_second() {
    for value in ["", "soon", "-1", "1.5", "0", "+5", "0x10", "Wed, 99 Foo 2026"] {
        check_with(ONCE, value, retry_after(429, value), limited(1000), 1).await;
    }
    check_with(ONCE, "a date in the past", retry_after(429, date(-50)), limited(1000), 1).await;
    check_with(ONCE, "a reset in the past", [reset(unix_seconds() - 50)], limited(1000), 1).await;
    check_with(ONCE, "a reset nobody can read", [reset("soon")], limited(1000), 1).await;
    check_with(ONCE, "no hint", [Reply::status(429)], limited(1000), 1).await;
    let second = reset(unix_seconds() + 200).header("Retry-After", "soon");
    let told = about(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED", 200);
    check("a hint that fails and one that does not", [second], told, 1).await;
}

#[tokio::test]
async fn maintenance_says_how_long_to_wait() {
    check("seconds", retry_after(503, 120), unavailable(120_000), 1).await;
    check("too many seconds", retry_after(503, 301), unavailable(300_000), 1).await;
    let told = about(Code::Unavailable, "UPSTREAM_UNAVAILABLE", 200);
    check("a date", retry_after(503, date(200)), told, 1).await;
    check("garbage", retry_after(503, "soon"), UNAVAILABLE, 3).await;
    check("a date in the past", retry_after(503, date(-50)), UNAVAILABLE, 3).await;
    check("no hint", [Reply::status(503)], UNAVAILABLE, 3).await;
    check("no hint, in HTML", [Reply::html(503)], UNAVAILABLE, 3).await;
    check_with(ONCE, "a reset, which is for 429", [reset(5).header("Retry-After", 1)], limited(1000), 1)
        .await;
}

#[tokio::test]
async fn other_statuses_give_no_hints() {
    for status in [408, 502] {
        check("hint", retry_after(status, 120), UNAVAILABLE, 3).await;
    }
}
