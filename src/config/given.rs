//! [`Given`]: a value as it was given, and the parsers that make one.

use std::{convert::Infallible, ffi::OsString, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use bytesize::ByteSize;
use humantime::format_duration;

use super::Variables;

/// A value that was read, or why it could not be. Whoever parses the command line sees a success either way, so that all
/// faults are told at once.
#[derive(Clone, Debug)]
pub struct Given<T>(pub Result<T, String>);

type Parsed<T> = Result<Given<T>, Infallible>;

/// Parses with `read`, whose error says what is allowed.
pub fn read_by<T>(read: impl Fn(&str) -> Result<T, String> + Clone) -> impl Fn(&str) -> Parsed<T> + Clone {
    move |text| Ok(Given(read(text.trim())))
}

/// Parses with `FromStr`; `allowed` is what a person is told otherwise.
pub fn one_of<T: FromStr>(allowed: &'static str) -> impl Fn(&str) -> Parsed<T> + Clone {
    read_by(move |text: &str| {
        let value = text.parse();
        value.map_err(|_| format!("{text:?} is not {allowed}"))
    })
}

/// Parses a number within `range`.
pub fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T> + Clone
where
    T: FromStr + PartialOrd + fmt::Display + Clone,
{
    read_by(move |text: &str| {
        let value = text.parse().ok().filter(|value| range.contains(value));
        let (low, high) = (range.start(), range.end());
        value.ok_or_else(|| format!("{text:?} is not a number from {low} to {high}"))
    })
}

/// Parses a duration such as `500ms`, `10m` or `1h 30m` within `range`.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Parsed<Duration> + Clone {
    read_by(move |text: &str| {
        let value = match text {
            "0" => Ok(Duration::ZERO),
            text => humantime::parse_duration(text),
        };
        let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
        match value {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(_) => Err(format!("{text:?} is not from {low} to {high}")),
            Err(_) => Err(format!("{text:?} is not a duration such as 500ms, 10m or 1h 30m")),
        }
    })
}

/// Parses a number of bytes such as `1000000`, `64MB` or `96MiB` within `range`.
pub fn bytes(range: RangeInclusive<ByteSize>) -> impl Fn(&str) -> Parsed<ByteSize> + Clone {
    read_by(move |text: &str| {
        let value = text.parse().ok().filter(|value| range.contains(value));
        let (low, high) = (range.start(), range.end());
        value.ok_or_else(|| format!("{text:?} is not a number of bytes such as 64MiB, from {low} to {high}"))
    })
}

/// Parses a switch.
pub fn switch() -> impl Fn(&str) -> Parsed<bool> + Clone {
    read_by(|text: &str| match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    })
}

/// A variable that is set and not empty.
pub fn variable<'a>(variables: &'a Variables, wanted: &str) -> Option<&'a OsString> {
    let set = variables.iter().find(|(name, value)| name == wanted && !value.is_empty());
    set.map(|(_, value)| value)
}
