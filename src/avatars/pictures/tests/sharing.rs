//! Work that is done once for all, failures that are remembered, and images from before.

use futures_util::future::join_all;

use super::*;
use crate::domain::Rejected;

#[tokio::test(start_paused = true)]
async fn each_image_is_made_once_for_all_that_ask() {
    let front = front(
        |chat, number| (SECOND / 10, Some(Ok(link(chat, 1, number)))),
        |_| (SECOND / 10, Some(Ok(jpeg()))),
    );
    for _ in 0..4 {
        let shown = join_all((0..100).map(|number| front.show(number % 25))).await;
        assert!(shown.iter().all(|shown| word(shown) == "picture"));
    }
    assert_eq!((front.attempts(), front.downloads()), (25, 25));
    // Another size within a minute costs no other download.
    let wanted = front.wanted(1, Size::S48);
    assert_eq!(word(&front.pictures.show(wanted, &Seen::default()).await), "picture");
    assert_eq!(front.downloads(), 25);
    sleep(2 * MINUTE).await;
    let wanted = front.wanted(1, Size::S640);
    assert_eq!(word(&front.pictures.show(wanted, &Seen::default()).await), "picture");
    assert_eq!(front.downloads(), 26);
}

#[tokio::test(start_paused = true)]
async fn a_failed_download_is_not_tried_again_for_a_while() {
    for error in [
        FetchError::TimedOut,
        FetchError::Unreachable,
        FetchError::BrokenOff,
        FetchError::Status(500),
        FetchError::Status(302),
        FetchError::NotAllowed,
        FetchError::NotPublic,
        FetchError::TooLarge,
        FetchError::NotAnImage,
    ] {
        let front = front(
            |chat, number| at_once(Ok(link(chat, 1, number))),
            move |_| (Duration::ZERO, Some(Err(error))),
        );
        for _ in 0..3 {
            assert_eq!(word(&front.show(1).await), "no image", "{error:?}");
        }
        assert_eq!((front.attempts(), front.downloads()), (1, 1), "{error:?}");
        sleep(15 * SECOND).await;
        assert_eq!(word(&front.show(1).await), "no image");
        assert_eq!((front.attempts(), front.downloads()), (1, 2), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_decoded_is_no_image() {
    let broken = Image { kind: Kind::Png, bytes: b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR".to_vec() };
    let front = front(
        |chat, number| at_once(Ok(link(chat, 1, number))),
        move |_| (Duration::ZERO, Some(Ok(broken.clone()))),
    );
    for _ in 0..3 {
        assert_eq!(word(&front.show(1).await), "no image");
    }
    assert_eq!(front.downloads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_request_and_no_later_one() {
    let front = front(
        |chat, number| match (chat, number) {
            ("15550000001", 1) => (SECOND, None),
            _ => at_once(Ok(link(chat, 1, number))),
        },
        {
            let first = Mutex::new(true);
            move |link| {
                let is_first = std::mem::take(&mut *first.lock());
                if is_first { (SECOND, None) } else { image_at_once(link) }
            }
        },
    );
    assert_eq!(word(&front.show(1).await), "failed");
    assert_eq!(word(&front.show(2).await), "no image");
    for chat in [1, 2] {
        assert_eq!(word(&front.show(chat).await), "picture", "{chat}");
    }
}

#[tokio::test(start_paused = true)]
async fn contacts_without_a_picture_are_absent() {
    for finding in [
        Finding::Absent(Absence::Null),
        Finding::Absent(Absence::ForeignLink),
        Finding::NotFound(NotFound::NotOnWhatsApp),
    ] {
        let answer = finding.clone();
        let front = front(move |_, _| at_once(Ok(answer.clone())), image_at_once);
        let mut times = [Duration::ZERO; 2];
        for time in &mut times {
            let Shown::Absent { fresh_for } = front.show(1).await else {
                panic!("{finding:?}");
            };
            *time = fresh_for;
            sleep(20 * SECOND).await;
        }
        assert_eq!(times[0], times[1] + 20 * SECOND, "{finding:?}");
        assert_eq!((front.attempts(), front.downloads()), (1, 0));
    }
    let front = front(|_, _| at_once(Ok(Finding::NotFound(NotFound::Upstream))), image_at_once);
    let shown = front.show(1).await;
    assert!(matches!(shown, Shown::Failed(LookupError::NotFound(NotFound::Upstream))), "{shown:?}");
}

/// Shows a contact once, and then, when its answer has ended with its link, again for each of `later`.
async fn shown_later<const N: usize>(
    later: [Result<Finding, LookupError>; N],
    cdn: fn(&str) -> File,
) -> [&'static str; N] {
    let last = later.clone();
    let front = front(
        move |chat, number| match number {
            1 => at_once(Ok(short_link(chat, 1, 1))),
            _ => at_once(last[number as usize - 2].clone()),
        },
        move |link| if is_number(link, 1) { image_at_once(link) } else { cdn(link) },
    );
    assert_eq!(word(&front.show(1).await), "picture");
    let mut words = [""; N];
    for word in &mut words {
        sleep(3 * 60 * MINUTE).await;
        *word = self::word(&front.show(1).await);
    }
    words
}

/// A link that ends two hours after the beginning of the test.
fn short_link(chat: &str, version: u32, number: u32) -> Finding {
    let end = (wall() + 120 * MINUTE).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    link_at("https://pps.whatsapp.net", chat, version, number, end)
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_shows_no_image_from_before_to_any_contact() {
    let front = front(
        |chat, number| match (chat.ends_with('1'), number) {
            (_, 1) => at_once(Ok(short_link(chat, 1, 1))),
            (true, _) => at_once(Err(LookupError::CredentialsRejected(Rejected::Own))),
            (false, _) => at_once(Err(unavailable())),
        },
        image_at_once,
    );
    for contact in [1, 2, 3] {
        assert_eq!(word(&front.show(contact).await), "picture");
    }
    sleep(3 * 60 * MINUTE).await;
    assert_eq!(word(&front.show(2).await), "stale", "nothing is rejected yet");
    assert_eq!(word(&front.show(1).await), "failed");
    sleep(3 * 60 * MINUTE).await;
    for contact in [1, 2, 3] {
        assert_eq!(word(&front.show(contact).await), "failed", "{contact}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_shows_the_image_from_before_unless_it_concerns_the_contact() {
    let rejected = LookupError::CredentialsRejected(Rejected::Own);
    assert_eq!(shown_later([Err(unavailable()), Err(unavailable())], refuse).await, ["stale", "stale"]);
    assert_eq!(shown_later([Err(LookupError::ResponseInvalid)], refuse).await, ["stale"]);
    assert_eq!(shown_later([Err(rejected), Err(unavailable())], refuse).await, ["failed", "failed"]);
    let gone = Finding::NotFound(NotFound::Upstream);
    assert_eq!(shown_later([Ok(gone), Err(unavailable())], refuse).await, ["failed", "failed"]);
    let nowhere = Finding::NotFound(NotFound::NotOnWhatsApp);
    assert_eq!(shown_later([Ok(nowhere), Err(unavailable())], refuse).await, ["absent", "failed"]);
    let absent = Finding::Absent(Absence::ForeignLink);
    assert_eq!(shown_later([Ok(absent), Err(unavailable())], refuse).await[0], "absent");
    let new = link("15550000001", 2, 2);
    assert_eq!(shown_later([Ok(new.clone())], refuse).await, ["stale"], "the link is new");
    let failing: fn(&str) -> File = |_| (Duration::ZERO, Some(Err(FetchError::TimedOut)));
    assert_eq!(shown_later([Ok(new)], failing).await, ["stale"]);
}

#[tokio::test(start_paused = true)]
async fn an_image_from_before_is_shown_in_the_best_size_and_without_a_copy_of_what_the_browser_has() {
    let front = front(
        |chat, number| at_once(if number == 1 { Ok(short_link(chat, 1, 1)) } else { Err(unavailable()) }),
        image_at_once,
    );
    let tag = fresh_tag(&front.show(1).await);
    sleep(3 * 60 * MINUTE).await;
    for size in Size::ALL {
        let shown = front.pictures.show(front.wanted(1, size), &Seen::default()).await;
        assert!(matches!(&shown, Shown::Picture { is_stale: true, tag: found, .. } if *found == tag));
        let shown = front.pictures.show(front.wanted(1, size), &with(&tag)).await;
        assert!(matches!(&shown, Shown::Unchanged { is_stale: true, fresh_for: Duration::ZERO, .. }));
    }
}
