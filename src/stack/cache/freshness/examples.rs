//! Examples of freshness: the answers so far, the time of the next call, and its result.
//!
//! Settings are the defaults, lifetimes are not shortened, and times are seconds since the first answer.

use std::time::SystemTime;

use super::{
    CacheStatus::{Expired, Hit, Refreshed, Stale},
    Decision::{Fetch, NotCached, Serve, ServeAndRefresh},
    *,
};
use crate::domain::{Again, NotFound, Rejected};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const WALL: Duration = Duration::from_secs(1_768_000_000);

#[derive(Clone, Copy, Debug)]
enum Said {
    /// A link whose `oe` is this many seconds after the beginning.
    Link(u64),
    LinkWithoutEnd,
    /// A link of another signer, which expires this many seconds after the beginning.
    Signed(u64),
    /// A signed link without a readable expiry.
    SignedInSecret,
    Null,
    /// Null after more than 5 s.
    SlowNull,
    Foreign,
    NotFound,
}
use Said::{Foreign, Link, LinkWithoutEnd, Null, Signed, SignedInSecret, SlowNull};

const TEN_DAYS: Said = Link(10 * DAY);
const ANY: CacheControl =
    CacheControl { max_age: None, min_fresh: None, stale_if_error: None, only_if_cached: false };

fn max_age(seconds: u64) -> CacheControl {
    CacheControl { max_age: Some(Duration::from_secs(seconds)), ..ANY }
}

fn min_fresh(seconds: u64) -> CacheControl {
    CacheControl { min_fresh: Some(Duration::from_secs(seconds)), ..ANY }
}

fn stale_if_error(seconds: u64) -> CacheControl {
    CacheControl { stale_if_error: Some(Duration::from_secs(seconds)), ..ANY }
}

const CACHED: CacheControl = CacheControl { only_if_cached: true, ..ANY };

fn now(start: Instant, seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now { instant: start + since, wall: SystemTime::UNIX_EPOCH + WALL + since }
}

fn answer(said: Said, fetched: Now) -> Answer {
    let link = |url: &str| Finding::Picture(PictureLink::parse(url, fetched.wall).unwrap());
    let finding = match said {
        Link(end) => {
            let url = format!("https://pps.whatsapp.net/p.jpg?oe={:x}", WALL.as_secs() + end);
            link(&url)
        }
        LinkWithoutEnd => link("https://pps.whatsapp.net/p.jpg"),
        Signed(end) => link(&format!("https://h/p.jpg?expires={}&signature=s", WALL.as_secs() + end)),
        SignedInSecret => link("https://h/p.jpg?expires=soon&signature=s"),
        Null | SlowNull => Finding::Absent(Absence::Null),
        Foreign => Finding::Absent(Absence::ForeignLink),
        Said::NotFound => Finding::NotFound(NotFound::NotOnWhatsApp),
    };
    let took = Duration::from_secs(if matches!(said, SlowNull) { 6 } else { 0 });
    Answer { finding, fetched, took, cache: CacheInfo::FETCHED }
}

fn entry(said: &[(u64, Said)], start: Instant) -> Option<Entry> {
    said.iter().fold(None, |entry, (at, said)| {
        Some(Entry::settle(entry, &answer(*said, now(start, *at)), 1.0, &Settings::default()))
    })
}

fn check(said: &[(u64, Said)], asked: u64, control: CacheControl, expected: Decision) {
    let start = Instant::now();
    let entry = entry(said, start);
    let decision = decide(entry.as_ref(), now(start, asked), &control, &Settings::default());
    assert_eq!(decision, expected, "{said:?}, after {asked} s, {control:?}");
}

/// Checks the result of a call whose fetch brings `brought`. The other arguments are those of [`check`].
fn check_fetch(
    said: &[(u64, Said)],
    brought: Result<Said, LookupError>,
    asked: u64,
    control: CacheControl,
    expected: Result<(Said, CacheStatus), LookupError>,
) {
    let start = Instant::now();
    let now = now(start, asked);
    let mut said = said.to_vec();
    said.extend(brought.iter().map(|brought| (asked, *brought)));
    let what = format!("{said:?}, fetch of {brought:?} after {asked} s, {control:?}");
    let fetched = brought.map(|said| answer(said, now));
    let got = after_fetch(fetched, entry(&said, start), now, &control, &Settings::default());
    let got = got.map(|answer| (answer.finding, answer.cache.status));
    let expected = expected.map(|(said, status)| (answer(said, now).finding, status));
    assert_eq!(got, expected, "{what}");
}

#[test]
fn rule_5_how_long_an_answer_is_fresh() {
    check(&[], 0, ANY, Fetch(CacheStatus::Miss));
    for (said, fresh_seconds) in [
        // An hour, or until ten minutes before the expiry, but at least half a minute.
        (TEN_DAYS, HOUR),
        (Link(30 * 60), 20 * 60),
        (Link(10 * 60), 30),
        (Link(2 * 60), 30),
        // The time is shorter only if the link would be in its last minute.
        (Link(80), 20),
        (LinkWithoutEnd, 15 * 60),
        (Signed(30 * 60), 20 * 60),
        (SignedInSecret, 15 * 60),
        (Link(400 * DAY), HOUR),
        (Link(400 * DAY + 1), 15 * 60),
        (Null, 10 * 60),
        (SlowNull, 30),
        (Foreign, 10 * 60),
        (Said::NotFound, 60),
    ] {
        check(&[(0, said)], fresh_seconds - 1, ANY, Serve(Hit));
        let after = entry(&[(0, said)], Instant::now()).unwrap();
        assert!(!after.is_fresh(now(after.fetched.instant, fresh_seconds), &Settings::default()), "{said:?}");
    }
}

#[test]
fn rule_5_within_the_floor_nothing_that_could_be_served_is_fetched() {
    let link = [(0, TEN_DAYS)];
    for (control, in_floor, after) in [
        (max_age(0), Serve(Hit), Fetch(Refreshed)),
        (max_age(29), Serve(Hit), Fetch(Refreshed)),
        (min_fresh(11 * DAY), Serve(Hit), Fetch(Refreshed)),
        (CacheControl { max_age: Some(Duration::ZERO), ..CACHED }, Serve(Hit), NotCached),
        (ANY, Serve(Hit), Serve(Hit)),
    ] {
        check(&link, 29, control, in_floor);
        check(&link, 30, control, after);
    }
    // The fetch did not displace the stored answer. It is stale but still served, to callers that accept it.
    let doubted = [(0, TEN_DAYS), (100, Null)];
    check(&doubted, 129, max_age(0), Serve(Stale));
    check(&doubted, 129, stale_if_error(0), Fetch(Expired));
    check(&doubted, 130, max_age(0), Fetch(Expired));
}

#[test]
fn rule_6_no_link_in_its_last_minute() {
    for control in [ANY, max_age(DAY), stale_if_error(DAY)] {
        check(&[(0, Link(2_000))], 1_939, control, ServeAndRefresh);
        check(&[(0, Link(2_000))], 1_940, control, Fetch(Expired));
    }
    check(&[(0, Link(2_000))], 1_939, CACHED, Serve(Stale));
    check(&[(0, Link(2_000))], 1_940, CACHED, NotCached);
    // The exception: a link that was dead on arrival.
    check(&[(0, Link(60))], 29, ANY, Serve(Hit));
    check(&[(0, Link(60))], 30, ANY, Fetch(Expired));
    check(&[(0, Link(60))], 30, CACHED, NotCached);
    // It does not displace a living link, which is not fetched again during the floor.
    check(&[(0, TEN_DAYS), (60, Link(60))], 89, ANY, Serve(Stale));
    check(&[(0, TEN_DAYS), (60, Link(60))], 90, ANY, ServeAndRefresh);
}

#[test]
fn rule_6_a_link_whose_end_is_not_known_is_handed_out_for_a_quarter_of_an_hour_alone() {
    const TRUST: u64 = 15 * 60;
    let short = Settings { ttl: Duration::from_secs(60), ..Settings::default() };
    let overdue = LookupError::DeadlineExceeded;
    for said in [LinkWithoutEnd, SignedInSecret, Link(401 * DAY)] {
        let link = [(0, said)];
        check(&link, TRUST - 1, ANY, Serve(Hit));
        check(&link, TRUST, ANY, Fetch(Expired));
        check(&link, TRUST, CACHED, NotCached);
        check_fetch(&link, Err(overdue.clone()), TRUST, ANY, Err(overdue.clone()));
        // A shorter lifetime leaves some time in which the link is stale.
        let start = Instant::now();
        let entry = Entry::settle(None, &answer(said, now(start, 0)), 1.0, &short);
        for (asked, expected) in [(59, Serve(Hit)), (60, ServeAndRefresh), (TRUST, Fetch(Expired))] {
            assert_eq!(decide(Some(&entry), now(start, asked), &ANY, &short), expected, "{said:?}");
        }
        // A later null does not prolong that time.
        check_fetch(&link, Ok(Null), TRUST - 1, ANY, Ok((said, Stale)));
        check_fetch(&link, Ok(Null), TRUST, ANY, Ok((Null, CacheStatus::Miss)));
        check(&[(0, said), (TRUST - 1, Null)], TRUST - 1, ANY, Serve(Stale));
        check(&[(0, said), (TRUST - 1, Null)], TRUST, ANY, Fetch(Expired));
        check(&[(0, said), (TRUST, Null)], TRUST, ANY, Serve(Hit));
    }
    // A link with a readable expiry is served until its last minute, for every signer.
    check(&[(0, Signed(2_000))], 1_939, ANY, ServeAndRefresh);
    check(&[(0, Signed(2_000))], 1_940, ANY, Fetch(Expired));
}

#[test]
fn rule_6_a_link_that_came_dead_is_never_stale_though_the_clock_is_put_back() {
    let start = Instant::now();
    let entry = entry(&[(0, Link(60))], start).unwrap();
    let put_back = Now { wall: SystemTime::UNIX_EPOCH, ..now(start, 30) };
    assert_eq!(decide(Some(&entry), put_back, &ANY, &Settings::default()), Fetch(Expired));
}

#[test]
fn rule_7_a_first_null_does_not_displace_a_link() {
    let once = [(0, TEN_DAYS), (HOUR, Null)];
    check(&once, HOUR + 599, ANY, Serve(Stale));
    check(&once, HOUR + 600, ANY, ServeAndRefresh);
    check(&[(0, TEN_DAYS), (HOUR, SlowNull)], HOUR + 30, ANY, ServeAndRefresh);
    // The age of the link does not matter. Only rule 6 and the caller limit it.
    check(&[(0, TEN_DAYS), (3 * DAY, Null)], 3 * DAY + 599, ANY, Serve(Stale));
    check(&[(0, TEN_DAYS), (3 * DAY, Null)], 3 * DAY + 599, stale_if_error(HOUR), Fetch(Expired));
    // A second null displaces the link, even when other answers came between them ...
    let twice = [(0, TEN_DAYS), (HOUR, Null), (HOUR + 600, Null)];
    check(&twice, HOUR + 1_199, ANY, Serve(Hit));
    let apart = [(0, TEN_DAYS), (100, Null), (200, Link(60)), (300, Null)];
    check(&apart, 899, ANY, Serve(Hit));
    // ... unless a link came between. A default image leaves no doubt.
    check(&[(0, TEN_DAYS), (100, Null), (200, TEN_DAYS), (300, Null)], 301, ANY, Serve(Stale));
    check(&[(0, TEN_DAYS), (100, Foreign)], 101, ANY, Serve(Hit));

    check_fetch(&[(0, TEN_DAYS)], Ok(Null), HOUR, ANY, Ok((TEN_DAYS, Stale)));
    check_fetch(&[(0, TEN_DAYS)], Ok(Null), 3 * DAY, ANY, Ok((TEN_DAYS, Stale)));
    check_fetch(&[(0, TEN_DAYS)], Ok(Null), HOUR, stale_if_error(0), Ok((Null, CacheStatus::Miss)));
    check_fetch(&[(0, TEN_DAYS), (9, Null)], Ok(Null), HOUR, ANY, Ok((Null, CacheStatus::Miss)));
    check_fetch(&[(0, TEN_DAYS)], Ok(Foreign), HOUR, ANY, Ok((Foreign, CacheStatus::Miss)));
    check_fetch(&[(0, Link(HOUR))], Ok(Null), HOUR, ANY, Ok((Null, CacheStatus::Miss)));
}

#[test]
fn rule_8_not_found_is_not_kept_for_long() {
    let not_found = [(0, Said::NotFound)];
    check(&not_found, 60, ANY, Fetch(Expired));
    check(&not_found, 60, CACHED, NotCached);
    check_fetch(&not_found, Err(LookupError::DeadlineExceeded), 60, ANY, Err(LookupError::DeadlineExceeded));
}

#[test]
fn rule_9_stale_while_it_is_renewed_and_when_that_fails() {
    let link = [(0, TEN_DAYS)];
    check(&link, HOUR + 900, ANY, ServeAndRefresh);
    check(&link, HOUR + 901, ANY, Fetch(Expired));
    let late = HOUR + 901;
    for error in [
        LookupError::Unavailable { retry_after: None, again: Again::Yes },
        LookupError::TimedOut { retry_after: None },
        LookupError::UpstreamRateLimited { retry_after: None },
        LookupError::Queued,
        LookupError::ResponseInvalid,
        LookupError::RateLimited { wait: Duration::ZERO },
        LookupError::CircuitOpen { wait: Duration::ZERO },
        LookupError::Overloaded,
        LookupError::DeadlineExceeded,
        LookupError::Internal,
        LookupError::InstanceStarting,
        LookupError::InstanceNotConnected,
    ] {
        check_fetch(&link, Err(error.clone()), late, ANY, Ok((TEN_DAYS, Stale)));
        check_fetch(&link, Err(error.clone()), HOUR + DAY, ANY, Ok((TEN_DAYS, Stale)));
        check_fetch(&link, Err(error.clone()), HOUR + DAY + 1, ANY, Err(error.clone()));
        check_fetch(&[(0, Null)], Err(error.clone()), late, ANY, Ok((Null, Stale)));
        check_fetch(&[(0, Link(late + 60))], Err(error.clone()), late, ANY, Err(error));
    }
    for error in [
        LookupError::CredentialsRejected(Rejected::Own),
        LookupError::RequestRejected,
        LookupError::NotFound(NotFound::Upstream),
    ] {
        check_fetch(&link, Err(error.clone()), late, ANY, Err(error));
    }
    check_fetch(&link, Ok(Said::NotFound), late, ANY, Ok((Said::NotFound, CacheStatus::Miss)));
}

#[test]
fn rule_10_what_the_caller_accepts() {
    let link = [(0, TEN_DAYS)];
    for (control, asked, expected) in [
        (max_age(60), 59, Serve(Hit)),
        (max_age(60), 60, Fetch(Refreshed)),
        (max_age(2 * HOUR), HOUR, ServeAndRefresh),
        (max_age(HOUR), HOUR, Fetch(Expired)),
        (min_fresh(9 * DAY), 1_000, Serve(Hit)),
        (min_fresh(10 * DAY), 1_000, Fetch(Refreshed)),
        (min_fresh(10 * DAY - HOUR), HOUR, ServeAndRefresh),
        (stale_if_error(0), HOUR, Fetch(Expired)),
        (stale_if_error(60), HOUR + 60, ServeAndRefresh),
        (stale_if_error(60), HOUR + 61, Fetch(Expired)),
        (CACHED, HOUR - 1, Serve(Hit)),
        (CACHED, HOUR + DAY, Serve(Stale)),
        (CACHED, HOUR + DAY + 1, NotCached),
        (CacheControl { stale_if_error: Some(Duration::ZERO), ..CACHED }, HOUR, NotCached),
        (CacheControl { max_age: Some(Duration::from_secs(60)), ..CACHED }, 60, NotCached),
    ] {
        check(&link, asked, control, expected);
    }
    // A link without an expiry satisfies every `min_fresh`.
    check(&[(0, LinkWithoutEnd)], 60, min_fresh(100 * DAY), Serve(Hit));
    check(&[], 0, CACHED, NotCached);
    let overdue = LookupError::DeadlineExceeded;
    check_fetch(&link, Err(overdue.clone()), HOUR, stale_if_error(0), Err(overdue));
}
