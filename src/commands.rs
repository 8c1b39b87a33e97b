//! What the program can be told to do: one file a subcommand.

mod channel;
mod get;
mod health;
mod sandbox;
mod serve;

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};

use crate::config::{Cli, Command, Variables, without_empty_variables};

/// The settings are at fault; `EX_CONFIG` of BSD's sysexits.
const EXIT_CONFIG: u8 = 78;

/// Runs what the command line says and returns the exit code.
pub fn run(variables: &Variables) -> ExitCode {
    let command = without_empty_variables(Cli::command(), variables);
    let cli = Cli::from_arg_matches(&command.get_matches());
    match cli.unwrap_or_else(|error| error.exit()).command {
        Command::Serve(flags) => serve::run(*flags, variables),
        Command::Get(flags) => get::run(flags, variables),
        Command::Health(target) => health::run(target),
        Command::Sandbox(flags) => sandbox::run(flags),
    }
}

/// Runs `work` on a small runtime: for subcommands that make one call.
fn block_on<F: Future<Output = ExitCode>>(work: F) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(format_args!("cannot start: {error}")),
    }
}

/// Prints an answer. A reader that leaves before its end, as `head` does, has what it wanted.
fn print(text: impl Display) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(error),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(message: impl Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
