//! [`Obstacles`]: the reasons, other than a missing turn, for which no contact of an instance may be asked
//! now.
//!
//! The layers that own these states refuse look-ups because of them. A stream reads the states first, so that
//! it waits where a caller is refused. An avatar reads them first, so that it ends without a wait for a turn.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    domain::{Key, LookupError, Scope},
    stack::{
        block::Block,
        breaker::Circuits,
        cache::CoolDowns,
        rate::{Rates, Spare},
    },
};

/// The states of the layers that a stream or an avatar reads.
#[derive(Debug)]
pub struct Obstacles {
    /// The block of this machine.
    pub block: Arc<Block>,
    /// The cool-downs of contacts and scopes.
    pub cooling: Arc<CoolDowns>,
    /// The circuit breakers of all instances.
    pub circuits: Circuits,
    /// The turns and pauses of all instances.
    pub rates: Rates,
}

/// A reason to ask nothing for a while.
#[derive(Debug)]
pub struct Obstacle {
    /// The error that a caller gets meanwhile.
    pub error: LookupError,
    /// When to look again.
    pub until: Instant,
}

impl Obstacles {
    /// The reason for which no contact of `scope` may be asked at `now`.
    pub fn of(&self, scope: &Scope, now: Instant) -> Option<Obstacle> {
        self.blocked(now)
            .or_else(|| {
                let cooling = self.cooling.of_scope(scope, now);
                cooling.map(|(error, until)| Obstacle { error, until })
            })
            .or_else(|| {
                let until = self.circuits.open_until(&scope.instance, now)?;
                Some(Obstacle { error: LookupError::CircuitOpen { wait: until - now }, until })
            })
            .or_else(|| {
                let until = self.spare(scope, now).paused_until;
                let error = || LookupError::UpstreamRateLimited { retry_after: Some(until - now) };
                (until > now).then(|| Obstacle { error: error(), until })
            })
    }

    /// The cool-down of one contact.
    pub fn of_key(&self, key: &Key, now: Instant) -> Option<Obstacle> {
        self.cooling.of_key(key, now).map(|(error, until)| Obstacle { error, until })
    }

    /// The next spare turn of a stream for `scope`.
    pub fn spare(&self, scope: &Scope, now: Instant) -> Spare {
        self.rates.spare(&scope.instance, now)
    }

    /// The end of the pause that Hypersender, or the network in front of it, asked for.
    pub fn paused_until(&self, scope: &Scope, now: Instant) -> Option<Instant> {
        let pause = Some(self.spare(scope, now).paused_until).filter(|until| *until > now);
        pause.or_else(|| self.blocked(now).map(|block| block.until))
    }

    fn blocked(&self, now: Instant) -> Option<Obstacle> {
        let error = self.block.failure(now)?;
        let until = now + error.retry_after().unwrap_or_default();
        Some(Obstacle { error, until })
    }
}
