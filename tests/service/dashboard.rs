//! The dashboard and the alerts: every metric in their expressions exists in a running service.

use std::{collections::BTreeSet, fs, iter::Peekable, str::Chars};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Authority, Files, Service};

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../deploy/alerts/hypersender-grpc.yaml");
/// The words of PromQL that a list of labels follows.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// The words of PromQL that may stand without a parenthesis after them: operators, and functions before `by`.
const WORDS: [&str; 10] = ["and", "or", "unless", "bool", "offset", "sum", "count", "avg", "min", "max"];

#[tokio::test]
async fn every_metric_of_the_dashboard_and_of_the_alerts_exists() {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap();
    let mut shown = BTreeSet::new();
    collect(&dashboard, &mut shown);
    assert!(shown.len() > 10, "the expressions are not where they were: {shown:?}");
    let expressions = expressions(ALERTS);
    assert_eq!(expressions.len(), ALERTS.matches("- alert: ").count());
    let watched: BTreeSet<_> = expressions.iter().flat_map(|expression| metrics(expression)).collect();
    assert!(watched.len() > 10, "the expressions are not where they were: {watched:?}");

    // The metrics of a store, of a certificate and of avatars exist only with them.
    let (authority, files) = (Authority::new(), Files::new());
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let directory = TempDir::new().unwrap();
    let store = format!("file:{}", directory.path().join("store").display());
    let flags =
        ["--store", &store, "--avatars-listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let samples = Service::start(&flags).await.metrics().await;
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let present: BTreeSet<_> = samples.lines().map(name).collect();
    for (place, used) in [("the dashboard", shown), ("an alert", watched)] {
        let missing: Vec<_> = used.difference(&present).collect();
        assert!(missing.is_empty(), "{place} uses metrics that the service does not have: {missing:?}");
    }
}

/// The expressions of a file of rules: the rest of a line after `expr:`, or after `expr: |` the deeper lines.
fn expressions(rules: &str) -> Vec<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = rules.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim_start().strip_prefix("expr: ") else { continue };
        let mut text = expression.trim_start_matches('|').to_owned();
        while let Some(more) = lines.next_if(|next| depth(next) > depth(line)) {
            text.push(' ');
            text.push_str(more.trim());
        }
        found.push(text);
    }
    found
}

/// The metrics in every expression of the panels and the queries of variables.
fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr" | "definition", Value::String(text)) => found.extend(metrics(text)),
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// The names of metrics in a PromQL expression, or in Grafana's `label_values(metric, label)`.
fn metrics(expression: &str) -> Vec<String> {
    if let Some(list) = expression.strip_prefix("label_values(") {
        return list.split(',').take(1).map(str::to_owned).collect();
    }
    let mut chars = expression.chars().peekable();
    let mut names = Vec::new();
    while let Some(first) = chars.next() {
        match first {
            '"' => skip_to('"', &mut chars),
            '{' => skip_to('}', &mut chars),
            '[' => skip_to(']', &mut chars),
            '0'..='9' | '$' => {
                word(first, &mut chars);
            }
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                let name = word(first, &mut chars);
                while chars.next_if_eq(&' ').is_some() {}
                let opens = chars.peek() == Some(&'(');
                match BEFORE_LABELS.contains(&name.as_str()) {
                    true if opens => skip_to(')', &mut chars),
                    false if !opens && !WORDS.contains(&name.as_str()) => names.push(name),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    names
}

fn word(first: char, chars: &mut Peekable<Chars>) -> String {
    let mut word = String::from(first);
    while let Some(next) = chars.next_if(|next| next.is_ascii_alphanumeric() || "_:.".contains(*next)) {
        word.push(next);
    }
    word
}

fn skip_to(end: char, chars: &mut Peekable<Chars>) {
    chars.find(|next| *next == end);
}

#[test]
fn metrics_are_told_from_everything_else_in_an_expression() {
    for (expression, expected) in [
        ("up", vec!["up"]),
        ("sum by (le, job) (rate(a_bucket{x=\"y\", z!=\"b\"}[5m])) / 2.5", vec!["a_bucket"]),
        ("a - on (job) group_left b offset 5m", vec!["a", "b"]),
        ("histogram_quantile(0.99, sum(rate(a{job=~\"$job\"}[$__rate_interval])))", vec!["a"]),
        ("sum(a) without (x) and b > bool 1", vec!["a", "b"]),
        ("label_values(a, job)", vec!["a"]),
    ] {
        assert_eq!(metrics(expression), expected, "{expression}");
    }
}

#[test]
fn expressions_of_rules_may_have_several_lines() {
    let rules = "  - alert: A\n    expr: a > 0\n    for: 1m\n  - alert: B\n    expr: |\n      b\n      > 1\n    for: 1m\n";
    assert_eq!(expressions(rules), ["a > 0", " b > 1"]);
}
