//! The process: arguments and environment in, exit code out.

use std::{env, process::ExitCode};

/// With the system's allocator, memory that calls free stays unused between the entries of the cache; the
/// bench "memory" measures it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let variables = env::vars_os().collect();
    hypersender_grpc::commands::run(&variables)
}
