//! The flag, variable, help, range and default of every setting of `serve`. Those of the avatars are in
//! `avatar_flags`, those of the subcommands that call a running service in `client_flags`.
//!
//! How a value is read is in `given` and `values`. A setting that is checked against another one is checked
//! in `check`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::Args;
use url::Url;

use super::{
    avatar_flags::AvatarFlags,
    given::{Given, LEFT_OUT, bytes, duration, number, one_of, optional, path, read_by, read_from, switch},
    location::Location,
    values::{
        LogFilter, read_admin_listen, read_base_url, read_format, read_instance, read_prefix,
        read_token_owner,
    },
};
use crate::{
    domain::{Instance, TokenOwner},
    stack::{LinkHosts, Proxy},
    telemetry::Format,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of `serve` as they are given.
#[derive(Args, Debug)]
pub struct ServeFlags {
    #[command(flatten)]
    pub(super) server: ServerFlags,
    #[command(flatten)]
    pub(super) hypersender: HypersenderFlags,
    #[command(flatten)]
    pub(super) cache: CacheFlags,
    #[command(flatten)]
    pub(super) attempts: AttemptFlags,
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    #[command(flatten)]
    pub(super) store: StoreFlags,
    #[command(flatten)]
    pub(super) avatars: AvatarFlags,
    #[command(flatten)]
    pub(super) logs: LogFlags,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerFlags {
    /// IP address and port to listen on; port 0 takes a free port
    #[arg(long, env = "HYPERSENDER_GRPC_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:50051")]
    #[arg(value_parser = one_of::<SocketAddr>("an IP address and port such as 127.0.0.1:50051 or [::]:50051"))]
    pub listen: Given<SocketAddr>,
    /// IP address and port of /metrics, /livez and /readyz, or off to open no such port; port 0 takes a free
    /// port. With --sandbox, a free port is used when this one is in use
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_ADMIN_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:9090"
    )]
    #[arg(value_parser = read_by(read_admin_listen))]
    pub admin_listen: Given<Option<SocketAddr>>,
    /// TOML file that names the backends that may call: a table `[callers.<name>]` for each, with
    /// token_sha256 or certificate, and instances. SIGHUP reads it again. Without it, every client may call
    #[arg(long, env = "HYPERSENDER_GRPC_CALLERS_FILE", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub callers_file: Given<Option<PathBuf>>,
    /// Serve gRPC reflection (grpcurl needs it)
    #[arg(long, env = "HYPERSENDER_GRPC_REFLECTION", value_name = "BOOL", default_value = "true")]
    #[arg(default_missing_value = "true", num_args = 0..=1, value_parser = switch())]
    pub reflection: Given<bool>,
    /// Deadline of single calls that have none; a batch then has 30s and a stream 2h (1ms to 30s)
    #[arg(long, env = "HYPERSENDER_GRPC_DEADLINE", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = duration(MILLISECOND..=30 * SECOND))]
    pub deadline: Given<Duration>,
    /// Maximum number of calls in progress, over all connections; more are refused at once. A call counts
    /// from the moment its message is read, and a stream until it ends (1 to 1000000)
    #[arg(long, env = "HYPERSENDER_GRPC_IN_FLIGHT", value_name = "COUNT", default_value = "16384")]
    #[arg(value_parser = number(1..=1_000_000_usize))]
    pub in_flight: Given<usize>,
    /// Maximum number of streams in progress (StreamProfilePictures); more are refused at once (1 to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_STREAMS", value_name = "COUNT", default_value = "256")]
    #[arg(value_parser = number(1..=10_000_usize))]
    pub streams: Given<usize>,
    /// Maximum number of streams in progress for one instance; more are refused at once (1 to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_STREAMS_PER_INSTANCE", value_name = "COUNT", default_value = "16")]
    #[arg(value_parser = number(1..=10_000_usize))]
    pub streams_per_instance: Given<usize>,
    /// Maximum number of open connections, lowered if the limit of open files is low; more wait in the
    /// system's accept queue (1 to 100000)
    #[arg(long, env = "HYPERSENDER_GRPC_CONNECTIONS", value_name = "COUNT", default_value = "1024")]
    #[arg(value_parser = number(1..=100_000_usize))]
    pub connections: Given<usize>,
    /// Age at which a connection gets a GOAWAY, varied by up to a tenth; its calls in flight still finish. 0
    /// means no limit (0 to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_CONNECTION_AGE", value_name = "DURATION", default_value = "0")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub connection_age: Given<Duration>,
    /// After SIGTERM, time in which calls are still accepted while health checks say NOT_SERVING, so that
    /// load balancers notice (0 to 5m)
    #[arg(long, env = "HYPERSENDER_GRPC_DRAIN_WAIT", value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = duration(Duration::ZERO..=300 * SECOND))]
    pub drain_wait: Given<Duration>,
    /// After the drain wait, time for calls in flight to finish (0 to 5m)
    #[arg(long, env = "HYPERSENDER_GRPC_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s")]
    #[arg(value_parser = duration(Duration::ZERO..=300 * SECOND))]
    pub drain_timeout: Given<Duration>,
    /// PEM file with the certificate chain of the server; with it, connections use TLS. SIGHUP reads it again
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CERT", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub tls_cert: Given<Option<PathBuf>>,
    /// PEM file with the private key of that certificate
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_KEY", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub tls_key: Given<Option<PathBuf>>,
    /// PEM file with the authorities that sign client certificates; with it, every client must show a
    /// certificate
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CLIENT_CA", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub tls_client_ca: Given<Option<PathBuf>>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Hypersender")]
pub(super) struct HypersenderFlags {
    /// Use the sandbox in place of Hypersender: a stand-in for the REST API, started on a loopback port with
    /// its own instance and token
    #[arg(long, env = "HYPERSENDER_GRPC_SANDBOX", value_name = "BOOL", default_value = "false")]
    #[arg(default_missing_value = "true", num_args = 0..=1, value_parser = switch())]
    pub sandbox: Given<bool>,
    /// Base URL of the REST API; https, or http on loopback
    #[arg(long, env = "HYPERSENDER_WHATSAPP_BASE_URL", value_name = "URL")]
    #[arg(default_value = "https://app.hypersender.com/api/whatsapp/v2", value_parser = read_by(read_base_url))]
    pub base_url: Given<Url>,
    /// Allow http to hosts other than loopback; the token then crosses the network in plain text
    #[arg(long, env = "HYPERSENDER_GRPC_ALLOW_HTTP", value_name = "BOOL", default_value = "false")]
    #[arg(default_missing_value = "true", num_args = 0..=1, value_parser = switch())]
    pub allow_http: Given<bool>,
    /// Proxy for requests to Hypersender: an http, https or socks5 URL, or socks5h, with which the proxy
    /// resolves names. Its user and password are read from the variable HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH
    /// as user:password, or from the file that HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH_FILE names. HTTPS_PROXY
    /// and similar variables are not used. Requests to the sandbox, and by http to loopback, do not use the
    /// proxy
    #[arg(long, env = "HYPERSENDER_GRPC_UPSTREAM_PROXY", value_name = "URL")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(Proxy::parse)))]
    pub upstream_proxy: Given<Option<Proxy>>,
    /// Token for requests to Hypersender: own is the token of the service, passthrough is the token that each
    /// call carries in its metadata as authorization: Bearer
    #[arg(long, env = "HYPERSENDER_GRPC_CREDENTIALS", value_name = "OWN|PASSTHROUGH", default_value = "own")]
    #[arg(value_parser = read_by(read_token_owner))]
    pub credentials: Given<TokenOwner>,
    /// Instance for calls that name none: 1 to 64 characters of A-Z a-z 0-9 _ -
    #[arg(long, env = "HYPERSENDER_WHATSAPP_INSTANCE_ID", value_name = "UUID")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_instance)))]
    pub instance: Given<Option<Instance>>,
    /// TOML file with a token for each instance: a table `[instances."<id>"]` with token or token_file. Calls
    /// can then name only these instances and the default instance, which uses the API key
    #[arg(long, env = "HYPERSENDER_GRPC_INSTANCES_FILE", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub instances_file: Given<Option<PathBuf>>,
    /// Hosts that links may lead to: any, or a list such as pps.whatsapp.net,*.whatsapp.net. A link to
    /// another host counts as no picture
    #[arg(long, env = "HYPERSENDER_GRPC_LINK_HOSTS", value_name = "HOSTS", default_value = "any")]
    #[arg(value_parser = one_of::<LinkHosts>(LinkHosts::FORM))]
    pub link_hosts: Given<LinkHosts>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Cache")]
pub(super) struct CacheFlags {
    /// How long a link is fresh at most (0 to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_TTL", value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub cache_ttl: Given<Duration>,
    /// How long the answer "no picture" is fresh (0 to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_ABSENT_TTL", value_name = "DURATION", default_value = "10m")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub cache_absent_ttl: Given<Duration>,
    /// Maximum number of answers in the cache; 0 switches the cache off (0 to 100000000)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_ENTRIES", value_name = "COUNT", default_value = "100000")]
    #[arg(value_parser = number(0..=100_000_000_usize))]
    pub cache_entries: Given<usize>,
    /// Maximum memory for answers, estimated; 0 switches the cache off (0 to 1TiB)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_BYTES", value_name = "BYTES", default_value = "96MiB")]
    #[arg(value_parser = bytes(ByteSize::b(0)..=ByteSize::tib(1)))]
    pub cache_bytes: Given<ByteSize>,
    /// How long a stale answer is served at once while it is refreshed; 0 means never (0 to 10d)
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_STALE_WHILE_REVALIDATE",
        value_name = "DURATION",
        default_value = "15m"
    )]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub stale_while_revalidate: Given<Duration>,
    /// How long a stale answer is served when the fetch fails; 0 means never (0 to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_STALE_IF_ERROR", value_name = "DURATION", default_value = "24h")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub stale_if_error: Given<Duration>,
    /// Shortest time between two fetches of a contact that has an answer to serve, whatever callers ask for
    /// (0 to 1h)
    #[arg(long, env = "HYPERSENDER_GRPC_REFRESH_FLOOR", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = duration(Duration::ZERO..=HOUR))]
    pub refresh_floor: Given<Duration>,
    /// A link stops being fresh this long before it expires (0 to 1d)
    #[arg(long, env = "HYPERSENDER_GRPC_LINK_MARGIN", value_name = "DURATION", default_value = "10m")]
    #[arg(value_parser = duration(Duration::ZERO..=DAY))]
    pub link_margin: Given<Duration>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Attempts")]
pub(super) struct AttemptFlags {
    /// Attempts for each fetch, the first included (1 to 5)
    #[arg(long, env = "HYPERSENDER_GRPC_ATTEMPTS", value_name = "COUNT", default_value = "3")]
    #[arg(value_parser = number(1..=5_u32))]
    pub attempts: Given<u32>,
    /// Time-out of one attempt; Hypersender itself may wait 5s for a WhatsApp session (1ms to 15s)
    #[arg(long, env = "HYPERSENDER_GRPC_ATTEMPT_TIMEOUT", value_name = "DURATION", default_value = "6s")]
    #[arg(value_parser = duration(MILLISECOND..=15 * SECOND))]
    pub attempt_timeout: Given<Duration>,
    /// Retries allowed for each first attempt, over all fetches: with 0.1, one retry for ten first attempts.
    /// 0 means no retries (0 to 1)
    #[arg(long, env = "HYPERSENDER_GRPC_RETRY_BUDGET", value_name = "RATIO", default_value = "0.1")]
    #[arg(value_parser = number(0.0..=1.0_f64))]
    pub retry_budget: Given<f64>,
    /// Longest wait that Hypersender may ask for by Retry-After or X-RateLimit-Reset; longer ones are
    /// shortened to it (0 to 1h)
    #[arg(long, env = "HYPERSENDER_GRPC_RETRY_AFTER_MAX", value_name = "DURATION", default_value = "5m")]
    #[arg(value_parser = duration(Duration::ZERO..=HOUR))]
    pub retry_after_max: Given<Duration>,
}

#[derive(Args, Debug)]
#[command(
    next_help_heading = "Limits of this process (--rate and --burst: of all replicas, with a store that they share)"
)]
pub(super) struct LimitFlags {
    /// Maximum attempts per second for each instance, because WhatsApp bans numbers for bulk look-ups; 0
    /// means no limit (0 to 1000)
    #[arg(long, env = "HYPERSENDER_GRPC_RATE", value_name = "PER_SECOND", default_value = "5")]
    #[arg(value_parser = number(0.0..=1000.0_f64))]
    pub rate: Given<f64>,
    /// Maximum attempts at once for an instance that was idle; 0 means no limit (0 to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_BURST", value_name = "COUNT", default_value = "20")]
    #[arg(value_parser = number(0..=10_000_u32))]
    pub burst: Given<u32>,
    /// Failures in a row that open the circuit breaker of an instance, for 2s at first and up to 60s; 0
    /// switches it off (0 to 1000)
    #[arg(long, env = "HYPERSENDER_GRPC_BREAKER_FAILURES", value_name = "COUNT", default_value = "5")]
    #[arg(value_parser = number(0..=1000_u32))]
    pub breaker_failures: Given<u32>,
    /// Maximum number of attempts on the wire; at most half of them for one instance, half of those for its
    /// streams, and half of all for all streams (1 to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_UPSTREAM_CONCURRENCY", value_name = "COUNT", default_value = "64")]
    #[arg(value_parser = number(1..=10_000_usize))]
    pub upstream_concurrency: Given<usize>,
    /// Maximum number of contacts that are fetched at the same time, at most half of them for streams and
    /// half for batches; look-ups of further contacts are refused (1 to 1000000)
    #[arg(long, env = "HYPERSENDER_GRPC_FLIGHTS", value_name = "COUNT", default_value = "1024")]
    #[arg(value_parser = number(1..=1_000_000_usize))]
    pub flights: Given<usize>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreFlags {
    /// Where answers, turns and pauses are kept: none, file:/path for one process, or for replicas the URL of
    /// a server of Valkey or Redis: redis://host:6379/0, or rediss:// for TLS. For a cluster, host:port of
    /// some of its nodes, separated by commas, and ?cluster=true. The user is read from the variable
    /// HYPERSENDER_GRPC_STORE_USERNAME, the password from HYPERSENDER_GRPC_STORE_PASSWORD, or from the file
    /// that HYPERSENDER_GRPC_STORE_PASSWORD_FILE names
    #[arg(long, env = "HYPERSENDER_GRPC_STORE", value_name = "URL", default_value = "none")]
    #[arg(hide_env_values = true, value_parser = read_from(Location::read))]
    pub store: Given<Option<Location>>,
    /// PEM file with the authorities that sign the certificate of the store's server [default: those of the
    /// machine]
    #[arg(long, env = "HYPERSENDER_GRPC_STORE_CA", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub store_ca: Given<Option<PathBuf>>,
    /// Beginning of all names in the store's server, so that deployments can share it: 1 to 64 characters of
    /// A-Z a-z 0-9 _ - . : /
    #[arg(long, env = "HYPERSENDER_GRPC_STORE_PREFIX", value_name = "TEXT")]
    #[arg(default_value = "hypersender-grpc", value_parser = read_by(read_prefix))]
    pub store_prefix: Given<String>,
    /// Time for each operation of the store as a whole; a look-up then goes on without it (10ms to 5s)
    #[arg(long, env = "HYPERSENDER_GRPC_STORE_TIMEOUT", value_name = "DURATION", default_value = "100ms")]
    #[arg(value_parser = duration(10 * MILLISECOND..=5 * SECOND))]
    pub store_timeout: Given<Duration>,
    /// Maximum bytes of stored answers in a file (1MiB to 1TiB)
    #[arg(long, env = "HYPERSENDER_GRPC_STORE_BYTES", value_name = "BYTES", default_value = "1GiB")]
    #[arg(value_parser = bytes(ByteSize::mib(1)..=ByteSize::tib(1)))]
    pub store_bytes: Given<ByteSize>,
    /// The most replicas there will ever be at a time: the maximum of an autoscaler and the surge of a
    /// rollout. While the store is unreachable, each of them has this fraction of --rate (1 to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_REPLICAS", value_name = "COUNT", default_value = "1")]
    #[arg(value_parser = number(1..=10_000_u32))]
    pub replicas: Given<u32>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogFlags {
    /// Format of log lines: text or json [default: text on a terminal, else json]
    #[arg(long, env = "HYPERSENDER_GRPC_LOG_FORMAT", value_name = "FORMAT")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_format)))]
    pub log_format: Given<Option<Format>>,
    /// Level of logs: error, warn, info, debug or trace, or directives such as
    /// info,hypersender_grpc::stack=debug. Lines of libraries below info are never logged, because they hold
    /// headers and URLs
    #[arg(long, env = "HYPERSENDER_GRPC_LOG", value_name = "FILTER", default_value = "info")]
    #[arg(value_parser = one_of::<LogFilter>("a level such as info, or directives such as info,hypersender_grpc::stack=debug"))]
    pub log: Given<LogFilter>,
}
