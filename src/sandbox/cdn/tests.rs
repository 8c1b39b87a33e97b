use super::super::Sandbox;
use super::super::tests::{client, look_up, start};

async fn link(sandbox: &Sandbox, chat_id: &str) -> String {
    let (_, body) = look_up(sandbox, chat_id).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    body["data"]["profilePictureURL"].as_str().unwrap().to_owned()
}

async fn get(url: &str) -> (u16, Vec<u8>) {
    let answer = client().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn script(sandbox: &Sandbox, body: &str) -> (u16, String) {
    let url = format!("http://{}/_sandbox/cdn", sandbox.address());
    let answer = client().post(url).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn order(sandbox: &Sandbox, body: &str) {
    assert_eq!(script(sandbox, body).await, (204, String::new()), "{body}");
}

/// The status, the type and the body of a download with `fault`, which is the rest of a script.
async fn faulty(fault: &str) -> (u16, String, Vec<u8>) {
    let sandbox = start().await;
    let link = link(&sandbox, "1").await;
    order(&sandbox, &format!(r#"{{"fault":{fault}}}"#)).await;
    let answer = client().get(link).send().await.unwrap();
    let content_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    (status, content_type.unwrap_or_default(), answer.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn a_link_leads_to_an_image_until_it_expires() {
    let sandbox = start().await;
    let [first, again, other] = [
        link(&sandbox, "4917012345678").await,
        link(&sandbox, "4917012345678").await,
        link(&sandbox, "5").await,
    ];
    let (status, image) = get(&first).await;
    assert_eq!((status, &image[..3]), (200, &b"\xFF\xD8\xFF"[..]));
    assert!(get(&again).await == (200, image.clone()), "the same contact has the same image");
    assert!(get(&other).await.1 != image, "another contact has another image");
    let expired = link(&sandbox, "15551230002").await.replace("&oe=", "&oe=0&x=");
    assert_eq!(get(&expired).await, (403, b"URL signature expired".to_vec()));
    assert_eq!(get(first.split('?').next().unwrap()).await.0, 403);
    assert_eq!(get(&first.replace("_n.jpg", "_n.png")).await.0, 404);
}

#[tokio::test]
async fn each_fault_has_its_answer() {
    for (fault, status, content_type, body) in [
        (r#""expired""#, 403, "text/plain; charset=utf-8", &b"URL signature expired"[..]),
        (r#""not_found""#, 404, "", b""),
        (r#""gone""#, 410, "", b""),
        (r#""unavailable""#, 503, "", b""),
        (r#""redirect""#, 302, "", b""),
        (r#""html""#, 200, "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        (r#""svg""#, 200, "image/svg+xml", b"<svg "),
        (r#""gif""#, 200, "image/gif", b"GIF89a"),
        (r#""text""#, 200, "image/jpeg", b"<!DOCTYPE html>"),
        (r#""bomb""#, 200, "image/jpeg", b"\xFF\xD8\xFF"),
        (r#""large""#, 200, "image/jpeg", b"\xFF\xD8\xFF"),
    ] {
        let (got, got_type, got_body) = faulty(fault).await;
        assert_eq!((got, got_type.as_str()), (status, content_type), "{fault}");
        assert!(got_body.starts_with(body), "{fault}: {got_body:?}");
        assert_eq!(got_body.len() == 2 * 1024 * 1024, fault == r#""large""#, "{fault}");
    }
}

#[tokio::test]
async fn a_bomb_is_small_and_claims_to_be_enormous() {
    let (.., bytes) = faulty(r#""bomb""#).await;
    assert!(bytes.len() < 256 * 1024, "{}", bytes.len());
    let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().unwrap();
    assert_eq!(reader.into_dimensions().unwrap(), (60_000, 60_000));
}

#[tokio::test]
async fn a_redirect_leads_to_a_private_address() {
    for (location, target) in
        [("", "http://169.254.169.254/"), (r#","location":"http://127.0.0.1:9/x""#, "http://127.0.0.1:9/x")]
    {
        let sandbox = start().await;
        let link = link(&sandbox, "1").await;
        order(&sandbox, &format!(r#"{{"fault":"redirect"{location}}}"#)).await;
        let answer = client().get(link).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (302, &target.parse().unwrap())
        );
    }
}

#[tokio::test]
async fn a_download_that_is_cut_short_announces_more_than_it_sends() {
    let sandbox = start().await;
    let link = link(&sandbox, "1").await;
    order(&sandbox, r#"{"fault":"cut","times":1}"#).await;
    let mut answer = client().get(&link).send().await.unwrap();
    let announced = answer.content_length().unwrap();
    let mut sent = 0;
    let ended = loop {
        match answer.chunk().await {
            Ok(Some(part)) => sent += part.len() as u64,
            ended => break ended,
        }
    };
    assert!(ended.is_err());
    assert_eq!(sent, announced / 2);
    assert_eq!(get(&link).await.1.len() as u64, announced);
}

#[tokio::test]
async fn a_download_can_hang_start_late_and_drip() {
    let sandbox = start().await;
    let link = link(&sandbox, "1").await;
    let whole = get(&link).await;
    order(&sandbox, r#"{"fault":"hang","times":1}"#).await;
    order(&sandbox, r#"{"delay_ms":1100,"drip_ms":60,"times":1}"#).await;
    let impatient = client().get(&link).timeout(std::time::Duration::from_millis(300)).send().await;
    assert!(impatient.unwrap_err().is_timeout());
    let start = tokio::time::Instant::now();
    assert!(get(&link).await == whole);
    assert!(start.elapsed() > std::time::Duration::from_secs(2));
}

#[tokio::test]
async fn scripts_concern_a_contact_or_a_file_and_are_used_up() {
    let sandbox = start().await;
    let [one, two] = [link(&sandbox, "1").await, link(&sandbox, "2").await];
    let file = two.rsplit('/').next().unwrap().split('?').next().unwrap();
    order(&sandbox, r#"{"chat_id":"1@c.us","times":2,"fault":"expired"}"#).await;
    order(&sandbox, &format!(r#"{{"file":"{file}","fault":"gone"}}"#)).await;
    assert_eq!((get(&one).await.0, get(&one).await.0, get(&one).await.0), (403, 403, 200));
    assert_eq!((get(&two).await.0, get(&two).await.0), (410, 410));
    let url = format!("http://{}/_sandbox/cdn", sandbox.address());
    assert_eq!(client().delete(url).send().await.unwrap().status(), 204);
    assert_eq!(get(&two).await.0, 200);
}

#[tokio::test]
async fn a_script_for_a_contact_follows_its_new_picture() {
    let sandbox = start().await;
    let before = link(&sandbox, "1").await;
    let url = format!("http://{}/_sandbox/changes", sandbox.address());
    client().post(url).body(r#"{"chat_ids":["1"]}"#).send().await.unwrap();
    let after = link(&sandbox, "1").await;
    assert_ne!(before.split('?').next(), after.split('?').next());
    order(&sandbox, r#"{"chat_id":"1","fault":"not_found"}"#).await;
    assert_eq!((get(&before).await.0, get(&after).await.0), (404, 404));
}

#[tokio::test]
async fn downloads_are_counted_by_contact_refused_ones_included() {
    let sandbox = start().await;
    let one = link(&sandbox, "1").await;
    get(&one).await;
    get(one.split('?').next().unwrap()).await;
    get(&format!("http://{}/v/t61.24694-24/1_1_1_n.jpg", sandbox.address())).await;
    let counts = get(&format!("http://{}/_sandbox/calls", sandbox.address())).await.1;
    let counts: serde_json::Value = serde_json::from_slice(&counts).unwrap();
    assert_eq!(counts["images"], 3);
    assert_eq!(counts["images_by_contact"], serde_json::json!({ "1": 2 }));
}

#[tokio::test]
async fn scripts_that_cannot_be_understood_are_refused_by_name() {
    let sandbox = start().await;
    for (body, named) in [
        (r#"{"state":503}"#, "`state`"),
        (r#"{"fault":"broken"}"#, "`broken`"),
        (r#"{"fault":"cut","times":0}"#, "nonzero"),
        (r#"{"times":1}"#, "fault, delay_ms or drip_ms"),
        (r#"{"fault":"cut","location":"http://127.0.0.1/"}"#, "location"),
        (r#"{"fault":"redirect","location":"a\nb"}"#, "location"),
        (r#"{"fault":"cut","drip_ms":1}"#, "drip_ms"),
        ("", "EOF"),
    ] {
        let (status, text) = script(&sandbox, body).await;
        assert_eq!(status, 400, "{body}");
        assert!(text.contains(named), "{body}: {text}");
    }
    let (client, url) = (client(), format!("http://{}/_sandbox/cdn", sandbox.address()));
    for number in 0..=super::SCRIPTS_MAX {
        let answer = client.post(&url).body(r#"{"fault":"cut"}"#).send().await.unwrap();
        assert_eq!(answer.status() == 204, number < super::SCRIPTS_MAX, "{number}");
    }
}
