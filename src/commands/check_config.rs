//! `check-config`: checks the settings of `serve` without serving, and prints the ones that it would use.

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory};

use super::{fail_config, print, warn};
use crate::{
    config::{Cli, Listing, ServeFlags, Settings, Upstream, Variables, unknown_variables},
    domain::TokenOwner,
};

/// The name of the subcommand.
const NAME: &str = "check-config";

/// Checks the settings. `matches` are those of the whole command line.
pub fn run(flags: ServeFlags, matches: &ArgMatches, variables: &Variables) -> ExitCode {
    for variable in unknown_variables(variables) {
        warn(format_args!("{variable}: no such setting"));
    }
    let settings = match flags.check(variables) {
        Ok((settings, _)) => settings,
        Err(faults) => return fail_config(faults),
    };
    let command = Cli::command();
    let listing = command.find_subcommand(NAME).zip(matches.subcommand_matches(NAME));
    let (command, matches) = listing.expect("this is that subcommand");
    print(format_args!("{}\n{}", Listing::new(command, matches, variables), contents(&settings).join("\n")))
}

/// How many tokens and callers there are, when the certificate ends, and whether traces are exported.
fn contents(settings: &Settings) -> Vec<String> {
    let passthrough = settings.server.token_owner == TokenOwner::Caller;
    let tokens = match &settings.upstream {
        Upstream::Sandbox => "that of the sandbox".to_owned(),
        Upstream::Hypersender { .. } if passthrough => "those of the calls".to_owned(),
        Upstream::Hypersender { tokens, .. } => {
            let any = if tokens.any.is_some() { "one for any instance, " } else { "" };
            format!("{any}{} for listed instances", tokens.by_instance.len())
        }
    };
    let callers = match &settings.server.callers {
        Some(callers) => callers.known().len().to_string(),
        None => "everyone who reaches the port".to_owned(),
    };
    let certificate = match &settings.server.tls {
        Some(tls) => format!("ends {}", humantime::format_rfc3339_seconds(tls.not_after())),
        None => "none, plain text".to_owned(),
    };
    let traces = if settings.traces.is_some() { "exported" } else { "off" };
    vec![
        format!("# tokens of Hypersender: {tokens}"),
        format!("# callers: {callers}"),
        format!("# certificate: {certificate}"),
        format!("# traces: {traces}"),
    ]
}
