//! `sandbox`: the stand-in REST API alone, until Ctrl-C.

use std::process::ExitCode;

use super::{block_on, fail};
use crate::{config::SandboxFlags, sandbox::Sandbox};

pub fn run(flags: SandboxFlags) -> ExitCode {
    block_on(serve(flags))
}

async fn serve(flags: SandboxFlags) -> ExitCode {
    let sandbox = match Sandbox::start(flags.listen).await {
        Ok(sandbox) => sandbox,
        Err(error) => return fail(error),
    };
    println!(
        "HYPERSENDER_WHATSAPP_BASE_URL={}\nHYPERSENDER_WHATSAPP_API_KEY={}\nHYPERSENDER_WHATSAPP_INSTANCE_ID={}",
        sandbox.base_url(),
        Sandbox::TOKEN,
        Sandbox::INSTANCE,
    );
    tokio::select! {
        () = sandbox.stopped() => fail("the sandbox stopped by itself"),
        _ = tokio::signal::ctrl_c() => ExitCode::SUCCESS,
    }
}
