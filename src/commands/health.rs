//! `health`: the health of a running service as an exit code, for containers without grpc_health_probe.

use std::process::ExitCode;

use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Ending, block_on, channel::connect, fail, fail_config, tell, unreachable::explain_call};
use crate::config::{Target, TargetFlags};

pub fn run(flags: TargetFlags) -> ExitCode {
    match flags.check() {
        Ok(target) => block_on(check(target), Ending::cut_short),
        Err(faults) => fail_config(faults),
    }
}

async fn check(target: Target) -> ExitCode {
    let channel = match connect(&target).await {
        Ok(channel) => channel,
        Err(error) => return fail(error),
    };
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(target.timeout);
    match HealthClient::new(channel).check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => {
                tell("SERVING");
                ExitCode::SUCCESS
            }
            status => fail(status.as_str_name()),
        },
        Err(status) => fail(explain_call(&target, &status).unwrap_or_else(|| status.message().to_owned())),
    }
}
