//! What stands around the service, from outside: the built binary and real sockets. One file a behaviour.

#![allow(clippy::unwrap_used, reason = "a test may; clippy spares only the test functions themselves")]

mod callers;
mod door;
mod passthrough;
