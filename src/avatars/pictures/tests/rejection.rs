//! A rejected token: from then on no picture from before is shown, whoever saw the rejection (rule 62).

use tower::ServiceExt;

use super::*;
use crate::domain::{Deadline, Rejected};

fn rejected() -> Result<Finding, LookupError> {
    Err(LookupError::CredentialsRejected(Rejected::Own))
}

/// A link that ends two hours after the beginning of the test.
fn short_link(chat: &str) -> Finding {
    let end = (wall() + 120 * MINUTE).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    link_at("https://pps.whatsapp.net", chat, 1, 1, end)
}

/// A gRPC call for a contact, without an image.
async fn call(front: &Front<impl LookupService>, chat: u64) -> Found {
    let Wanted { instance, credential, chat, .. } = front.wanted(chat, Size::S96);
    let deadline = Deadline::at(Instant::now() + 10 * SECOND);
    let lookup = Lookup::new(instance, credential, chat, CacheControl::default(), deadline);
    front.pictures.stack().clone().oneshot(lookup).await
}

/// Lets a call for contact 9 see the rejection.
async fn reject(front: &Front<impl LookupService>) {
    assert!(matches!(call(front, 9).await, Err(LookupError::CredentialsRejected(_))));
}

fn is_ninth(chat: &str) -> bool {
    chat.ends_with('9')
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_only_a_call_sees_hides_what_was_shown_before() {
    let front = front(
        |chat, number| match number {
            _ if is_ninth(chat) => at_once(rejected()),
            1 => at_once(Ok(short_link(chat))),
            _ => at_once(Err(unavailable())),
        },
        image_at_once,
    );
    for contact in [1, 2] {
        assert_eq!(word(&front.show(contact).await), "picture");
    }
    sleep(180 * MINUTE).await;
    assert_eq!(word(&front.show(1).await), "stale", "nothing is rejected yet");
    reject(&front).await;
    sleep(2 * SECOND).await;
    for contact in [1, 2] {
        assert_eq!(word(&front.show(contact).await), "failed", "{contact}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_in_vain_shows_nothing_of_a_token_that_is_rejected() {
    let front = front(
        |chat, number| match number {
            _ if is_ninth(chat) => at_once(rejected()),
            1 => at_once(Ok(short_link(chat))),
            _ => (3 * SECOND, Some(rejected())),
        },
        image_at_once,
    );
    assert_eq!(word(&front.show(1).await), "picture");
    reject(&front).await;
    sleep(2 * SECOND).await;
    assert_eq!(word(&front.show(1).await), "not yet");
    sleep(2 * SECOND).await;
    assert_eq!(word(&front.show(1).await), "failed");
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_after_the_rejection_shows_no_picture_and_leaves_none() {
    for (look_up, download) in [(0, 1), (1, 0)].map(|(a, b)| (a * SECOND, b * SECOND)) {
        let front = front(
            move |chat, number| match number {
                _ if is_ninth(chat) => at_once(rejected()),
                1 => (look_up, Some(Ok(short_link(chat)))),
                _ => at_once(Err(unavailable())),
            },
            move |_| (download, Some(Ok(jpeg()))),
        );
        let later = async {
            sleep(SECOND / 2).await;
            reject(&front).await;
        };
        let (shown, ()) = tokio::join!(front.show(1), later);
        assert_eq!(word(&shown), "not yet", "{look_up:?} {download:?}");
        assert_eq!(word(&front.show(1).await), "failed", "the token is rejected");
        sleep(180 * MINUTE).await;
        assert_eq!(word(&front.show(1).await), "failed", "there is no picture from before");
    }
}

#[tokio::test(start_paused = true)]
async fn once_the_token_is_good_again_what_is_looked_up_is_shown_without_a_download() {
    let front = front(
        |chat, number| match number {
            1 if is_ninth(chat) => at_once(rejected()),
            _ if chat.ends_with('8') || number == 1 => at_once(Ok(short_link(chat))),
            _ => at_once(Err(unavailable())),
        },
        image_at_once,
    );
    for contact in [1, 2] {
        assert_eq!(word(&front.show(contact).await), "picture");
    }
    reject(&front).await;
    assert_eq!(word(&front.show(1).await), "failed");
    sleep(2 * SECOND).await;
    assert!(call(&front, 8).await.is_ok());
    assert_eq!(word(&front.show(1).await), "picture");
    assert_eq!(front.downloads(), 2);
    sleep(180 * MINUTE).await;
    assert_eq!(word(&front.show(1).await), "stale", "it was shown since the rejection");
    assert_eq!(word(&front.show(2).await), "failed", "it was not");
}

#[tokio::test(start_paused = true)]
async fn no_link_leads_to_the_picture_of_a_token_that_was_rejected_during_the_look_up() {
    let rate = RateSettings { per_second: 0.0, burst: 0 };
    let script = |chat: &str, _| {
        if is_ninth(chat) { at_once(rejected()) } else { (SECOND, Some(Ok(short_link(chat)))) }
    };
    let front = front_with(rate, Mode::Redirect, script, image_at_once);
    let later = async {
        sleep(SECOND / 2).await;
        reject(&front).await;
    };
    let (shown, ()) = tokio::join!(front.show(1), later);
    assert_eq!(word(&shown), "not yet");
    sleep(2 * SECOND).await;
    assert_eq!(word(&front.show(2).await), "link");
}
