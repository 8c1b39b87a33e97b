//! Every setting once: its flag, its variable, its help, its unit, range and default.
//!
//! A value that cannot be read is kept with its fault until all settings are checked, so that one start
//! reports every fault. Nothing here ends the process or reads the environment, which comes in as
//! [`Variables`].

mod address;
mod authorities;
mod avatar_flags;
mod avatars;
mod callers;
mod check;
mod client_flags;
mod command_line;
mod faults;
mod files;
mod flags;
mod given;
mod instances;
mod listing;
mod location;
mod name;
mod proxy;
mod secrets;
mod store;
mod tables;
mod target;
mod traces;
mod upstream;
mod values;
mod variables;

use std::{ffi::OsString, net::SocketAddr};

use clap::CommandFactory;

pub use self::{
    address::Address,
    avatars::Avatars,
    client_flags::{GetFlags, SyncFlags, TargetFlags},
    command_line::{Cli, Command, CompletionsFlags, ManFlags, SandboxFlags},
    faults::Faults,
    flags::ServeFlags,
    listing::Listing,
    name::Name,
    proxy::unused_proxy_variables,
    store::store_faults,
    target::{Asking, ClientTls, Get, Sync, Target},
    upstream::{Tokens, Upstream},
    values::Output,
    variables::{unknown_variables, without_empty_variables},
};
use crate::{grpc::StreamSettings, server, stack, telemetry};

/// The settings of `serve`.
#[derive(Debug)]
pub struct Settings {
    /// The address to listen on; with port 0, the system chooses a port.
    pub listen: SocketAddr,
    /// The address of metrics and probes; `None` opens no such port.
    pub admin_listen: Option<SocketAddr>,
    /// The REST API that the service calls.
    pub upstream: Upstream,
    /// The settings of one attempt.
    pub attempt: stack::UpstreamSettings,
    /// The settings of the layers of a look-up.
    pub stack: stack::Settings,
    /// The store that outlives the process; with `None`, there is none.
    pub store: Option<stack::StoreSettings>,
    /// How many streams may be in progress.
    pub streams: StreamSettings,
    /// The settings of the server and of the layers around its calls.
    pub server: server::Settings,
    /// The avatars and their port; with `None`, there are none.
    pub avatars: Option<Avatars>,
    /// The export of traces; with `None`, nothing is traced.
    pub traces: Option<telemetry::TraceSettings>,
}

/// The variables of the environment, in the order of the system.
pub type Variables = Vec<(OsString, OsString)>;

impl ServeFlags {
    /// The settings of the service, and those of its logs.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self, variables: &Variables) -> Result<(Settings, telemetry::Settings), Faults> {
        check::serve(&self, variables)
    }
}

impl SandboxFlags {
    /// The address that the sandbox listens on.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self) -> Result<SocketAddr, Faults> {
        let mut faults = Faults::default();
        let listen = faults.take_valid(&self.listen);
        faults.unless_any(listen)
    }
}

/// The names of the setting of `serve` that the argument `id` defines, for a text that points to it.
///
/// # Panics
///
/// When `serve` has no such argument.
#[must_use]
pub fn names(id: &str) -> Name {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("serve is a subcommand");
    let setting = serve.get_arguments().find(|argument| argument.get_id() == id);
    Name::of(setting.expect("every setting is an argument of serve"))
}
