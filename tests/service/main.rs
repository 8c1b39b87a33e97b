//! The service from outside: the built binary, a scripted Hypersender and real sockets. Each file tests one
//! behaviour.
//!
//! No test measures time. Every wait ends with an event, and `support::PATIENCE` only stops a test that
//! hangs.

#![allow(clippy::unwrap_used, reason = "a test may; clippy spares only the test functions themselves")]

mod admin;
mod answer_table;
mod avatar_settings;
mod avatars;
mod bad_configurations;
mod batches;
mod cache;
mod callers;
mod certificates;
mod check_config;
mod commands;
mod connections;
mod contact_batches;
mod contact_streams;
mod contract;
mod dashboard;
mod deadlines;
mod encryption;
mod environment_file;
mod lifecycle;
mod many_contacts;
mod messages;
mod metrics;
mod outputs;
mod passthrough;
mod proxies;
mod reconnects;
mod refused_calls;
mod request;
mod secrets;
mod service_manager;
mod settings;
mod store;
mod stream_bounds;
mod support;
mod sync;
mod traces;
mod variables;
