//! What stands around the service, from outside: the built binary and real sockets. One file a behaviour.

#![allow(clippy::unwrap_used, reason = "a test may; clippy spares only the test functions themselves")]

mod admin;
mod callers;
mod certificates;
mod collector;
mod dashboard;
mod door;
mod metrics;
mod passthrough;
#[allow(dead_code, reason = "the other test binaries use all of it")]
#[path = "../process/mod.rs"]
mod process;
mod support;
mod traces;
