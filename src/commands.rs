//! The subcommands, one file each, and what they share: output, exit codes and signals.

mod channel;
mod check_config;
mod documents;
mod get;
mod health;
mod look_ups;
mod progress;
mod reasons;
mod sandbox;
mod serve;
mod sync;
mod unreachable;

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Cli, Command, Variables, without_empty_variables};

/// Exit code of `get` and `sync` when nothing could be asked.
const EXIT_NOTHING_ASKED: u8 = 2;
/// Exit code of a start with settings at fault; `EX_CONFIG` of BSD's sysexits.
const EXIT_CONFIG: u8 = 78;
/// A subcommand that a signal interrupts exits with this plus the number of the signal, as in a shell.
const EXIT_SIGNAL: u8 = 128;

/// Runs the subcommand of the command line and returns the exit code.
pub fn run(variables: &Variables) -> ExitCode {
    let command = without_empty_variables(Cli::command(), variables);
    let parsed =
        command.try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(answer) => return explain(&answer),
    };
    match cli.command {
        Command::Serve(flags) => serve::run(*flags, variables),
        Command::CheckConfig(flags) => check_config::run(*flags, &matches, variables),
        Command::Get(flags) => get::run(*flags, variables),
        Command::Sync(flags) => sync::run(*flags, variables),
        Command::Health(flags) => health::run(*flags),
        Command::Sandbox(flags) => sandbox::run(flags),
        Command::Completions(flags) => documents::completions(&flags),
        Command::Man(flags) => documents::man(&flags),
    }
}

/// Prints the text of clap: help, the version, or a mistake on the command line.
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
    /// The exit code of a subcommand that this signal interrupts.
    fn cut_short(self) -> ExitCode {
        let signal = match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Terminate => SignalKind::terminate(),
        };
        ExitCode::from(EXIT_SIGNAL.saturating_add(u8::try_from(signal.as_raw_value()).unwrap_or_default()))
    }
}

/// Listens for SIGINT and SIGTERM from now on; the future resolves at the first one. Without a handler,
/// neither would end the first process of a container.
fn ending() -> io::Result<impl Future<Output = Ending>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Ending::Interrupt,
            _ = terminate.recv() => Ending::Terminate,
        }
    })
}

/// Runs `work` on a runtime of one thread until it is done, or until a signal ends it. In that case `ended`
/// chooses the exit code.
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
    // A name resolution cannot be cancelled, and dropping the runtime would wait for it.
    runtime.shutdown_background();
    code
}

/// Prints the answer of a subcommand. Where it cannot be written, the subcommand fails.
fn print(text: impl Display) -> ExitCode {
    match written(writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("cannot write the answer to standard output: {error}")),
    }
}

/// Prints a hint for a person. The subcommand goes on where it cannot be written.
fn tell(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Counts a closed pipe as success: a reader such as `head` closes it once it has read enough.
fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints an error to standard error, and returns the exit code of a failure.
fn fail(message: impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

/// Prints the reason why nothing could be asked to standard error, and returns the exit code.
fn fail_nothing_asked(message: impl Display) -> ExitCode {
    fail(message);
    ExitCode::from(EXIT_NOTHING_ASKED)
}

/// Prints a warning to standard error.
fn warn(message: impl Display) {
    let _ = writeln!(io::stderr(), "warning: {message}");
}

/// Prints the faults of settings to standard error, and returns their exit code.
fn fail_config(faults: impl Display) -> ExitCode {
    fail(faults);
    ExitCode::from(EXIT_CONFIG)
}
