//! The process: arguments and environment in, exit code out.

use std::{env, process::ExitCode};

/// mimalloc replaces the system's allocator, with which memory that calls have freed stays unused between the
/// entries of the cache (fragmentation). The bench "memory" measures it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let variables = env::vars_os().collect();
    hypersender_grpc::commands::run(&variables)
}
