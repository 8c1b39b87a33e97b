//! Random stories. Most times lie at the limits that the rules name, because faults are likely there.

use proptest::{prelude::*, sample::select};

use super::{
    story::{Step, Story},
    *,
};
use crate::domain::{Again, LookupError, Rejected};

fn settings() -> impl Strategy<Value = Settings> {
    let time = || select(vec![0, 1, 30, 60, 600, 900, 3_600, 86_400]).prop_map(Duration::from_secs);
    let usual = Just(Settings::default());
    let any = [time(), time(), time(), time(), time(), time()].prop_map(
        |[ttl, absent_ttl, stale_while_revalidate, stale_if_error, refresh_floor, link_margin]| Settings {
            ttl,
            absent_ttl,
            stale_while_revalidate,
            stale_if_error,
            refresh_floor,
            link_margin,
            ..Settings::default()
        },
    );
    prop_oneof![usual, any]
}

fn said() -> impl Strategy<Value = Said> {
    let edges = select(vec![-3_600, 0, 59, 60, 61, 62, 90, 91, 120, 600, 660, 700, 4_000, 90_000, 852_000]);
    let far = select(vec![FAR_SECONDS, FAR_SECONDS + 1]);
    let life = prop_oneof![
        12 => edges.prop_map(Some),
        2 => (0..200_000_i64).prop_map(Some),
        1 => far.prop_map(Some),
        3 => Just(None),
    ];
    prop_oneof![
        5 => life.prop_map(|life| Said::Link { life }),
        3 => Just(Said::Null),
        1 => Just(Said::Foreign),
        1 => Just(Said::NotFound),
    ]
}

fn failure() -> impl Strategy<Value = LookupError> {
    select(vec![
        LookupError::Unavailable { retry_after: None, again: Again::Yes },
        LookupError::UpstreamRateLimited { retry_after: None },
        LookupError::RateLimited { wait: Duration::from_secs(1) },
        LookupError::InstanceNotConnected,
        LookupError::InstanceStarting,
        LookupError::DeadlineExceeded,
        LookupError::Internal,
        LookupError::CredentialsRejected(Rejected::Own),
        LookupError::RequestRejected,
    ])
}

fn control() -> impl Strategy<Value = CacheControl> {
    let bound = || {
        let edges = select(vec![0, 1, 30, 31, 60, 600, 3_600, 100_000]).prop_map(Duration::from_secs);
        prop_oneof![2 => Just(None), 1 => edges.prop_map(Some)]
    };
    (bound(), bound(), bound(), prop::bool::weighted(0.2)).prop_map(
        |(max_age, min_fresh, stale_if_error, only_if_cached)| CacheControl {
            max_age,
            min_fresh,
            stale_if_error,
            only_if_cached,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let edges = vec![
        0, 1, 999, 1_000, 1_001, 29_999, 30_000, 59_999, 60_000, 240_000, 600_000, 840_000, 900_000, 900_001,
        3_375_000, 3_600_000, 86_400_000,
    ];
    let millis = prop_oneof![4 => select(edges), 1 => 0..4_000_000_i64];
    let jumps = select(vec![-86_400, -3_600, -60, -1, 1, 60, 3_600, 86_400]);
    let late = prop_oneof![3 => Just(0), 1 => select(vec![1, 30, 3_600])];
    let fetch = prop_oneof![2 => said().prop_map(Ok), 1 => failure().prop_map(Err)];
    prop_oneof![
        4 => millis.prop_map(|millis| Step::Wait { millis }),
        1 => jumps.prop_map(|seconds| Step::WallJumps { seconds }),
        3 => (said(), any::<bool>(), late)
            .prop_map(|(said, slow, late_seconds)| Step::Arrives { said, slow, late_seconds }),
        5 => (control(), fetch, select(vec![0, 1, 5_000, 5_001, 14_000]))
            .prop_map(|(control, fetch, millis)| Step::Asks { control, fetch, millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_story_ends_as_the_judge_says(settings in settings(), steps in prop::collection::vec(step(), 1..24)) {
        let mut story = Story::new(settings);
        for step in &steps {
            story.play(step).map_err(TestCaseError::fail)?;
        }
    }
}
