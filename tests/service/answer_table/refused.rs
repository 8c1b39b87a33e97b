//! Answers that refuse a request because of its form, its contact, its credentials, or the state of its
//! instance.

use tonic::Code;

use super::{Told, check, fault};
use crate::support::{Pushback, Reply};

const CREDENTIALS: Told = fault(Code::FailedPrecondition, "UPSTREAM_CREDENTIALS_REJECTED", Pushback::Never);
const REJECTED: Told = fault(Code::InvalidArgument, "UPSTREAM_REJECTED_REQUEST", Pushback::Never);
const UNKNOWN: Told = fault(Code::NotFound, "UPSTREAM_NOT_FOUND", Pushback::Never);
const NOT_ON_WHATSAPP: Told = fault(Code::NotFound, "NOT_ON_WHATSAPP", Pushback::Never);
const STARTING: Told = fault(Code::Unavailable, "INSTANCE_STARTING", Pushback::Ms(5000));
const NOT_CONNECTED: Told = fault(Code::FailedPrecondition, "INSTANCE_NOT_CONNECTED", Pushback::Never);
const QUEUED: Told = fault(Code::Unavailable, "UPSTREAM_QUEUED", Pushback::Ms(5000));

fn json(status: u16, body: &str) -> [Reply; 1] {
    [Reply::json(status, body)]
}

#[tokio::test]
async fn rejected_credentials_are_for_the_operator_to_mend() {
    check("401", json(401, r#"{"message":"Unauthenticated."}"#), CREDENTIALS, 1).await;
    check("401 in HTML", [Reply::html(401)], CREDENTIALS, 1).await;
    check("401 without a body", [Reply::empty(401).closing()], CREDENTIALS, 1).await;
    check("403", json(403, r#"{"message":"This action is unauthorized."}"#), CREDENTIALS, 1).await;
}

#[tokio::test]
async fn a_rejected_request_is_the_caller_s_to_change() {
    let documented = r#"{"message":"The given data was invalid.","errors":{"chat_id":["The chat id field is required."]}}"#;
    check("fields", json(422, documented), REJECTED, 1).await;
    let mixed = r#"{"errors":{"chat_id":"text","count":3,"list":[1,"a",null],"deep":{"a":{}},"exists":true,"x":null}}"#;
    check("fields of mixed types", json(422, mixed), REJECTED, 1).await;
    check("exists as a text", json(422, r#"{"errors":{"exists":"false"}}"#), REJECTED, 1).await;
    check("400", [Reply::status(400)], REJECTED, 1).await;
    check("400 in HTML", [Reply::html(400)], REJECTED, 1).await;
}

#[tokio::test]
async fn a_contact_that_is_not_there_is_not_found() {
    check("404", json(404, r#"{"message":"Contact not found."}"#), UNKNOWN, 1).await;
    let documented = r#"{"message":"The given data was invalid.","errors":{"messages":["..."],"jid":"20121323124131@s.whatsapp.net","exists":false},"statusCode":422}"#;
    check("not on WhatsApp", json(422, documented), NOT_ON_WHATSAPP, 1).await;
    let bare = r#"{"errors":{"exists":false}}"#;
    check("not on WhatsApp, and no more", json(422, bare), NOT_ON_WHATSAPP, 1).await;
}

#[tokio::test]
async fn an_instance_that_starts_is_asked_again_and_others_are_not() {
    let state = |state: &str| {
        let text = r#"{"error":"Session status is not as expected.","session":"default","status":"STATE","expected":["WORKING"]}"#;
        json(422, &text.replace("STATE", state))
    };
    check("starting", state("STARTING"), STARTING, 3).await;
    for name in ["SCAN_QR_CODE", "STOPPED", "FAILED", "SOMETHING_NEW", "WORKING"] {
        check(name, state(name), NOT_CONNECTED, 1).await;
    }
    check("known by its session", json(422, r#"{"session":"x","status":"STOPPED"}"#), NOT_CONNECTED, 1).await;
    check("known by what is expected", json(422, r#"{"status":"STOPPED","expected":[]}"#), NOT_CONNECTED, 1)
        .await;
}

#[tokio::test]
async fn a_queued_request_is_not_sent_again() {
    let documented = r#"{"queued":true,"message":"Upstream speaks.","queued_request_uuid":"0b9f6c1e-53d2-4a57-8e0c-2f1d7a4b6c98","queued_request_link":"https://app.hypersender.com/api/whatsapp/v2/queued-requests/0b9f6c1e"}"#;
    check("200", json(200, documented), QUEUED, 1).await;
    check("202", json(202, documented), QUEUED, 1).await;
    check("200 with data", json(200, r#"{"queued":true,"data":{"profilePictureURL":null}}"#), QUEUED, 1)
        .await;
}
