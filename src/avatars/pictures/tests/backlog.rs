//! Contacts that have to wait for their look-up: none is forgotten, and a failing instance is left alone.

use futures_util::future::join_all;

use super::*;
use crate::domain::Rejected;

/// More than there may be look-ups in progress.
const CONTACTS: u64 = 100;

/// Asks for all contacts at once, and for none of them again.
async fn ask(front: &Front<impl LookupService>) {
    join_all((0..CONTACTS).map(|chat| front.show(chat))).await;
}

/// The number of contacts that Hypersender was asked for.
fn asked_for(front: &Front<impl LookupService>) -> usize {
    front.upstream.attempts.lock().len()
}

#[tokio::test(start_paused = true)]
async fn every_contact_is_looked_up_and_nothing_is_downloaded_unasked() {
    let front = front(|chat, number| (3 * SECOND, Some(Ok(link(chat, 1, number)))), image_at_once);
    ask(&front).await;
    assert!(asked_for(&front) <= 32, "{}", asked_for(&front));
    let start = Instant::now();
    assert_eq!(word(&front.show(CONTACTS - 1).await), "not yet");
    assert!(start.elapsed().is_zero(), "a contact of the backlog is not waited for");
    sleep(30 * SECOND).await;
    assert_eq!((asked_for(&front), front.attempts()), (100, 100));
    assert!(front.downloads() <= 32, "only for the requests that waited for the look-up");
    for chat in 0..CONTACTS {
        assert_eq!(word(&front.show(chat).await), "picture");
    }
    assert_eq!(front.attempts(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_loses_no_contact() {
    let rate = RateSettings { per_second: 1.0, burst: 1 };
    let front =
        front_with(rate, Mode::Bytes, |chat, number| at_once(Ok(link(chat, 1, number))), image_at_once);
    ask(&front).await;
    // Look-ups that got no turn within their 10 s wait again.
    sleep(115 * SECOND).await;
    assert!(asked_for(&front) >= 98, "{}", asked_for(&front));
    assert_eq!(front.attempts() as usize, asked_for(&front));
}

#[tokio::test(start_paused = true)]
async fn a_rate_without_turns_makes_no_hot_loop() {
    let rate = RateSettings { per_second: 0.01, burst: 1 };
    let front =
        front_with(rate, Mode::Bytes, |chat, number| at_once(Ok(link(chat, 1, number))), image_at_once);
    ask(&front).await;
    sleep(10 * MINUTE).await;
    assert!((5..=8).contains(&asked_for(&front)), "{}", asked_for(&front));
    // Contacts of a page that was left 15 minutes ago are forgotten.
    sleep(6 * MINUTE).await;
    let count = asked_for(&front);
    sleep(60 * MINUTE).await;
    assert_eq!(asked_for(&front), count);
}

#[tokio::test(start_paused = true)]
async fn a_failing_instance_is_left_alone() {
    for (error, attempts_max, comes_back) in [
        (LookupError::CredentialsRejected(Rejected::Own), 32, false),
        (LookupError::InstanceNotConnected, 32, false),
        // The breaker opens, and its probes go on.
        (unavailable(), 60, true),
        (LookupError::Blocked { wait: 30 * SECOND }, 32, true),
        (LookupError::UpstreamRateLimited { retry_after: Some(30 * SECOND) }, 150, true),
    ] {
        let failing = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (is_failing, failure) = (failing.clone(), error.clone());
        let front = front(
            move |chat, number| {
                let fails = is_failing.load(std::sync::atomic::Ordering::Relaxed);
                at_once(if fails { Err(failure.clone()) } else { Ok(link(chat, 1, number)) })
            },
            image_at_once,
        );
        ask(&front).await;
        sleep(2 * MINUTE).await;
        let attempts = front.attempts();
        assert!(attempts <= attempts_max, "{error:?}: {attempts} attempts");
        failing.store(false, std::sync::atomic::Ordering::Relaxed);
        sleep(3 * MINUTE).await;
        let more = front.attempts() - attempts;
        assert_eq!(more > 0, comes_back, "{error:?}: {more} more attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_look_up_does_not_stop_the_others() {
    let front = front(
        |chat, number| match chat {
            "15550000050" => (SECOND, None),
            _ => (SECOND, Some(Ok(link(chat, 1, number)))),
        },
        image_at_once,
    );
    ask(&front).await;
    sleep(MINUTE).await;
    assert_eq!(asked_for(&front), 100);
    assert_eq!(word(&front.show(99).await), "picture");
}

#[tokio::test(start_paused = true)]
async fn the_backlog_ends_with_the_pictures() {
    let front = front(|chat, number| (SECOND, Some(Ok(link(chat, 1, number)))), image_at_once);
    let waiting = join_all((0..CONTACTS).map(|chat| front.show(chat)));
    assert!(tokio::time::timeout(SECOND / 2, waiting).await.is_err());
    let Front { pictures, upstream, .. } = front;
    drop(pictures);
    sleep(30 * SECOND).await;
    let asked = upstream.attempts.lock().len();
    assert!(asked <= 64, "{asked} look-ups, though nobody can see the images");
}
