//! `sandbox`: the stand-in for the REST API alone, until SIGTERM or Ctrl-C.

use std::{net::SocketAddr, process::ExitCode};

use super::{block_on, fail, fail_config, tell};
use crate::{config::SandboxFlags, sandbox::Sandbox};

pub fn run(flags: SandboxFlags) -> ExitCode {
    match flags.check() {
        // A signal is the usual end of a sandbox, and no failure.
        Ok(listen) => block_on(serve(listen), |_| ExitCode::SUCCESS),
        Err(faults) => fail_config(faults),
    }
}

async fn serve(listen: SocketAddr) -> ExitCode {
    let sandbox = match Sandbox::start(listen).await {
        Ok(sandbox) => sandbox,
        Err(error) => return fail(format_args!("cannot listen on {listen}: {error}")),
    };
    tell(format_args!(
        "HYPERSENDER_WHATSAPP_BASE_URL={}\nHYPERSENDER_WHATSAPP_API_KEY={}\nHYPERSENDER_WHATSAPP_INSTANCE_ID={}",
        sandbox.base_url(),
        Sandbox::TOKEN,
        Sandbox::INSTANCE,
    ));
    sandbox.stopped().await;
    fail("the sandbox stopped by itself")
}
