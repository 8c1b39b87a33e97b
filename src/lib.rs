//! hypersender-grpc: a gRPC service for WhatsApp contacts, in front of the Hypersender REST API.
//!
//! The modules, called rooms. Each imports only from those before it:
//!
//! - [`domain`][]: the types of the domain; no I/O, no clock of its own, no framework.
//! - [`telemetry`][]: logs, metrics and traces.
//! - [`stack`][]: the layers of a look-up: cache, flight, retries and limits, the REST call.
//! - [`grpc`][]: the gRPC contract; it converts messages and chooses status codes.
//! - [`server`][]: connections, the layers around a call, the drain; the admin port.
//! - [`avatars`][]: images of contacts for browsers, and the guarded download of them.
//! - [`config`][]: every setting, read and checked once.
//! - [`commands`][]: one file for each subcommand; only these touch the process and its environment.
//! - [`sandbox`][]: a stand-in for the REST API; it imports [`telemetry`][] alone, and only [`config`][] and
//!   [`commands`][] import it.
//!
//! How a request is processed, with a file for each step:
//!
//! 1. `server/door` accepts the connection. `server/connection` does the handshake and speaks HTTP/2: `tls`,
//!    `preface`, `batch`, `slow_reader`, `own_pace` for streams, and, when the connection ends, `last_goaway`
//!    and `half_close`.
//! 2. `server/calls` orders the layers around the call: `discard`, `observe`, `guard`, `route`, `callers`,
//!    `deadline`, `message`, `in_flight`. `route` passes calls of health and reflection to their own
//!    services.
//! 3. `grpc/service` decodes the request message and starts the look-up that it asks for. `grpc/batch` and
//!    `grpc/stream` leave that to `stack/batch` and `stack/stream`, which start many look-ups as turns allow.
//! 4. `stack` orders the layers around the look-up: `cache::Serve`, `flight`, `cache::Fill`, `retry`,
//!    `breaker`, `rate`, `concurrency`, `block`, `upstream`. The first of them answers a cache hit. With a
//!    store, `cache::Fill` reads it and takes the lease of the fetch, and `rate` takes turns from it.
//! 5. The answer goes back through `grpc/service`, `grpc/batch` or `grpc/stream`, a failure through
//!    `grpc/status`.
//!
//! How a request for an image is processed:
//!
//! 1. `avatars/port` accepts the connection, through `server/door`, and speaks HTTP/1.1 or HTTP/2.
//! 2. `avatars/routes` reads the address: `sealed` opens it, or the token of the caller is checked by the
//!    rules of `server/calls/callers`. `query` reads size and default image.
//! 3. `avatars/pictures` looks the contact up by `stack/avatar`, which waits for a spare turn and then passes
//!    through the layers of step 4 above. Then it downloads (`fetch`), resizes (`image`) and keeps
//!    (`picture_cache`) the image. `renewals` decides whether a refused link is looked up again, and
//!    `patience` whether the request may wait. `backlog` has the contacts that are looked up later.
//! 4. `avatars/reply` makes the response: the image, or a default image (`silhouette`, `initials`), with the
//!    entity tag (`etag`). `status` chooses the HTTP status.
//!
//! With the sandbox, `avatars/page` serves a page that shows the test numbers with their images.
//!
//! Rules that hold everywhere:
//!
//! - A stored link is not served in the last minute before it expires.
//! - A failed look-up is not stored in the cache.
//! - A token, a phone number, a chat id or a link does not reach a log line, a metric, a trace or an error
//!   text.

pub mod avatars;
pub mod commands;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod sandbox;
pub mod server;
pub mod stack;
pub mod telemetry;
