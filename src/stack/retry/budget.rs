//! [`RetryBudget`]: how many retries all fetches together may make, so that an outage does not cause a storm
//! of retries.
//!
//! tower's `TpsBudget` is not used: it truncates its ratio to a whole number and grants a hundred retries
//! before it counts.

use parking_lot::Mutex;
use tokio::time::Instant;
use tower::retry::budget::Budget;

/// The most retries that first attempts can save up.
const PAID_MAX: f64 = 10.0;
/// Retries that are free, so that a service with few calls can retry too: this many at once ...
const FREE_MAX: f64 = 3.0;
/// ... and then this many per second.
const FREE_PER_SECOND: f64 = 0.2;

/// A balance of retries. When everything fails, the number of attempts stays within (1 + ratio) x first
/// attempts + 13 + 0.2 per second.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    balance: Mutex<Balance>,
}

#[derive(Debug)]
struct Balance {
    paid: f64,
    free: f64,
    updated: Instant,
}

impl RetryBudget {
    /// Each first attempt pays for `ratio` of a retry. A ratio of 0 allows no retry at all.
    pub fn new(ratio: f64) -> Self {
        let balance = Balance { paid: PAID_MAX, free: FREE_MAX, updated: Instant::now() };
        Self { ratio, balance: Mutex::new(balance) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Balance) -> T) -> T {
        let mut balance = self.balance.lock();
        change(&mut balance)
    }
}

impl Budget for RetryBudget {
    fn deposit(&self) {
        self.change(|balance| balance.paid = (balance.paid + self.ratio).min(PAID_MAX));
    }

    fn withdraw(&self) -> bool {
        if self.ratio <= 0.0 {
            return false;
        }
        self.change(|balance| {
            let now = Instant::now();
            let earned = FREE_PER_SECOND * now.duration_since(balance.updated).as_secs_f64();
            balance.updated = now;
            balance.free = (balance.free + earned).min(FREE_MAX);
            let purse = if balance.paid >= 1.0 { &mut balance.paid } else { &mut balance.free };
            let granted = *purse >= 1.0;
            if granted {
                *purse -= 1.0;
            }
            granted
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn granted(budget: &RetryBudget, first_attempts: usize) -> usize {
        let retries = (0..first_attempts).map(|_| {
            budget.deposit();
            (0..2).take_while(|_| budget.withdraw()).count()
        });
        retries.sum()
    }

    #[tokio::test(start_paused = true)]
    async fn retries_stay_within_a_tenth_of_first_attempts_and_a_little() {
        let budget = RetryBudget::new(0.1);
        let all = granted(&budget, 1000);
        assert!((111..=113).contains(&all), "{all}");
        tokio::time::advance(Duration::from_secs(100)).await;
        let after_a_rest = granted(&budget, 10);
        assert!((3..=4).contains(&after_a_rest), "{after_a_rest}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ratio_of_zero_allows_no_retry() {
        assert_eq!(granted(&RetryBudget::new(0.0), 100), 0);
    }
}
