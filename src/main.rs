//! The process edge: arguments and environment in, exit code out.

use std::{env, process::ExitCode};

/// With the system's allocator, what a call frees leaves holes between the entries of the cache; see the bench "memory".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let variables = env::vars_os().collect();
    hypersender_grpc::commands::run(&variables)
}
