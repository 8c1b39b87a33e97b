//! The command line: one line of help for each setting, with its unit and range.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use url::Url;

use super::{
    address::Address,
    given::{Given, LEFT_OUT, bytes, duration, number, one_of, optional, path, read_by, switch},
    values::{
        LogFilter, read_admin_listen, read_base_url, read_domain, read_format, read_instance, read_loopback,
        read_token_owner,
    },
};
use crate::{
    domain::{Instance, TokenOwner},
    sandbox,
    stack::{LinkHosts, Proxy},
    telemetry::Format,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The gRPC front door to WhatsApp contacts behind the Hypersender REST API.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer gRPC calls until told to stop.
    ///
    /// The token is read from HYPERSENDER_WHATSAPP_API_KEY, or from the file that HYPERSENDER_WHATSAPP_API_KEY_FILE names;
    /// never from the command line, which everyone on the machine can read. Exit code 78 means that settings are at fault.
    ///
    /// Traces go to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names, such as http://127.0.0.1:4317, and
    /// nowhere without it. OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and the other standard variables hold;
    /// OTEL_EXPORTER_OTLP_PROTOCOL is grpc or http/protobuf.
    Serve(Box<ServeFlags>),
    /// Ask a running service for one contact and print the answer as JSON.
    ///
    /// Where callers must be known, the token is read from HYPERSENDER_GRPC_TOKEN, or from the file that
    /// HYPERSENDER_GRPC_TOKEN_FILE names; never from the command line, which everyone on the machine can read.
    Get(GetFlags),
    /// Ask a running service for its health: exit code 0 when it serves, else 1.
    Health(TargetFlags),
    /// Run the stand-in REST API alone.
    #[command(after_long_help = sandbox::numbers_help())]
    Sandbox(SandboxFlags),
}

/// Settings of `serve`, as given.
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
    pub(super) logs: LogFlags,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerFlags {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "HYPERSENDER_GRPC_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:50051")]
    #[arg(value_parser = one_of::<SocketAddr>("an IP address and port such as 127.0.0.1:50051 or [::]:50051"))]
    pub listen: Given<SocketAddr>,
    /// Address and port of /metrics, /livez and /readyz; port 0 takes a free one, off opens none. With --sandbox, a
    /// free port is taken when this one is in use
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_ADMIN_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:9090"
    )]
    #[arg(value_parser = read_by(read_admin_listen))]
    pub admin_listen: Given<Option<SocketAddr>>,
    /// TOML file with a table `callers.<name>` for each backend that may call, holding token_sha256 or certificate, and
    /// instances. SIGHUP reads it anew. Without it everyone may call
    #[arg(long, env = "HYPERSENDER_GRPC_CALLERS_FILE", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub callers_file: Given<Option<PathBuf>>,
    /// Tell whoever asks what the contract is, which grpcurl and its like need
    #[arg(long, env = "HYPERSENDER_GRPC_REFLECTION", value_name = "BOOL", default_value = "true")]
    #[arg(default_missing_value = "true", num_args = 0..=1, value_parser = switch())]
    pub reflection: Given<bool>,
    /// Time a call may take when it states none itself (1ms to 30s)
    #[arg(long, env = "HYPERSENDER_GRPC_DEADLINE", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = duration(MILLISECOND..=30 * SECOND))]
    pub deadline: Given<Duration>,
    /// Calls in progress at a time, their messages read, over all connections; further ones are refused at once (1 to 1000000)
    #[arg(long, env = "HYPERSENDER_GRPC_IN_FLIGHT", value_name = "COUNT", default_value = "16384")]
    #[arg(value_parser = number(1..=1_000_000_usize))]
    pub in_flight: Given<usize>,
    /// Connections open at a time, fewer where the limit of open files is lower; more wait (1 to 100000)
    #[arg(long, env = "HYPERSENDER_GRPC_CONNECTIONS", value_name = "COUNT", default_value = "1024")]
    #[arg(value_parser = number(1..=100_000_usize))]
    pub connections: Given<usize>,
    /// Age at which a connection is asked to close, give or take a tenth; calls in flight finish (0, which is never, to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_CONNECTION_AGE", value_name = "DURATION", default_value = "0")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub connection_age: Given<Duration>,
    /// After SIGTERM, time in which calls are still taken while health checks say NOT_SERVING (0 to 5m)
    #[arg(long, env = "HYPERSENDER_GRPC_DRAIN_WAIT", value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = duration(Duration::ZERO..=300 * SECOND))]
    pub drain_wait: Given<Duration>,
    /// After that, time for calls in flight to finish (0 to 5m)
    #[arg(long, env = "HYPERSENDER_GRPC_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s")]
    #[arg(value_parser = duration(Duration::ZERO..=300 * SECOND))]
    pub drain_timeout: Given<Duration>,
    /// Certificate chain of the server in PEM; with it connections are encrypted. SIGHUP reads it again
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CERT", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub tls_cert: Given<Option<PathBuf>>,
    /// Private key of the certificate in PEM
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_KEY", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub tls_key: Given<Option<PathBuf>>,
    /// Authorities in PEM that sign client certificates; with them every client must show one
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CLIENT_CA", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub tls_client_ca: Given<Option<PathBuf>>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Hypersender")]
pub(super) struct HypersenderFlags {
    /// Start the stand-in REST API on a loopback port and ask it, with its own instance and token
    #[arg(long, env = "HYPERSENDER_GRPC_SANDBOX", value_name = "BOOL", default_value = "false")]
    #[arg(default_missing_value = "true", num_args = 0..=1, value_parser = switch())]
    pub sandbox: Given<bool>,
    /// Root of the REST API; https, or http on loopback
    #[arg(long, env = "HYPERSENDER_WHATSAPP_BASE_URL", value_name = "URL")]
    #[arg(default_value = "https://app.hypersender.com/api/whatsapp/v2", value_parser = read_by(read_base_url))]
    pub base_url: Given<Url>,
    /// Allow http beyond loopback; the token then travels in the clear
    #[arg(long, env = "HYPERSENDER_GRPC_ALLOW_HTTP", value_name = "BOOL", default_value = "false")]
    #[arg(default_missing_value = "true", num_args = 0..=1, value_parser = switch())]
    pub allow_http: Given<bool>,
    /// Proxy through which Hypersender is asked: http, https, socks5, or socks5h, which resolves names there. What it asks
    /// its users for is read from HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH as user:password, or from the file that
    /// HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH_FILE names. HTTPS_PROXY and its like are not used, and http on loopback and
    /// the sandbox are asked directly
    #[arg(long, env = "HYPERSENDER_GRPC_UPSTREAM_PROXY", value_name = "URL")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(Proxy::parse)))]
    pub upstream_proxy: Given<Option<Proxy>>,
    /// Whose token Hypersender is asked with: own, which is the service's, or passthrough, which is the one that each call
    /// carries as authorization: Bearer
    #[arg(long, env = "HYPERSENDER_GRPC_CREDENTIALS", value_name = "OWN|PASSTHROUGH", default_value = "own")]
    #[arg(value_parser = read_by(read_token_owner))]
    pub credentials: Given<TokenOwner>,
    /// Instance that is asked when a call names none: 1 to 64 characters of A-Z a-z 0-9 _ -
    #[arg(long, env = "HYPERSENDER_WHATSAPP_INSTANCE_ID", value_name = "UUID")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_instance)))]
    pub instance: Given<Option<Instance>>,
    /// TOML file with a table `instances.<id>` for each instance, holding token or token_file. Only these can then be
    /// asked, and the default instance with the API key
    #[arg(long, env = "HYPERSENDER_GRPC_INSTANCES_FILE", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub instances_file: Given<Option<PathBuf>>,
    /// Hosts that links may lead to: any, or a list such as pps.whatsapp.net,*.whatsapp.net; a link to another one is
    /// answered as no picture
    #[arg(long, env = "HYPERSENDER_GRPC_LINK_HOSTS", value_name = "HOSTS", default_value = "any")]
    #[arg(value_parser = one_of::<LinkHosts>(LinkHosts::FORM))]
    pub link_hosts: Given<LinkHosts>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Cache")]
pub(super) struct CacheFlags {
    /// Longest time a link counts as fresh (0 to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_TTL", value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub cache_ttl: Given<Duration>,
    /// Time an absent picture counts as fresh (0 to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_ABSENT_TTL", value_name = "DURATION", default_value = "10m")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub cache_absent_ttl: Given<Duration>,
    /// Most answers to keep (0, which keeps none, to 100000000)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_ENTRIES", value_name = "COUNT", default_value = "100000")]
    #[arg(value_parser = number(0..=100_000_000_usize))]
    pub cache_entries: Given<usize>,
    /// Most memory for answers, estimated (0, which keeps none, to 1TiB)
    #[arg(long, env = "HYPERSENDER_GRPC_CACHE_BYTES", value_name = "BYTES", default_value = "96MiB")]
    #[arg(value_parser = bytes(ByteSize::b(0)..=ByteSize::tib(1)))]
    pub cache_bytes: Given<ByteSize>,
    /// How far beyond its lifetime an answer is handed out at once, while it is fetched anew (0, which is never, to 10d)
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_STALE_WHILE_REVALIDATE",
        value_name = "DURATION",
        default_value = "15m"
    )]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub stale_while_revalidate: Given<Duration>,
    /// How far beyond its lifetime an answer is handed out when the fetch fails (0, which is never, to 10d)
    #[arg(long, env = "HYPERSENDER_GRPC_STALE_IF_ERROR", value_name = "DURATION", default_value = "24h")]
    #[arg(value_parser = duration(Duration::ZERO..=10 * DAY))]
    pub stale_if_error: Given<Duration>,
    /// A contact with an answer to hand out is not fetched again within this time, whatever callers ask (0 to 1h)
    #[arg(long, env = "HYPERSENDER_GRPC_REFRESH_FLOOR", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = duration(Duration::ZERO..=HOUR))]
    pub refresh_floor: Given<Duration>,
    /// A link stops counting as fresh this long before it expires (0 to 1d)
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
    /// Time one attempt may take; Hypersender may itself wait 5s for a WhatsApp session (1ms to 15s)
    #[arg(long, env = "HYPERSENDER_GRPC_ATTEMPT_TIMEOUT", value_name = "DURATION", default_value = "6s")]
    #[arg(value_parser = duration(MILLISECOND..=15 * SECOND))]
    pub attempt_timeout: Given<Duration>,
    /// Retries that each first attempt pays for, over all fetches (0, which is no retry at all, to 1)
    #[arg(long, env = "HYPERSENDER_GRPC_RETRY_BUDGET", value_name = "RATIO", default_value = "0.1")]
    #[arg(value_parser = number(0.0..=1.0_f64))]
    pub retry_budget: Given<f64>,
    /// Longest wait that Hypersender may ask for, by Retry-After or X-RateLimit-Reset; more is cut (0 to 1h)
    #[arg(long, env = "HYPERSENDER_GRPC_RETRY_AFTER_MAX", value_name = "DURATION", default_value = "5m")]
    #[arg(value_parser = duration(Duration::ZERO..=HOUR))]
    pub retry_after_max: Given<Duration>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits, each for this process alone: divide by the number of replicas")]
pub(super) struct LimitFlags {
    /// Attempts a second for each instance; WhatsApp bans numbers for bulk look-ups (0, which is no limit, to 1000)
    #[arg(long, env = "HYPERSENDER_GRPC_RATE", value_name = "PER_SECOND", default_value = "5")]
    #[arg(value_parser = number(0.0..=1000.0_f64))]
    pub rate: Given<f64>,
    /// Attempts for each instance at once, after it was left in peace (0, which is no limit, to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_BURST", value_name = "COUNT", default_value = "20")]
    #[arg(value_parser = number(0..=10_000_u32))]
    pub burst: Given<u32>,
    /// Failures in a row after which an instance is left alone for 2s, doubling to 60s (0, which is never, to 1000)
    #[arg(long, env = "HYPERSENDER_GRPC_BREAKER_FAILURES", value_name = "COUNT", default_value = "5")]
    #[arg(value_parser = number(0..=1000_u32))]
    pub breaker_failures: Given<u32>,
    /// Attempts on the wire at a time; half of them at most for one instance (1 to 10000)
    #[arg(long, env = "HYPERSENDER_GRPC_UPSTREAM_CONCURRENCY", value_name = "COUNT", default_value = "64")]
    #[arg(value_parser = number(1..=10_000_usize))]
    pub upstream_concurrency: Given<usize>,
    /// Contacts being fetched at a time; further ones are refused (1 to 1000000)
    #[arg(long, env = "HYPERSENDER_GRPC_FLIGHTS", value_name = "COUNT", default_value = "1024")]
    #[arg(value_parser = number(1..=1_000_000_usize))]
    pub flights: Given<usize>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogFlags {
    /// text or json [default: text on a terminal, else json]
    #[arg(long, env = "HYPERSENDER_GRPC_LOG_FORMAT", value_name = "FORMAT")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_format)))]
    pub log_format: Given<Option<Format>>,
    /// What to log: error, warn, info, debug, trace, or directives such as info,hypersender_grpc::stack=debug. Of
    /// libraries no more than info is ever logged: below it stand headers and URLs
    #[arg(long, env = "HYPERSENDER_GRPC_LOG", value_name = "FILTER", default_value = "info")]
    #[arg(value_parser = one_of::<LogFilter>("a level such as info, or directives such as info,hypersender_grpc::stack=debug"))]
    pub log: Given<LogFilter>,
}

/// Where a running service is, as given.
#[derive(Args, Debug)]
pub struct TargetFlags {
    /// Host and port of the service; of one that listens on every address, this machine's own is asked
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051"
    )]
    #[arg(value_parser = one_of::<Address>(Address::FORM))]
    pub(super) address: Given<Address>,
    /// Time to wait for the answer, the connection included (1ms to 1d)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration(MILLISECOND..=DAY))]
    pub(super) timeout: Given<Duration>,
    /// Authorities in PEM that sign the certificate of the service; with them the connection is encrypted
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CA", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) tls_ca: Given<Option<PathBuf>>,
    /// Name in the certificate of the service [default: the host of --address]
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_DOMAIN", value_name = "NAME")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_domain)))]
    pub(super) tls_domain: Given<Option<String>>,
    /// Certificate chain in PEM to show to a service that asks its clients for one
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CLIENT_CERT", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) tls_client_cert: Given<Option<PathBuf>>,
    /// Private key of that certificate in PEM
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CLIENT_KEY", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) tls_client_key: Given<Option<PathBuf>>,
}

/// Settings of `get`, as given.
#[derive(Args, Debug)]
pub struct GetFlags {
    /// Contact: a phone number in digits, or a chat id such as 15551234567@c.us
    pub(super) chat_id: String,
    /// Instance to ask [default: the one the service is set to]
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    pub(super) instance: String,
    #[command(flatten)]
    pub(super) target: TargetFlags,
}

/// Settings of `sandbox`, as given.
#[derive(Args, Debug)]
pub struct SandboxFlags {
    /// Loopback address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:50080")]
    #[arg(value_parser = read_by(read_loopback))]
    pub(super) listen: Given<SocketAddr>,
}
