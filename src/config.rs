//! Every setting once: its flag, its variable, its help, its unit, range and default.
//!
//! A value that cannot be read is kept as a [`Given`](given::Given) with its fault until all settings are checked, so that
//! one start reports every fault. Nothing here ends the process or reads the environment: that comes in as [`Variables`].

mod address;
mod authorities;
mod callers;
mod check;
mod faults;
mod files;
mod flags;
mod given;
mod instances;
mod name;
mod proxy;
mod secrets;
mod tables;
mod target;
mod traces;
mod upstream;
mod values;
mod variables;

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use clap::CommandFactory;

pub use self::{
    address::Address,
    faults::Faults,
    flags::{Cli, Command, GetFlags, SandboxFlags, ServeFlags, TargetFlags},
    name::Name,
    proxy::unused_proxy_variables,
    target::{ClientTls, Get, Target},
    upstream::{Tokens, Upstream},
    variables::{unknown_variables, without_empty_variables},
};
use crate::{domain::TokenOwner, server, stack, telemetry};

/// All that `serve` needs.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where whoever watches the process finds it; `None` opens no such port.
    pub admin_listen: Option<SocketAddr>,
    /// Who may call; everyone, when nobody is named.
    pub callers: Option<server::Callers>,
    /// Whose token Hypersender is asked with.
    pub token_owner: TokenOwner,
    /// Who is asked.
    pub upstream: Upstream,
    /// One attempt.
    pub attempt: stack::UpstreamSettings,
    /// The layers.
    pub stack: stack::Settings,
    /// Time for calls that state none.
    pub deadline: Duration,
    /// Calls in progress at a time.
    pub in_flight: usize,
    /// Whether the contract is told.
    pub reflection: bool,
    /// How to take connections and to stop.
    pub server: server::Settings,
    /// Encryption, if there is any.
    pub tls: Option<server::Tls>,
    /// Where traces go, if they go anywhere.
    pub traces: Option<telemetry::TraceSettings>,
}

/// Variables of the environment, as the process got them.
pub type Variables = Vec<(OsString, OsString)>;

impl ServeFlags {
    /// The settings, and how to log.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self, variables: &Variables) -> Result<(Settings, telemetry::Settings), Faults> {
        check::serve(&self, variables)
    }
}

impl SandboxFlags {
    /// Where the sandbox listens.
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
