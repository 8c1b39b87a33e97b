//! hypersender-grpc: the gRPC front door to WhatsApp contacts behind the Hypersender REST API.
//!
//! The rooms, each importing only from those before it:
//!
//! - [`domain`][]: what we talk about; no I/O, no clock of its own, no framework.
//! - [`telemetry`][]: logs, metrics and traces.
//! - [`stack`][]: from a look-up to Hypersender's answer: cache, flight, retries, the REST call.
//! - [`grpc`][]: the contract; converts, and chooses status codes.
//! - [`server`][]: connections, callers, deadlines, health and drain; the admin port.
//! - [`config`][]: every setting, read and checked once.
//! - [`commands`][]: one file a subcommand.
//! - [`sandbox`][]: a stand-in for the REST API, which knows nothing of the others.
//!
//! The way of a request: `server` (`connection`, `batch`, `unread`, `observe`, `edge`, `paths`, `callers`, `deadline`,
//! `message`, `overload`) -> `grpc::service` -> `stack` (`cache::Serve` -> `flight` -> `cache::Fill` -> `retry` -> ... ->
//! `upstream`) and back, through `grpc::status` when it failed. A hit turns round at `Serve`.
//!
//! What is never done, anywhere: a stored link is not handed out in its last minute; a failure is not stored; a token, a
//! phone number, a chat id or a link does not reach a log line, a metric, a trace or an error text.

pub mod commands;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod sandbox;
pub mod server;
pub mod stack;
pub mod telemetry;
