//! `get`: one look-up at a running service, whose answer is printed as JSON.

use std::process::ExitCode;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use secrecy::ExposeSecret;
use tonic::{Request, Status, metadata::MetadataValue};
use tonic_types::StatusExt;

use super::{Ending, block_on, channel::connect, fail, fail_config, print, unreachable::explain_call, warn};
use crate::{
    config::{Get, GetFlags, Variables},
    grpc::{
        DESCRIPTORS,
        contact::{
            GetProfilePictureRequest, GetProfilePictureResponse, contact_service_client::ContactServiceClient,
        },
    },
};

pub fn run(flags: GetFlags, variables: &Variables) -> ExitCode {
    match flags.check(variables) {
        Ok(asked) => block_on(get(asked), Ending::cut_short),
        Err(faults) => fail_config(faults),
    }
}

async fn get(asked: Get) -> ExitCode {
    let Get { chat_id, instance, target, token } = asked;
    if token.is_some() && target.tls.is_none() && !target.address.is_this_machine() {
        warn("the token travels in plain text; encrypt the connection with --tls-ca");
    }
    let channel = match connect(&target).await {
        Ok(channel) => channel,
        Err(error) => return fail(error),
    };
    let mut request = Request::new(GetProfilePictureRequest { instance, chat_id, cache_control: None });
    request.set_timeout(target.timeout);
    if let Some(token) = token {
        let bearer = format!("Bearer {}", token.expose_secret()).parse();
        let mut bearer: MetadataValue<_> = bearer.expect("a token is visible ASCII");
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
    }
    match ContactServiceClient::new(channel).get_profile_picture(request).await {
        Ok(response) => print(json(&response.into_inner())),
        Err(status) => fail(explain_call(&target, &status).unwrap_or_else(|| explain(&status))),
    }
}

/// The message in protobuf's JSON, as grpcurl prints it.
fn json(response: &GetProfilePictureResponse) -> String {
    const NAME: &str = "hypersender.contact.v1.GetProfilePictureResponse";
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptor set is made at build time");
    let descriptor = pool.get_message_by_name(NAME).expect("the contract has this message");
    let bytes = response.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, &*bytes).expect("it was encoded just now");
    serde_json::to_string_pretty(&message).expect("every field has a form in JSON")
}

fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| format!(" ({})", info.reason));
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    let wait = wait.map(|wait| format!("; ask again in {}", humantime::format_duration(wait)));
    format!(
        "{:?}{}: {}{}",
        status.code(),
        reason.unwrap_or_default(),
        status.message(),
        wait.unwrap_or_default(),
    )
}
