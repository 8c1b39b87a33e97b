//! What the program can be told to do: one file a subcommand.

mod channel;
mod get;
mod health;
mod sandbox;
mod serve;

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};

use crate::config::{Cli, Command, Variables, without_empty_variables};

/// The settings are at fault; `EX_CONFIG` of BSD's sysexits.
const EXIT_CONFIG: u8 = 78;

/// Runs what the command line says and returns the exit code.
pub fn run(variables: &Variables) -> ExitCode {
    let command = without_empty_variables(Cli::command(), variables);
    let cli = command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    match cli.map(|cli| cli.command) {
        Ok(Command::Serve(flags)) => serve::run(*flags, variables),
        Ok(Command::Get(flags)) => get::run(flags, variables),
        Ok(Command::Health(flags)) => health::run(flags),
        Ok(Command::Sandbox(flags)) => sandbox::run(flags),
        Err(answer) => explain(&answer),
    }
}

/// Prints what clap has to say: help, the version, or a mistake on the command line.
fn explain(answer: &clap::Error) -> ExitCode {
    answer.exit()
}

/// A signal that asks a process to end.
#[derive(Clone, Copy)]
struct Ending;

impl Ending {
    fn cut_short(self) -> ExitCode {
        ExitCode::FAILURE
    }
}

/// Runs `work` on a small runtime, until it is done or Ctrl-C ends it, whose exit code `ended` tells.
fn block_on<F: Future<Output = ExitCode>>(work: F, ended: fn(Ending) -> ExitCode) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                code = work => code,
                _ = tokio::signal::ctrl_c() => ended(Ending),
            }
        }),
        Err(error) => fail(format_args!("cannot start: {error}")),
    }
}

/// Prints an answer that somebody asked for.
fn print(text: impl Display) -> ExitCode {
    match written(writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("cannot write the answer to standard output: {error}")),
    }
}

/// Prints what helps a person and is of no use to anyone else: where it cannot be written, nothing is lost.
fn tell(text: impl Display) {
    println!("{text}");
}

/// A reader that leaves before the end, as `head` does, has what it wanted.
fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Tells a fault on standard error. Where that cannot be written, the exit code alone tells it.
fn fail(message: impl Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// Tells on standard error what a person may want to mend.
fn warn(message: impl Display) {
    eprintln!("warning: {message}");
}

/// Tells the faults of settings, as [`fail`] does.
fn fail_config(faults: impl Display) -> ExitCode {
    fail(faults);
    ExitCode::from(EXIT_CONFIG)
}
