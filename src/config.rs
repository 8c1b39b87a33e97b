//! Every setting once: its flag, its variable, what it is for, its unit, range and default.
//!
//! A value is read without a word of complaint and checked with all others, so that one start tells every fault. Nothing
//! here ends the process; the environment comes in as [`Variables`].

mod address;
mod authorities;
mod callers;
mod check;
mod faults;
mod flags;
mod given;
mod instances;
mod proxy;
mod target;
mod traces;
mod variables;

use std::{ffi::OsString, net::SocketAddr};

use secrecy::SecretString;
use url::Url;

pub use self::{
    address::Address,
    faults::{Faults, names},
    flags::{Cli, Command, GetFlags, SandboxFlags, ServeFlags, TargetFlags},
    proxy::unused_proxy_variables,
    target::{ClientTls, Get, Target},
    variables::{unknown_variables, without_empty_variables},
};
use crate::{domain::Instance, server, stack, telemetry};

/// All that `serve` needs.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where whoever watches the process finds it; `None` opens no such port.
    pub admin_listen: Option<SocketAddr>,
    /// Who is asked.
    pub upstream: Upstream,
    /// One attempt.
    pub attempt: stack::UpstreamSettings,
    /// The layers.
    pub stack: stack::Settings,
    /// The server and the layers around its calls.
    pub server: server::Settings,
    /// Where traces go, if they go anywhere.
    pub traces: Option<telemetry::TraceSettings>,
}

/// Who is asked for pictures.
#[derive(Debug)]
pub enum Upstream {
    /// The stand-in, started with the service.
    Sandbox,
    /// Hypersender.
    Hypersender {
        /// The API's root.
        base_url: Url,
        /// What it is asked with.
        tokens: Tokens,
        /// Instance asked when a call names none.
        default_instance: Option<Instance>,
    },
}

/// The tokens of the instances; none where each call carries one.
#[derive(Debug, Default)]
pub struct Tokens {
    /// For every instance that is not listed; without it those cannot be asked.
    pub any: Option<SecretString>,
    /// For each instance that is listed.
    pub by_instance: Vec<(Instance, SecretString)>,
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
        check::serve(self, variables)
    }
}

impl SandboxFlags {
    /// Where the sandbox listens.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self) -> Result<SocketAddr, Faults> {
        let mut faults = Faults::of("sandbox");
        let listen = faults.take_any("listen", Some(self.listen));
        faults.unless_any(listen)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn flags_that_are_left_out_set_the_defaults_of_the_server() {
        let cli = Cli::try_parse_from(["hypersender-grpc", "serve", "--sandbox"]).unwrap();
        let Command::Serve(flags) = cli.command else { panic!("the subcommand is serve") };
        let (settings, _) = flags.check(&Variables::new()).unwrap();
        assert_eq!(format!("{:?}", settings.server), format!("{:?}", server::Settings::default()));
    }
}
