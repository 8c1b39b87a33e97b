//! The service as whoever runs it sees it: its edges, not its answers.

#![allow(clippy::unwrap_used, reason = "a test may; clippy spares only the test functions themselves")]

mod admin;
mod dashboard;
mod metrics;
mod support;
