//! The limit of concurrent attempts: one instance gets at most half of the permits (rules 21 and 22).

use hypersender_grpc::stack::{ConcurrencySettings, RateSettings, Settings};

use crate::support::*;

fn places(attempts: usize) -> Settings {
    Settings { concurrency: ConcurrencySettings { attempts }, ..plain() }
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_attempts_are_on_the_wire_and_half_of_them_of_one_instance() {
    for (attempts, half) in [(1, 1), (2, 1), (3, 1), (64, 32)] {
        let front = Front::new(places(attempts), |_| Reply::picture().after(millis(10)));
        let asks = (0..300).map(|chat| contact(chat).of(["a", "b", "c"][chat % 3]));
        let outcomes = front.ask_all(asks).await;
        assert_eq!(count(&outcomes, Result::is_ok), 300);
        assert_eq!(front.upstream.most_at_once(), attempts);
        for instance in ["a", "b", "c"] {
            assert!(front.upstream.most_at_once_of(instance) <= half, "{instance}, {half}");
        }
        let alone = front.ask_all((300..500).map(|chat| contact(chat).of("d"))).await;
        assert_eq!(count(&alone, Result::is_ok), 200);
        assert_eq!(front.upstream.most_at_once_of("d"), half);
    }
}

/// Checks the time that calls of a healthy instance take next to an instance that hangs.
async fn check_neighbour(settings: Settings, hanging: usize) {
    let front = Front::new(settings, |attempt| match attempt.instance.as_str() {
        "hangs" => Reply::picture().after(HOUR),
        _ => Reply::picture().after(millis(100)),
    });
    let callers: Vec<_> = (0..hanging).map(|chat| front.spawn(contact(chat).of("hangs"))).collect();
    settle().await;
    for round in 0..10_u32 {
        let first = 100 * round as usize;
        let outcomes = front.ask_all((first..first + 20).map(|chat| contact(chat).of("well"))).await;
        assert_eq!(count(&outcomes, Result::is_ok), 20);
        assert_eq!(front.time(), millis(100) * (round + 1));
    }
    assert!(front.upstream.most_at_once_of("hangs") > 0);
    drop(callers);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_hangs_does_not_slow_down_its_neighbour() {
    check_neighbour(places(64), 500).await;
    // The same holds while its callers wait for the rate limit without a permit.
    let rate = RateSettings { per_second: 200.0, burst: 20 };
    check_neighbour(Settings { rate, ..places(64) }, 500).await;
}
