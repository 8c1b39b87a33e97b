//! [`Clock`]: the only source of time in the stack.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::domain::Now;

/// Reads both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Wall);

#[derive(Clone, Copy, Debug)]
enum Wall {
    System,
    Follows { wall: SystemTime, instant: Instant },
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Wall::System)
    }

    /// A wall clock that shows `wall` now and then follows tokio's clock. A test that stops tokio's clock
    /// stops both.
    #[must_use]
    pub fn following_tokio(wall: SystemTime) -> Self {
        Self(Wall::Follows { wall, instant: Instant::now() })
    }

    /// The current moment on both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let instant = Instant::now();
        let wall = match self.0 {
            Wall::System => SystemTime::now(),
            Wall::Follows { wall, instant: start } => wall + instant.duration_since(start),
        };
        Now { instant, wall }
    }
}
