//! [`Policy`]: when a fetch asks Hypersender again, and how long it waits before.
//!
//! The layer is tower's. Which errors are worth another attempt is decided in `domain`, next to the errors.
//! No retry starts that could not end before the deadline of the last waiter.

mod budget;

use std::{fmt, sync::Arc, time::Duration};

use rand::RngExt;
use tokio::time::{Instant, Sleep, sleep};
use tower::retry::budget::Budget;
use tracing::debug;

use self::budget::RetryBudget;
use super::clock::Clock;
use crate::{
    domain::{Again, Answer, Finding, Lookup, LookupError},
    telemetry::{KeyName, LookupMetrics as Metrics},
};

const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How often a fetch tries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Attempts for each fetch, the first one included.
    pub attempts: u32,
    /// Retries that each first attempt pays for; 0 allows none.
    pub budget: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { attempts: 3, budget: 0.1 }
    }
}

/// The state of one fetch. tower clones a new one for each fetch.
#[derive(Clone)]
pub struct Policy {
    attempts: u32,
    budget: Arc<RetryBudget>,
    clock: Clock,
    metrics: Arc<Metrics>,
    tried: u32,
    /// Whether there has been a result that is worth only one retry.
    tried_once: bool,
    /// The result that is returned when the retry brings nothing better.
    earlier: Option<Result<Answer, LookupError>>,
}

impl Policy {
    /// The policy of a fetch that has not begun.
    #[must_use]
    pub fn new(settings: &Settings, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let budget = Arc::new(RetryBudget::new(settings.budget));
        Self {
            attempts: settings.attempts,
            budget,
            clock,
            metrics,
            tried: 0,
            tried_once: false,
            earlier: None,
        }
    }

    fn delay(&mut self, lookup: &Lookup, result: &Result<Answer, LookupError>) -> Option<Duration> {
        let again = match result {
            Ok(answer) => match &answer.finding {
                // A cache of Hypersender's was probably out of date. The next answer may come from another
                // one.
                Finding::Picture(link) if link.is_dead(self.clock.now().wall) => Again::Once,
                Finding::Picture(_) | Finding::Absent(_) | Finding::NotFound(_) => Again::No,
            },
            Err(error) => error.handling().again,
        };
        let worth = match again {
            Again::No => false,
            Again::Once => !std::mem::replace(&mut self.tried_once, true),
            Again::Yes => true,
        };
        if !worth || self.tried >= self.attempts || lookup.purpose().is_refresh() {
            return None;
        }
        let asked_for = match result {
            Ok(_) => Duration::ZERO,
            Err(error) => error.wait_before_retry()?,
        };
        let delay = asked_for + backoff(self.tried - 1);
        lookup.deadline.leaves_time_at(Instant::now() + delay).then_some(delay)
    }
}

/// Full jitter: a random time between zero and a bound that doubles with each retry (AWS Architecture Blog,
/// "Exponential Backoff And Jitter"). tower's own generator is not used: it is cloned with the policy and
/// repeats its numbers.
fn backoff(retries: u32) -> Duration {
    let bound = BACKOFF_MAX.min(BACKOFF_BASE.saturating_mul(2_u32.saturating_pow(retries)));
    rand::rng().random_range(Duration::ZERO..=bound)
}

impl tower::retry::Policy<Lookup, Answer, LookupError> for Policy {
    type Future = Sleep;

    fn retry(&mut self, lookup: &mut Lookup, result: &mut Result<Answer, LookupError>) -> Option<Sleep> {
        self.tried += 1;
        let refused = result.as_ref().is_err_and(|error| error.handling().is_own_refusal);
        if self.tried == 1 && !refused {
            self.budget.deposit();
        }
        if let Some(earlier) = self.earlier.take() {
            // The refusal of a retry does not help the caller, so the earlier result is returned.
            if refused {
                *result = earlier;
                return None;
            }
            // A link, even a dead one, is better than an error, unless the error concerns the request or the
            // credential.
            if let (Ok(link), Err(error)) = (earlier, &*result)
                && error.handling().yields_to_stored_answer
            {
                *result = Ok(link);
                return None;
            }
        }
        let delay = self.delay(lookup, result)?;
        if !self.budget.withdraw() {
            debug!("no retry: too much fails already");
            return None;
        }
        self.metrics.retried();
        lookup.resent = self.tried;
        self.earlier = Some(result.clone());
        let (key, attempt) = (KeyName::from(&lookup.key), self.tried);
        debug!(%key, attempt, ?delay, "upstream failed, will try again");
        Some(sleep(delay))
    }

    fn clone_request(&mut self, lookup: &Lookup) -> Option<Lookup> {
        Some(lookup.clone())
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("tried", &self.tried).finish_non_exhaustive()
    }
}
