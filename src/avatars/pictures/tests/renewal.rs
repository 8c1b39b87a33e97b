//! Links that the CDN refuses.

use super::*;

/// Refuses the first link of each contact.
fn refuse_first(link: &str) -> File {
    if is_number(link, 1) { refuse(link) } else { image_at_once(link) }
}

/// Shows the contact once, so that its answer is in memory, and waits until the refresh floor is over.
async fn known(front: &Front<impl LookupService>, chat: u64) {
    let target = Target::new(front.wanted(chat, Size::S96), &front.pictures.0.cache, &front.pictures.0.stack);
    let found = front.pictures.0.stack.avatar(target.lookup(CacheControl::default()));
    assert!(found.await.is_ok());
    sleep(MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_link_is_renewed_in_the_same_request() {
    for status in [403, 404, 410] {
        let front = front(
            |chat, number| at_once(Ok(link(chat, 1, number))),
            move |link| {
                if is_number(link, 1) {
                    (Duration::ZERO, Some(Err(FetchError::Status(status))))
                } else {
                    image_at_once(link)
                }
            },
        );
        known(&front, 1).await;
        assert_eq!(word(&front.show(1).await), "picture");
        assert_eq!((front.attempts(), front.downloads()), (2, 2), "one new look-up, one more download");
        assert_eq!(word(&front.show(1).await), "picture");
        assert_eq!((front.attempts(), front.downloads()), (2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn all_sizes_of_a_contact_share_a_renewal() {
    let front = front(|chat, number| (SECOND / 2, Some(Ok(link(chat, 1, number)))), refuse_first);
    known(&front, 1).await;
    let shown = futures_util::future::join_all(Size::ALL.map(|size| {
        let wanted = front.wanted(1, size);
        let pictures = front.pictures.clone();
        async move { pictures.show(wanted, &Seen::default()).await }
    }));
    for shown in shown.await {
        assert_eq!(word(&shown), "picture");
    }
    assert_eq!((front.attempts(), front.downloads()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn within_the_refresh_floor_there_is_no_renewal() {
    let front = front(|chat, number| at_once(Ok(link(chat, 1, number))), refuse_first);
    assert_eq!(word(&front.show(1).await), "not yet");
    assert_eq!((front.attempts(), front.downloads()), (1, 1));
    assert_eq!(word(&front.show(1).await), "not yet");
    assert_eq!((front.attempts(), front.downloads()), (1, 1));
    sleep(MINUTE).await;
    assert_eq!(word(&front.show(1).await), "picture");
    assert_eq!((front.attempts(), front.downloads()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_new_link_that_is_refused_too_is_no_image() {
    let front = front(|chat, number| at_once(Ok(link(chat, 1, number))), refuse);
    known(&front, 1).await;
    for _ in 0..5 {
        assert_eq!(word(&front.show(1).await), "no image");
        assert_eq!((front.attempts(), front.downloads()), (2, 2), "one renewal, one more download");
    }
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_has_no_picture_any_more_is_absent() {
    let front = front(
        |chat, number| {
            at_once(Ok(if number == 1 { link(chat, 1, 1) } else { Finding::Absent(Absence::ForeignLink) }))
        },
        refuse,
    );
    known(&front, 1).await;
    assert_eq!(word(&front.show(1).await), "absent");
    assert_eq!((front.attempts(), front.downloads()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_may_find_another_picture() {
    let front = front(|chat, number| at_once(Ok(link(chat, number, number))), refuse_first);
    known(&front, 1).await;
    let tag = fresh_tag(&front.show(1).await);
    let new = front.pictures.tagger().picture("15550000001_2_1_n.jpg", Size::S96);
    assert_eq!(tag, new);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_shows_the_failure() {
    let front = front(
        |chat, number| {
            at_once(if number == 1 { Ok(link(chat, 1, 1)) } else { Err(LookupError::RequestRejected) })
        },
        refuse,
    );
    known(&front, 1).await;
    assert_eq!(word(&front.show(1).await), "failed");
    assert_eq!(front.downloads(), 1);
}

/// The CDN refuses everything for an hour, and 1,000 avatars are in use.
#[tokio::test(start_paused = true)]
async fn a_cdn_that_refuses_everything_causes_few_renewals() {
    let front = front(|chat, number| at_once(Ok(link(chat, 1, number))), refuse);
    for chat in 0..1000 {
        let found = front.pictures.0.stack.avatar(
            Target::new(front.wanted(chat, Size::S96), &front.pictures.0.cache, &front.pictures.0.stack)
                .lookup(CacheControl::default()),
        );
        assert!(found.await.is_ok());
    }
    sleep(40 * SECOND).await;
    assert_eq!(front.attempts(), 1000);
    // Answers stay fresh for up to an hour, so look-ups of their own end are not among the attempts.
    for _ in 0..52 {
        let shown = (0..1000).map(|chat| front.show(chat));
        futures_util::future::join_all(shown).await;
        sleep(MINUTE).await;
    }
    let renewed = front.attempts() - 1000;
    assert!((5..=5 + 6).contains(&renewed), "{renewed}");
}
