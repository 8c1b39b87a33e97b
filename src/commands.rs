//! What the program can be told to do: one file a subcommand.

mod channel;
mod get;
mod health;
mod sandbox;
mod serve;
mod unreachable;

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Cli, Command, Variables, without_empty_variables};

/// The settings are at fault; `EX_CONFIG` of BSD's sysexits.
const EXIT_CONFIG: u8 = 78;
/// A subcommand that a signal cut short exits with this and the signal's number, as a shell tells it.
const EXIT_SIGNAL: u8 = 128;

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
    match written(answer.print().and_then(|()| io::stdout().flush())) {
        Err(error) if !answer.use_stderr() => fail(format_args!("cannot write to standard output: {error}")),
        _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(u8::MAX)),
    }
}

/// A signal that asks a process to end.
#[derive(Clone, Copy)]
enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    /// The exit code of a subcommand that had more to do.
    fn cut_short(self) -> ExitCode {
        let signal = match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Terminate => SignalKind::terminate(),
        };
        ExitCode::from(EXIT_SIGNAL.saturating_add(u8::try_from(signal.as_raw_value()).unwrap_or_default()))
    }
}

/// Listens for SIGINT and SIGTERM from now on; the future resolves at the first one. As the first process of a container, the
/// system ends a process at neither.
fn ending() -> io::Result<impl Future<Output = Ending>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Ending::Interrupt,
            _ = terminate.recv() => Ending::Terminate,
        }
    })
}

/// Runs `work` on a small runtime, until it is done or a signal ends it, whose exit code `ended` tells.
fn block_on<F: Future<Output = ExitCode>>(work: F, ended: fn(Ending) -> ExitCode) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start: {error}")),
    };
    let code = runtime.block_on(async {
        match ending() {
            Ok(ending) => tokio::select! {
                code = work => code,
                signal = ending => ended(signal),
            },
            Err(error) => fail(format_args!("cannot listen for signals: {error}")),
        }
    });
    // A name that is being resolved cannot be given up; dropped, the runtime would wait for it.
    runtime.shutdown_background();
    code
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
    let _ = writeln!(io::stdout(), "{text}");
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
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

/// Tells on standard error what a person may want to mend.
fn warn(message: impl Display) {
    let _ = writeln!(io::stderr(), "warning: {message}");
}

/// Tells the faults of settings, as [`fail`] does.
fn fail_config(faults: impl Display) -> ExitCode {
    fail(faults);
    ExitCode::from(EXIT_CONFIG)
}
