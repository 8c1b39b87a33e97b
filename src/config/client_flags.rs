//! The command line of `get`, `sync` and `health`, which call a running service.
//!
//! How a value is read is in `given` and `values`. The check is in `target`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    address::Address,
    given::{Given, LEFT_OUT, duration, one_of, optional, path, read_by},
    values::{Output, read_domain, read_output},
};
use crate::avatars::PictureHosts;

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The address of a running service, and how to connect to it, as they are given.
#[derive(Args, Debug)]
pub struct TargetFlags {
    /// Host and port of the service; 0.0.0.0 and `[::]` mean this machine
    #[arg(
        long,
        env = "HYPERSENDER_GRPC_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051"
    )]
    #[arg(value_parser = one_of::<Address>(Address::FORM))]
    pub(super) address: Given<Address>,
    /// Time to wait for the connection and the answer; for streams, for the connection alone (1ms to 1d)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration(MILLISECOND..=DAY))]
    pub(super) timeout: Given<Duration>,
    /// PEM file with the authorities that sign the certificate of the service; with it, the connection uses
    /// TLS
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CA", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) tls_ca: Given<Option<PathBuf>>,
    /// Name in the certificate of the service [default: the host of --address]
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_DOMAIN", value_name = "NAME")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_domain)))]
    pub(super) tls_domain: Given<Option<String>>,
    /// PEM file with a certificate chain, for a service that asks its clients for one
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CLIENT_CERT", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) tls_client_cert: Given<Option<PathBuf>>,
    /// PEM file with the private key of that certificate
    #[arg(long, env = "HYPERSENDER_GRPC_TLS_CLIENT_KEY", value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) tls_client_key: Given<Option<PathBuf>>,
}

/// The service, the instance and the caller, as they are given.
#[derive(Args, Debug)]
pub(super) struct AskingFlags {
    /// Instance to ask [default: the default instance of the service]
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    pub(super) instance: String,
    #[command(flatten)]
    pub(super) target: TargetFlags,
}

/// The settings of `get` as they are given.
#[derive(Args, Debug)]
pub struct GetFlags {
    /// The contacts: phone numbers in digits, or chat ids such as 15551234567@c.us; - reads them from
    /// standard input, one on each line, and skips blank lines and lines that begin with #
    #[arg(required = true, value_name = "CHAT_ID")]
    pub(super) chat_ids: Vec<String>,
    /// Form of the answers: json, ndjson (one line of JSON for each contact) or table [default: json for one
    /// contact; for several, table on a terminal, else ndjson]
    #[arg(long, value_name = "FORM")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(read_by(read_output)))]
    pub(super) output: Given<Option<Output>>,
    #[command(flatten)]
    pub(super) asking: AskingFlags,
}

/// The settings of `sync` as they are given.
#[derive(Args, Debug)]
pub struct SyncFlags {
    /// The contact list: CSV with a header
    #[arg(value_name = "FILE", value_parser = path())]
    pub(super) contacts: Given<PathBuf>,
    /// Name of the column with the phone numbers or chat ids
    #[arg(long, value_name = "NAME", default_value = "chat_id")]
    pub(super) chat_id_column: String,
    /// A contact that was checked within this time is not looked up; 0 looks up every contact (0 to 365d)
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = duration(Duration::ZERO..=365 * DAY))]
    pub(super) max_age: Given<Duration>,
    /// File to which the changes are added, one line of JSON for each [default: standard output]
    #[arg(long, value_name = "PATH")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) out: Given<Option<PathBuf>>,
    /// Folder in which the pictures are saved [default: no picture is saved]
    #[arg(long, value_name = "DIR")]
    #[arg(default_value = LEFT_OUT, hide_default_value = true, value_parser = optional(path()))]
    pub(super) pictures: Given<Option<PathBuf>>,
    /// Hosts from which pictures are downloaded by https, such as *.whatsapp.net, and origins such as
    /// http://127.0.0.1:50080 for a sandbox
    #[arg(long, env = "HYPERSENDER_GRPC_PICTURE_HOSTS", value_name = "HOSTS")]
    #[arg(default_value = PictureHosts::DEFAULT, value_parser = one_of::<PictureHosts>(PictureHosts::FORM))]
    pub(super) picture_hosts: Given<PictureHosts>,
    #[command(flatten)]
    pub(super) asking: AskingFlags,
}
