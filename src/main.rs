//! The process edge: arguments and environment in, exit code out.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let variables = env::vars_os().collect();
    hypersender_grpc::commands::run(&variables)
}
