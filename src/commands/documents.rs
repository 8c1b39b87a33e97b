//! `completions` and `man`: texts that are made from the definition of the command line.

use std::{io, process::ExitCode};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{fail, print};
use crate::config::{Cli, CompletionsFlags, ManFlags};

const PROGRAM: &str = "hypersender-grpc";

/// Prints the completions of a shell.
pub fn completions(flags: &CompletionsFlags) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), PROGRAM, &mut text);
    print(String::from_utf8_lossy(&text).trim_end())
}

/// Prints a manual page.
pub fn man(flags: &ManFlags) -> ExitCode {
    let mut program = Cli::command();
    program.build();
    let wanted = match &flags.subcommand {
        None => Some(program.clone()),
        Some(name) => program.find_subcommand(name).cloned(),
    };
    let Some(command) = wanted else {
        let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
        return fail(format_args!("no such subcommand; there are {}", names.join(", ")));
    };
    match page(command) {
        Ok(page) => print(page.trim_end()),
        Err(error) => fail(format_args!("cannot make the page: {error}")),
    }
}

/// The page of a command in the format of man.
fn page(command: Command) -> io::Result<String> {
    // `hypersender-grpc serve` has its page under hypersender-grpc-serve, as in git.
    let title = command.get_bin_name().unwrap_or(PROGRAM).replace(' ', "-");
    let mut text = Vec::new();
    Man::new(command).title(title).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
