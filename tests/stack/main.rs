//! The whole stack above a scripted upstream that counts its calls: time without sockets.

#![allow(clippy::unwrap_used, clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod avatars;
mod blocks;
mod breaker;
mod cache;
mod concurrency;
mod cool_downs;
mod credentials;
mod deadlines;
mod flights;
mod idle;
mod outage;
mod rate;
mod replicas_answers;
mod replicas_trips;
mod replicas_turns;
mod retries;
mod streams;
mod support;
mod turns;
