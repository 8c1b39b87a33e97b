//! The table of answers: the meaning of each answer of Hypersender for a caller, and the number of requests.
//!
//! Each row has its own service and its own upstream, so that the effect of an answer on an instance does not
//! reach another row.

mod broken;
mod hints;
mod refused;
mod stale;
mod usual;

use hypersender_grpc::grpc::contact::{CacheStatus, GetProfilePictureResponse, ProfilePictureState};
use tonic::{Code, Status};

use crate::support::{CHAT, Fault, INSTANCE, Launch, Pushback, Reply, Service, Upstream, about, picture};

/// The result of a call.
enum Told {
    /// A picture with this link.
    Link(String),
    /// No picture.
    Absence,
    /// An error with this code, this reason and this wait.
    Fault(Code, &'static str, Wait),
}

enum Wait {
    Exactly(Pushback),
    /// A wait between these milliseconds, for a hint that is a point in time.
    Between(u64, u64),
}

/// The error for an answer that cannot be understood.
const INVALID: Told = fault(Code::Internal, "UPSTREAM_RESPONSE_INVALID", Pushback::Never);
/// The error for an upstream that fails.
const UNAVAILABLE: Told = fault(Code::Unavailable, "UPSTREAM_UNAVAILABLE", Pushback::Ms(1000));

const fn fault(code: Code, reason: &'static str, pushback: Pushback) -> Told {
    Told::Fault(code, reason, Wait::Exactly(pushback))
}

/// Checks a row: the replies of the script, the result of the call, and the number of requests to upstream.
async fn check(row: &str, script: impl IntoIterator<Item = Reply>, told: Told, calls: usize) {
    check_with(&[], row, script, told, calls).await;
}

/// The same, with these flags for the service.
async fn check_with(
    flags: &[&str],
    row: &str,
    script: impl IntoIterator<Item = Reply>,
    told: Told,
    calls: usize,
) {
    let upstream = Upstream::start(script).await;
    check_told(Service::asking(&upstream).flags(flags), row, told).await;
    assert_eq!(upstream.calls(), calls, "{row}: calls");
}

/// Checks the result of the first call to a service that is started in this way.
async fn check_told(launch: Launch, row: &str, told: Told) {
    let service = launch.start().await;
    let response = service.client().await.get_profile_picture(about(CHAT)).await;
    match (told, response) {
        (Told::Link(link), Ok(response)) => check_link(row, &link, response.get_ref()),
        (Told::Absence, Ok(response)) => check_absence(row, response.get_ref()),
        (Told::Fault(code, reason, wait), Err(status)) => check_fault(row, &status, code, reason, &wait),
        (_, response) => panic!("{row}: {response:?}"),
    }
}

fn check_link(row: &str, link: &str, response: &GetProfilePictureResponse) {
    check_common(row, response);
    let picture = picture(response);
    assert_eq!(picture.state(), ProfilePictureState::Present, "{row}");
    assert_eq!(picture.url, link, "{row}");
    let (place, query) = link.split_once('?').unwrap_or((link, ""));
    let name = place.rsplit('/').next().unwrap();
    let is_hash = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_right =
        if name.ends_with("_n.jpg") { picture.fingerprint == name } else { is_hash(&picture.fingerprint) };
    assert!(is_right, "{row}: {}", picture.fingerprint);
    let end = query.split('&').find_map(|pair| pair.strip_prefix("oe="));
    let end = end.map(|end| i64::from_str_radix(end, 16).unwrap());
    assert_eq!(picture.expire_time.map(|time| time.seconds), end, "{row}");
}

fn check_absence(row: &str, response: &GetProfilePictureResponse) {
    check_common(row, response);
    let picture = picture(response);
    assert_eq!(picture.state(), ProfilePictureState::NotAvailable, "{row}");
    assert_eq!((picture.url.as_str(), picture.fingerprint.as_str()), ("", ""), "{row}");
    assert_eq!(picture.expire_time, None, "{row}");
}

fn check_common(row: &str, response: &GetProfilePictureResponse) {
    let (picture, cache) = (picture(response), response.cache_info.as_ref().unwrap());
    assert_eq!((picture.instance.as_str(), picture.chat_id.as_str()), (INSTANCE, CHAT), "{row}");
    assert!(picture.fetch_time.is_some(), "{row}");
    assert_eq!(cache.status(), CacheStatus::Miss, "{row}");
    assert_eq!(cache.age, Some(prost_types::Duration::default()), "{row}");
    assert!(!cache.collapsed, "{row}");
}

fn check_fault(row: &str, status: &Status, code: Code, reason: &str, wait: &Wait) {
    let fault = Fault::from(status);
    assert_eq!((fault.code, fault.reason.as_str()), (code, reason), "{row}");
    match (wait, fault.pushback) {
        (Wait::Exactly(expected), pushback) => assert_eq!(pushback, *expected, "{row}"),
        (Wait::Between(low, high), Pushback::Ms(wait)) => {
            assert!((*low..=*high).contains(&wait), "{row}: {wait}");
        }
        (Wait::Between(..), pushback) => panic!("{row}: {pushback:?}"),
    }
    // The status contains no text of Hypersender, no contact and no link.
    let told = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
    for mark in ["Upstream speaks", CHAT, "://"] {
        assert!(!told.contains(mark), "{row}: {told}");
    }
}
