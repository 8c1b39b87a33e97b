//! How long requests wait, and what goes on when they have left.

use futures_util::future::join_all;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_waits_two_seconds_and_the_work_goes_on() {
    for (look_up, download) in [(3, 0), (0, 3), (1, 2)].map(|(a, b)| (a * SECOND, b * SECOND)) {
        let front = front(
            move |chat, number| (look_up, Some(Ok(link(chat, 1, number)))),
            move |_| (download, Some(Ok(jpeg()))),
        );
        let start = Instant::now();
        assert_eq!(word(&front.show(1).await), "not yet");
        assert_eq!(start.elapsed().as_secs(), 2);
        sleep(2 * SECOND).await;
        assert_eq!((front.attempts(), front.downloads()), (1, 1), "{look_up:?} {download:?}");
        let start = Instant::now();
        assert_eq!(word(&front.show(1).await), "picture");
        assert!(start.elapsed().is_zero(), "it is in memory");
    }
}

#[tokio::test(start_paused = true)]
async fn the_work_goes_on_when_the_browser_has_left() {
    let front =
        front(|chat, number| (SECOND, Some(Ok(link(chat, 1, number)))), |_| (SECOND, Some(Ok(jpeg()))));
    for leaves_after in [SECOND / 2, 3 * SECOND / 2] {
        let chat = u64::from(leaves_after.subsec_millis()) + leaves_after.as_secs();
        assert!(tokio::time::timeout(leaves_after, front.show(chat)).await.is_err());
        sleep(3 * SECOND).await;
        let start = Instant::now();
        assert_eq!(word(&front.show(chat).await), "picture");
        assert!(start.elapsed().is_zero());
    }
    assert_eq!((front.attempts(), front.downloads()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_has_the_image_causes_no_download() {
    let front = front(|chat, number| (SECOND, Some(Ok(link(chat, 1, number)))), image_at_once);
    let tag = fresh_tag(&front.show(1).await);
    let other = self::front(|chat, number| (SECOND, Some(Ok(link(chat, 1, number)))), image_at_once);
    let Inner { tagger, .. } = &*other.pictures.0;
    let own = tagger.picture("15550000001_1_1_n.jpg", Size::S96);
    assert_ne!(own, tag, "each process has a key of its own without a setting");
    for _ in 0..2 {
        let shown = other.pictures.show(other.wanted(1, Size::S96), &with(&own)).await;
        assert!(matches!(shown, Shown::Unchanged { is_stale: false, fresh_for, .. } if fresh_for > MINUTE));
    }
    assert_eq!((other.attempts(), other.downloads()), (1, 0));
    let shown = other.pictures.show(other.wanted(1, Size::S96), &with(&tag)).await;
    assert_eq!((word(&shown), other.downloads()), ("picture", 1));
}

/// The words for a page of 500 contacts that a browser loads over six connections of HTTP/1.1.
async fn page(front: &Front<impl LookupService>) -> Vec<&'static str> {
    let next = std::sync::atomic::AtomicU64::new(0);
    let connection = || async {
        let mut words = Vec::new();
        loop {
            let chat = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if chat >= 500 {
                return words;
            }
            words.push(word(&front.show(chat).await));
        }
    };
    join_all((0..6).map(|_| connection())).await.concat()
}

#[tokio::test(start_paused = true)]
async fn a_page_of_500_new_contacts_ends_over_six_connections() {
    const RATE: RateSettings = RateSettings { per_second: 5.0, burst: 20 };
    const WITHOUT_LIMIT: RateSettings = RateSettings { per_second: 0.0, burst: 0 };
    for (rate, look_up, download) in [
        (RATE, SECOND / 10, SECOND / 10),
        // A CDN that hangs.
        (RATE, SECOND / 10, 60 * SECOND),
        (WITHOUT_LIMIT, SECOND / 10, 60 * SECOND),
        (WITHOUT_LIMIT, 19 * SECOND / 10, 60 * SECOND),
        (WITHOUT_LIMIT, 60 * SECOND, SECOND / 10),
    ] {
        let front = front_with(
            rate,
            Mode::Bytes,
            move |chat, number| (look_up, Some(Ok(link(chat, 1, number)))),
            move |_| (download, Some(Ok(jpeg()))),
        );
        let start = Instant::now();
        let words = page(&front).await;
        assert!(start.elapsed() <= 12 * SECOND, "{:?}", start.elapsed());
        assert_eq!(words.len(), 500);
        assert!(words.iter().all(|word| ["picture", "not yet"].contains(word)), "{words:?}");
        assert_eq!(words.contains(&"picture"), look_up + download < 2 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_view_of_a_page_of_500_new_contacts_is_full() {
    let front = front_with(
        RateSettings { per_second: 5.0, burst: 20 },
        Mode::Bytes,
        |chat, number| (SECOND / 10, Some(Ok(link(chat, 1, number)))),
        |_| (SECOND / 10, Some(Ok(jpeg()))),
    );
    let start = Instant::now();
    page(&front).await;
    let downloads = front.downloads();
    tokio::time::sleep_until(start + 100 * SECOND).await;
    assert!(front.attempts() >= 490, "{} look-ups", front.attempts());
    assert!(front.downloads() <= downloads + 32, "nothing is downloaded before it is asked for");
    let start = Instant::now();
    let words = page(&front).await;
    let pictures = words.iter().filter(|word| **word == "picture").count();
    assert!(pictures >= 490, "{pictures} pictures");
    assert!(start.elapsed() <= 12 * SECOND, "{:?}", start.elapsed());
    assert_eq!(front.upstream.attempts.lock().values().max(), Some(&1), "each contact is asked for once");
    // Waits for images that came have cost nothing.
    let share = front.pictures.0.patience.share(&Instance::parse("shop").unwrap()).unwrap();
    assert!(share.wait().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_page_of_500_new_contacts_ends_soon_over_one_connection_of_http_2() {
    let rate = RateSettings { per_second: 5.0, burst: 20 };
    let front = front_with(
        rate,
        Mode::Bytes,
        |chat, number| (SECOND / 10, Some(Ok(link(chat, 1, number)))),
        |_| (SECOND / 10, Some(Ok(jpeg()))),
    );
    let start = Instant::now();
    let shown = join_all((0..500).map(|chat| front.show(chat))).await;
    assert!(start.elapsed() <= 3 * SECOND, "{:?}", start.elapsed());
    assert_eq!(shown.len(), 500);
    assert!(front.attempts() <= 32, "{} look-ups were begun", front.attempts());
}

#[tokio::test(start_paused = true)]
async fn without_waiting_time_memory_is_served_and_work_begins() {
    let front = front(|chat, number| (3 * SECOND, Some(Ok(link(chat, 1, number)))), image_at_once);
    // 30 waits of 2 s are more than the 36 s of an instance.
    let shown = join_all((0..30).map(|chat| front.show(chat))).await;
    assert!(shown.iter().all(|shown| word(shown) == "not yet"));
    sleep(8 * SECOND).await;
    let start = Instant::now();
    for chat in 0..30 {
        assert_eq!(word(&front.show(chat).await), "picture");
    }
    assert_eq!(word(&front.show(100).await), "not yet");
    assert!(start.elapsed().is_zero(), "no request waits");
    sleep(4 * SECOND).await;
    assert_eq!(word(&front.show(100).await), "picture", "the work was done meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_redirect_ends_ten_minutes_before_its_link() {
    let upstream = |chat: &str, number| {
        let end = wall() + 12 * MINUTE;
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        at_once(Ok(link_at("https://pps.whatsapp.net", chat, 1, number, end)))
    };
    let rate = RateSettings { per_second: 0.0, burst: 0 };
    let front = front_with(rate, Mode::Redirect, upstream, image_at_once);
    let Shown::Link { link, fresh_for, is_stale } = front.show(1).await else {
        panic!("there is a link");
    };
    assert!(is_number(link.url(), 1) && !is_stale && fresh_for <= 2 * MINUTE, "{fresh_for:?}");
    assert_eq!(front.downloads(), 0);
}
