//! `get`: one look-up at a running service, printed as JSON.

use std::process::ExitCode;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::{block_on, connect, fail};
use crate::{
    config::GetFlags,
    grpc::{
        DESCRIPTORS,
        contact::{
            GetProfilePictureRequest, GetProfilePictureResponse, contact_service_client::ContactServiceClient,
        },
    },
};

pub fn run(flags: GetFlags) -> ExitCode {
    block_on(get(flags))
}

async fn get(flags: GetFlags) -> ExitCode {
    let channel = match connect(&flags.target).await {
        Ok(channel) => channel,
        Err(error) => return fail(error),
    };
    let mut request = Request::new(GetProfilePictureRequest {
        instance: flags.instance,
        chat_id: flags.chat_id,
        cache_control: None,
    });
    request.set_timeout(flags.target.timeout);
    match ContactServiceClient::new(channel).get_profile_picture(request).await {
        Ok(response) => {
            println!("{}", json(&response.into_inner()));
            ExitCode::SUCCESS
        }
        Err(status) => fail(explain(&status)),
    }
}

/// The message in protobuf's own JSON, as grpcurl prints it.
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
