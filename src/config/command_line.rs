//! The command line: the subcommands, and the flags of small ones. The settings of `serve` are in `flags`.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{
    client_flags::{GetFlags, SyncFlags, TargetFlags},
    flags::ServeFlags,
    given::{Given, read_by},
    values::read_loopback,
};
use crate::sandbox;

/// A gRPC service in front of the Hypersender REST API, for profile pictures of WhatsApp contacts.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service until SIGTERM or Ctrl-C.
    ///
    /// The Hypersender token is read from the variable HYPERSENDER_WHATSAPP_API_KEY, or from the file that
    /// HYPERSENDER_WHATSAPP_API_KEY_FILE names. There is no flag for it, because every user of the machine
    /// can read the command line. The exit code is 78 when a setting is at fault.
    ///
    /// To export traces, set OTEL_EXPORTER_OTLP_ENDPOINT to an OpenTelemetry collector such as
    /// http://127.0.0.1:4317, and OTEL_EXPORTER_OTLP_PROTOCOL to grpc or http/protobuf. OTEL_SERVICE_NAME,
    /// OTEL_TRACES_SAMPLER and the other standard variables of OpenTelemetry are used too.
    Serve(Box<ServeFlags>),
    /// Check the settings of serve, and print the ones that it would use.
    ///
    /// Takes the flags and variables of serve, reads the same files, and opens no port and no connection.
    /// Each line has a setting, its value and where that comes from. Secrets are not printed. The exit code
    /// is 78 when a setting is at fault; all faults are then printed on standard error.
    CheckConfig(Box<ServeFlags>),
    /// Look up contacts at a running service and print the answers.
    ///
    /// The exit code is 0 when all look-ups were answered, 1 when some failed, and 2 when nothing could be
    /// asked.
    ///
    /// For a service with a callers file, the token of the caller is read from the variable
    /// HYPERSENDER_GRPC_TOKEN, or from the file that HYPERSENDER_GRPC_TOKEN_FILE names. There is no flag for
    /// it, because every user of the machine can read the command line.
    Get(Box<GetFlags>),
    /// Keep the pictures of a contact list up to date: look up the contacts of a CSV file, and report what
    /// has changed since the last time.
    ///
    /// The outcome of each contact is kept in a file beside the list, whose name ends in .state. The token of
    /// the caller is read from the same variables as by get. The exit code is 0 when all contacts are up to
    /// date, 1 when some are not, and 2 when nothing could be asked.
    Sync(Box<SyncFlags>),
    /// Check the health of a running service: the exit code is 0 when it is SERVING.
    Health(Box<TargetFlags>),
    /// Run the sandbox alone: a stand-in for the REST API, with test numbers.
    #[command(after_long_help = sandbox::numbers_help())]
    Sandbox(SandboxFlags),
    /// Print the completions of a shell.
    ///
    /// For bash, for example: hypersender-grpc completions bash > /etc/bash_completion.d/hypersender-grpc
    Completions(CompletionsFlags),
    /// Print the manual page of the program, or of one of its subcommands.
    ///
    /// To read it: hypersender-grpc man serve | man -l -
    Man(ManFlags),
}

/// The shell of `completions`.
#[derive(Args, Debug)]
pub struct CompletionsFlags {
    /// The shell
    pub shell: Shell,
}

/// The page that `man` prints.
#[derive(Args, Debug)]
pub struct ManFlags {
    /// The subcommand, such as serve; without it, the page of the whole program
    pub subcommand: Option<String>,
}

/// The settings of `sandbox` as they are given.
#[derive(Args, Debug)]
pub struct SandboxFlags {
    /// Loopback address and port to listen on; port 0 takes a free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:50080")]
    #[arg(value_parser = read_by(read_loopback))]
    pub(super) listen: Given<SocketAddr>,
}
