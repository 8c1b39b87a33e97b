//! hypersender-grpc: a gRPC service for WhatsApp contacts, in front of the Hypersender REST API.
//!
//! The rooms, each importing only from those before it:
//!
//! - [`domain`][]: what the service talks about; no I/O, no clock of its own, no framework.
//! - [`telemetry`][]: logs, metrics and traces.
//! - [`stack`][]: the way of a look-up: cache, flight, retries and limits, the REST call.
//! - [`grpc`][]: the contract; converts messages, and chooses status codes.
//! - [`server`][]: connections, the layers around a call, the drain; the admin port.
//! - [`config`][]: every setting, read and checked once.
//! - [`commands`][]: one file a subcommand; only these touch the process and its environment.
//! - [`sandbox`][]: a stand-in for the REST API; it imports [`telemetry`][] alone.
//!
//! The way of a request, with a file for each step:
//!
//! 1. `server/door` accepts the connection. `server/connection` does the handshake and speaks HTTP/2: `tls`,
//!    `preface`, `batch`, `slow_reader`, and at its end `last_goaway` and `half_close`.
//! 2. `server/calls` orders the layers around the call: `discard`, `observe`, `guard`, `route`, `callers`,
//!    `deadline`, `message`, `in_flight`. Calls of health and reflection leave at `route`.
//! 3. `grpc/service` reads the request message and makes a look-up of it.
//! 4. `stack` orders the layers around the look-up: `cache::Serve`, `flight`, `cache::Fill`, `retry`,
//!    `breaker`, `rate`, `concurrency`, `block`, `upstream`. A hit ends in the first of them.
//! 5. The answer goes back through `grpc/service`, a failure through `grpc/status`.
//!
//! What is never done, anywhere:
//!
//! - A stored link is not handed out in its last minute.
//! - A failure is not stored.
//! - A token, a phone number, a chat id or a link does not reach a log line, a metric, a trace or an error
//!   text.

pub mod commands;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod sandbox;
pub mod server;
pub mod stack;
pub mod telemetry;
