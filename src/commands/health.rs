//! `health`: whether a running service serves, as an exit code; for containers, which have no grpc_health_probe.

use std::process::ExitCode;

use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{block_on, channel::connect, fail, print};
use crate::config::Target;

pub fn run(target: Target) -> ExitCode {
    block_on(check(target))
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
            ServingStatus::Serving => print("SERVING"),
            status => fail(status.as_str_name()),
        },
        Err(status) => fail(status.message()),
    }
}
