//! The service from outside: the built binary, a scripted Hypersender and real sockets. One file a behaviour.
//!
//! Nothing here measures time: a wait ends when something happens, and `process::PATIENCE` is only there for a service
//! that hangs.

#![allow(clippy::unwrap_used, reason = "a test may; clippy spares only the test functions themselves")]

mod answer_table;
mod bad_configurations;
mod batches;
mod cache;
mod commands;
mod connections;
mod contract;
mod deadlines;
mod encryption;
mod lifecycle;
mod messages;
mod outputs;
#[path = "../process/mod.rs"]
mod process;
mod proxies;
mod reconnects;
mod refused_calls;
mod request;
mod secrets;
mod settings;
mod support;
mod variables;
