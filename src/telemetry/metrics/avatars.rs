//! [`Avatars`]: the metrics of the avatars. A process that serves none does not export them.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::counters;

/// The outcome of a request, as the header `Avatar-Status` says it; `Refused` has no such header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvatarOutcome {
    /// The picture, or a redirect to it.
    Present,
    /// The contact has no picture.
    Absent,
    /// A picture from before.
    Stale,
    /// The picture is not available.
    Unavailable,
    /// The request was not valid or not allowed, or the server is at its limit.
    Refused,
}

/// The outcome of a download and its decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// There is an image.
    Image,
    /// The CDN answered 403, 404 or 410.
    LinkRefused,
    /// The link leads to a host that is not allowed, or that has no public address.
    NotAllowed,
    /// The host cannot be reached, is slow, breaks off, or answers with another status.
    Failed,
    /// The file is too large, of another type, or cannot be decoded.
    NotAnImage,
}

impl AvatarOutcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Present, "present"),
        (Self::Absent, "absent"),
        (Self::Stale, "stale"),
        (Self::Unavailable, "unavailable"),
        (Self::Refused, "refused"),
    ];

    /// The outcome as the header `Avatar-Status` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl DownloadOutcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Image, "image"),
        (Self::LinkRefused, "link_refused"),
        (Self::NotAllowed, "not_allowed"),
        (Self::Failed, "failed"),
        (Self::NotAnImage, "not_an_image"),
    ];
}

/// The statuses of responses, and the outcomes that each of them may have.
const STATUSES: [(u16, &str, &[AvatarOutcome]); 11] = {
    use AvatarOutcome::{Absent, Present, Refused, Stale, Unavailable};
    [
        (200, "200", &[Present, Absent, Stale, Unavailable]),
        (302, "302", &[Present, Stale]),
        (304, "304", &[Present, Absent, Stale, Unavailable]),
        (400, "400", &[Refused]),
        (401, "401", &[Refused]),
        (403, "403", &[Refused]),
        (404, "404", &[Absent, Unavailable, Refused]),
        (405, "405", &[Refused]),
        (410, "410", &[Refused]),
        (429, "429", &[Unavailable]),
        (503, "503", &[Unavailable, Refused]),
    ]
};

/// The metrics of the avatars. Those of [`Avatars::default`] are not exported.
#[derive(Debug)]
pub struct Avatars {
    requests: Vec<(u16, AvatarOutcome, Counter)>,
    downloads: [Counter; DownloadOutcome::ALL.len()],
    resizes: Counter,
    renewals: Counter,
    renewals_paused: Gauge,
    bytes: Gauge,
}

impl Default for Avatars {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl Avatars {
    /// Registers them, from zero.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let requests = Family::<[(&'static str, &'static str); 2], Counter>::default();
        registry.register(
            "hypersender_avatar_requests",
            "Requests for images of contacts by HTTP status and outcome; refused: the request was not valid or not \
             allowed, or the server is at its limit",
            requests.clone(),
        );
        let counter = |label, outcome: AvatarOutcome| {
            requests.get_or_create_owned(&[("status", label), ("outcome", outcome.name())])
        };
        let of_status = |(status, label, outcomes): (u16, _, &'static [AvatarOutcome])| {
            outcomes.iter().map(move |&outcome| (status, outcome, counter(label, outcome)))
        };
        let requests = STATUSES.into_iter().flat_map(of_status).collect();
        let downloads = (
            "hypersender_avatar_downloads",
            "Downloads of images from WhatsApp's CDN by outcome; link_refused: 403, 404 or 410",
        );
        let downloads =
            counters(registry, downloads, "outcome", DownloadOutcome::ALL.map(|(_, outcome)| outcome));
        let (resizes, renewals) = (Counter::default(), Counter::default());
        registry.register(
            "hypersender_avatar_resizes",
            "Images that were decoded and encoded in a size",
            resizes.clone(),
        );
        registry.register(
            "hypersender_avatar_link_renewals",
            "Look-ups that were made because the CDN refused a link",
            renewals.clone(),
        );
        let (renewals_paused, bytes) = (Gauge::default(), Gauge::default());
        registry.register(
            "hypersender_avatar_link_renewals_paused",
            "1 while no link is renewed, because the CDN refuses new links too; otherwise 0",
            renewals_paused.clone(),
        );
        registry.register(
            "hypersender_avatar_image_bytes",
            "Bytes of images of contacts in memory",
            bytes.clone(),
        );
        Self { requests, downloads, resizes, renewals, renewals_paused, bytes }
    }

    /// Counts a response. A status that no response of this service has with the outcome is not counted.
    pub fn answered(&self, status: u16, outcome: AvatarOutcome) {
        let found = self.requests.iter().find(|(known, of, _)| (*known, *of) == (status, outcome));
        if let Some((_, _, counter)) = found {
            counter.inc();
        }
    }

    /// Counts a download.
    pub fn downloaded(&self, outcome: DownloadOutcome) {
        self.downloads[outcome as usize].inc();
    }

    /// Counts an image that was decoded and encoded.
    pub fn resized(&self) {
        self.resizes.inc();
    }

    /// Counts a look-up that was made because the CDN refused the link.
    pub fn renewed(&self) {
        self.renewals.inc();
    }

    /// Notes whether no link is renewed, because the CDN refuses new links too.
    pub fn renewals_paused(&self, paused: bool) {
        self.renewals_paused.set(paused.into());
    }

    /// Notes the number of bytes of images in memory.
    pub fn bytes(&self, bytes: u64) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, MetricsForm};

    #[test]
    fn each_outcome_has_its_own_counter() {
        for (index, (outcome, _)) in AvatarOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, (outcome, _)) in DownloadOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn only_a_process_with_avatars_exports_their_metrics() {
        let mut metrics = Metrics::new(&[]);
        assert!(!metrics.text(MetricsForm::Prometheus).contains("_avatar_"));
        let avatars = metrics.with_avatars();
        avatars.answered(304, AvatarOutcome::Stale);
        avatars.answered(200, AvatarOutcome::Refused);
        avatars.downloaded(DownloadOutcome::LinkRefused);
        avatars.resized();
        avatars.renewed();
        avatars.renewals_paused(true);
        avatars.bytes(1_700);
        let text = metrics.text(MetricsForm::Prometheus);
        for line in [
            "hypersender_avatar_requests_total{status=\"304\",outcome=\"stale\"} 1",
            "hypersender_avatar_requests_total{status=\"503\",outcome=\"refused\"} 0",
            "hypersender_avatar_downloads_total{outcome=\"link_refused\"} 1",
            "hypersender_avatar_downloads_total{outcome=\"image\"} 0",
            "hypersender_avatar_resizes_total 1",
            "hypersender_avatar_link_renewals_total 1",
            "hypersender_avatar_link_renewals_paused 1",
            "hypersender_avatar_image_bytes 1700",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let series = text.lines().filter(|line| line.starts_with("hypersender_avatar_requests_total{"));
        assert_eq!(series.count(), 21, "only what a response can have");
    }
}
