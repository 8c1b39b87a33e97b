//! [`Samples`]: the metrics of a service at one moment.

use super::{Service, patiently};

/// The text of `/metrics`.
pub struct Samples(pub String);

impl Samples {
    /// The lines that are samples.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter(|line| !line.starts_with('#'))
    }

    /// The value of the sample `name`, spelt with its labels like in the text.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        let value = self.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().unwrap()
    }
}

impl Service {
    /// The status and the body of the admin port's response at `path`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin.expect("the service has an admin port"));
        let response = patiently("the admin port", reqwest::get(url)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The metrics of this moment.
    pub async fn metrics(&self) -> Samples {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Samples(text)
    }

    /// The metrics as soon as `name` has `value`. A call is counted shortly after its caller has the answer.
    pub async fn counted(&self, name: &str, value: f64) -> Samples {
        patiently(name, async {
            loop {
                let samples = self.metrics().await;
                #[expect(clippy::float_cmp, reason = "counts are whole")]
                if samples.value(name) == value {
                    break samples;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// The name and the labels of a sample that counts calls. Only metrics with a label for the code have a
/// `code`.
pub fn calls(metric: &str, kind: &str, service: &str, method: &str, code: Option<&str>) -> String {
    let code = code.map_or_else(String::new, |code| format!(",grpc_code=\"{code}\""));
    format!("{metric}{{grpc_type=\"{kind}\",grpc_service=\"{service}\",grpc_method=\"{method}\"{code}}}")
}
