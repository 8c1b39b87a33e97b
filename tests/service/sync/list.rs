//! [`List`]: a contact list, a sandbox, and a service between them.

use std::{collections::BTreeMap, fs, time::Duration};

use hypersender_grpc::sandbox::Sandbox;
use serde_json::Value;

use crate::support::{Ended, Files, Launch, Service, patiently};

/// A list of made-up numbers in a folder of its own.
pub struct List {
    pub files: Files,
    pub sandbox: Sandbox,
    service: Service,
    contacts: usize,
}

impl List {
    pub async fn start(contacts: usize, flags: &[&str]) -> Self {
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let service = Launch::serve()
            .variable("HYPERSENDER_WHATSAPP_API_KEY", Sandbox::TOKEN)
            .variable("HYPERSENDER_WHATSAPP_INSTANCE_ID", Sandbox::INSTANCE)
            .variable("HYPERSENDER_WHATSAPP_BASE_URL", sandbox.base_url())
            .flags(flags)
            .start()
            .await;
        let list = Self { files: Files::new(), sandbox, service, contacts };
        let rows = list.numbers().into_iter().map(|number| format!("A,{number}\n"));
        list.files.write("contacts.csv", &format!("name,chat_id\n{}", rows.collect::<String>()));
        list
    }

    pub fn numbers(&self) -> Vec<String> {
        (0..self.contacts).map(|number| format!("155512{number:05}")).collect()
    }

    /// The command for one sync.
    pub fn launch(&self, flags: &[&str]) -> Launch {
        self.launch_to(&self.files.path("changes.ndjson"), flags)
    }

    /// The command for one sync with another file for the changes.
    pub fn launch_to(&self, changes: &str, flags: &[&str]) -> Launch {
        let address = self.service.address().to_string();
        Launch::of(&["sync", &self.files.path("contacts.csv"), "--out", changes])
            .flags(flags)
            .variable("HYPERSENDER_GRPC_LISTEN", address)
    }

    pub async fn sync(&self, flags: &[&str]) -> Ended {
        self.launch(flags).run().await
    }

    /// The flags that save the pictures of the sandbox.
    pub fn with_pictures(&self) -> Vec<String> {
        let origin = format!("http://{}", self.sandbox.address());
        ["--pictures", &self.files.path("pictures"), "--picture-hosts", &origin].map(str::to_owned).into()
    }

    /// The changes so far, without an unfinished line.
    pub fn changes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.files.path("changes.ndjson")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// The state, which is whole or does not exist.
    pub fn state(&self) -> Option<Value> {
        let text = fs::read_to_string(self.files.path("contacts.csv.state")).ok()?;
        Some(serde_json::from_str(&text).expect("the state is never damaged"))
    }

    /// The saved pictures by name, without those that were not finished.
    pub fn pictures(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.files.path("pictures")).unwrap().map(Result::unwrap);
        let files =
            files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()));
        files.filter(|(name, _)| !name.starts_with('.')).collect()
    }

    /// Gives so many contacts a new picture, and returns them in order.
    pub async fn change_pictures(&self, count: usize) -> Vec<String> {
        let url = format!("http://{}/_sandbox/changes", self.sandbox.address());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(url).body(format!("{{\"count\":{count}}}")).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        serde_json::from_value(answer["changed"].clone()).unwrap()
    }

    /// Sets the answer of the sandbox.
    pub async fn script(&self, script: &'static str) {
        let url = format!("http://{}/_sandbox/script", self.sandbox.address());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(client.post(url).body(script).send().await.unwrap().status(), 204);
    }

    /// The number of requests for each contact that reached the sandbox.
    pub async fn asked(&self) -> BTreeMap<String, u64> {
        let url = format!("http://{}/_sandbox/calls", self.sandbox.address());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        serde_json::from_value(answer["by_chat_id"].clone()).unwrap()
    }

    /// Waits until the state is written for the first time.
    pub async fn until_state(&self) {
        let written = async {
            while self.state().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        patiently("the state", written).await;
    }

    /// Waits until so many requests have reached the sandbox, or all that can.
    pub async fn until_calls(&self, count: u64) {
        let count = count.min(u64::try_from(self.contacts).unwrap());
        let reached = async {
            while self.sandbox.calls() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        patiently("requests to the sandbox", reached).await;
    }
}
