//! The alerts of `deploy/alerts`: each has a severity, says what to do, leads to a page that exists, is in
//! the documentation, and fires in a test of promtool.

use std::{fs, path::Path};

use crate::{documents::headings, text::texts};

const ALERTS: &str = include_str!("../../deploy/alerts/hypersender-grpc.yaml");
const OPERATING: &str = include_str!("../../docs/operating.md");
/// The keys of an alert, with spaces as deep as they stand in the file.
const KEYS: [&str; 7] = [
    "\n    for: ",
    "\n    labels:\n      severity: ",
    "\n    annotations:",
    "\n      summary: ",
    "\n      description: ",
    "\n      action: ",
    "\n      runbook: ",
];

/// The name and the text of each alert.
fn alerts(file: &str) -> Vec<(&str, &str)> {
    file.split("\n  - alert: ").skip(1).filter_map(|alert| Some((alert.lines().next()?, alert))).collect()
}

/// The value of a key that stands on one line.
fn value<'a>(alert: &'a str, key: &str) -> Option<&'a str> {
    alert.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "))
}

/// Whether the document has the heading that a link such as `docs/errors.md#reasons` names.
fn leads_somewhere(link: &str) -> bool {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    document.is_ok_and(|document| headings(&document).contains(heading))
}

#[test]
fn every_alert_says_what_to_do_and_is_tested() {
    let tests: Vec<_> =
        texts(&["yaml"]).into_iter().filter(|text| text.path.starts_with("deploy/alerts/tests")).collect();
    let alerts = alerts(ALERTS);
    assert!(alerts.len() > 9, "the alerts are not where they were: {alerts:?}");
    for (name, alert) in alerts {
        for key in KEYS {
            assert!(alert.contains(key), "{name} lacks {key:?}");
        }
        let severity = value(alert, "severity").unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name} is {severity}");
        let runbook = value(alert, "runbook").unwrap();
        assert!(leads_somewhere(runbook), "{name} leads to {runbook}, which does not exist");
        assert!(OPERATING.contains(&format!("| `{name}` |")), "docs/operating.md has no row for {name}");
        let fires = format!("{{labels: '{{alertname=\"{name}\"");
        let is_tested = |text: &str| {
            text.contains(&fires) || text.contains(&format!("alertname: {name}\n    exp_alerts:\n"))
        };
        assert!(tests.iter().any(|file| is_tested(&file.text)), "no test sees {name} fire");
    }
}

#[test]
fn alerts_and_their_keys_are_found() {
    let file = "groups:\n  rules:\n  - alert: One\n    for: 5m\n\n  # Two.\n  - alert: Two\n    for: 1m\n";
    let found = alerts(file);
    assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["One", "Two"]);
    assert_eq!(value(found[1].1, "for"), Some("1m"));
    assert_eq!(value(found[1].1, "runbook"), None);
    assert!(leads_somewhere("docs/errors.md#reasons"));
    assert!(!leads_somewhere("docs/errors.md#no-such-heading") && !leads_somewhere("docs/none.md#reasons"));
}
