//! The page of the sandbox: it shows the test numbers with their avatars, and controls the sandbox. It exists
//! with `--sandbox` only.

use std::net::SocketAddr;

use axum::Router;

use crate::{
    domain::Instance,
    grpc::Credentials,
    stack::{LookupService, Stack},
};

/// The sandbox that the page shows and controls.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The address of its control endpoints.
    pub control: SocketAddr,
    /// The instance that is asked.
    pub instance: Instance,
    /// The test numbers.
    pub numbers: Vec<SandboxNumber>,
}

/// A test number.
#[derive(Clone, Copy, Debug)]
pub struct SandboxNumber {
    /// The number.
    pub number: &'static str,
    /// The picture it has, or the fault.
    pub about: &'static str,
}

/// The routes of the page, and the checks that protect all routes of this port from other sites.
pub fn routes<F: LookupService>(
    sandbox: Sandbox,
    stack: Stack<F>,
    credentials: &Credentials,
    addresses: super::sealed::Addresses,
) -> Router {
    let _ = (sandbox, stack, credentials, addresses);
    unimplemented!("skeleton")
}

/// Wraps all routes of the port so that only requests with a loopback name in `Host` are answered.
pub fn loopback_only(routes: Router) -> Router {
    routes
}
