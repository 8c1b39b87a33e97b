//! [`Given`]: a value as it was given, with the names of its setting, and the parsers that make one.

use std::{ffi::OsStr, fmt, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::{Arg, Command, Error, builder::TypedValueParser, parser::ValueSource};
use humantime::format_duration;

use super::name::Name;

/// A value as it was given, or the reason why it cannot be read. clap does not see that error, so that all
/// faults are reported at once.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The setting.
    pub name: Name,
    /// The value, or its fault without the names.
    pub value: Result<T, String>,
}

/// The fault of a value that is not text.
pub const NOT_UTF8: &str = "not UTF-8 text";
/// The default of a setting that may be left out. It is never parsed.
pub const LEFT_OUT: &str = "";

impl<T> Given<Option<T>> {
    /// Whether the setting was given, by a value that may have a fault.
    pub fn is_given(&self) -> bool {
        !matches!(self.value, Ok(None))
    }
}

/// A parser for clap that never fails. This one type reads the flags and variables of all value types and
/// subcommands. White space around a value, such as the carriage return of a file with Windows line ends, is
/// not part of the value.
#[derive(Clone)]
pub struct Reader<F>(F);

impl<T, F> TypedValueParser for Reader<F>
where
    T: Clone + Send + Sync + 'static,
    F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
{
    type Value = Given<T>;

    fn parse_ref(&self, _: &Command, setting: Option<&Arg>, value: &OsStr) -> Result<Given<T>, Error> {
        Ok(Given { name: name(setting), value: text(value).and_then(&self.0) })
    }
}

/// A [`Reader`] for a setting that may be left out and whose default is therefore [`LEFT_OUT`].
#[derive(Clone)]
pub struct OptionalReader<F>(Reader<F>);

impl<T, F> TypedValueParser for OptionalReader<F>
where
    T: Clone + Send + Sync + 'static,
    F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
{
    type Value = Given<Option<T>>;

    fn parse_ref(
        &self,
        command: &Command,
        setting: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, Error> {
        let Given { name, value } = self.0.parse_ref(command, setting, value)?;
        Ok(Given { name, value: value.map(Some) })
    }

    fn parse_ref_(
        &self,
        command: &Command,
        setting: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Self::Value, Error> {
        if source == ValueSource::DefaultValue {
            return Ok(Given { name: name(setting), value: Ok(None) });
        }
        self.parse_ref(command, setting, value)
    }
}

/// A [`Reader`] that also learns where the value comes from: the command line, a variable or the default.
#[derive(Clone)]
pub struct SourcedReader<F>(F);

impl<T, F> TypedValueParser for SourcedReader<F>
where
    T: Clone + Send + Sync + 'static,
    F: Fn(&str, ValueSource) -> Result<T, String> + Clone + Send + Sync + 'static,
{
    type Value = Given<T>;

    fn parse_ref(&self, command: &Command, setting: Option<&Arg>, value: &OsStr) -> Result<Given<T>, Error> {
        self.parse_ref_(command, setting, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        _: &Command,
        setting: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Given<T>, Error> {
        Ok(Given { name: name(setting), value: text(value).and_then(|text| (self.0)(text, source)) })
    }
}

/// The text of a value without the white space around it.
fn text(value: &OsStr) -> Result<&str, String> {
    value.to_str().map(str::trim).ok_or_else(|| NOT_UTF8.to_owned())
}

fn name(setting: Option<&Arg>) -> Name {
    Name::of(setting.expect("clap leaves it out for external subcommands alone, and there are none"))
}

/// Makes the setting of `reader` optional.
pub fn optional<F>(reader: Reader<F>) -> OptionalReader<F> {
    OptionalReader(reader)
}

/// Parses with `read`, whose error becomes the fault of the value.
pub fn read_by<T, F: Fn(&str) -> Result<T, String>>(read: F) -> Reader<F> {
    Reader(read)
}

/// Parses with `read`, which also gets the source of the value.
pub fn read_from<T, F: Fn(&str, ValueSource) -> Result<T, String>>(read: F) -> SourcedReader<F> {
    SourcedReader(read)
}

/// Parses the path of a file.
pub fn path() -> Reader<impl Fn(&str) -> Result<PathBuf, String> + Clone> {
    read_by(|text: &str| match text {
        "" => Err("empty, where the path of a file should be".to_owned()),
        path => Ok(PathBuf::from(path)),
    })
}

/// Parses with `FromStr`. The fault of any other text ends with `allowed`.
pub fn one_of<T: FromStr>(allowed: &'static str) -> Reader<impl Fn(&str) -> Result<T, String> + Clone> {
    read_by(move |text: &str| {
        let value = text.parse();
        value.map_err(|_| format!("{text:?} is not {allowed}"))
    })
}

/// Parses a number within `range`.
pub fn number<T>(range: RangeInclusive<T>) -> Reader<impl Fn(&str) -> Result<T, String> + Clone>
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
pub fn duration(
    range: RangeInclusive<Duration>,
) -> Reader<impl Fn(&str) -> Result<Duration, String> + Clone> {
    read_by(move |text: &str| {
        let value = match text {
            "0" => Ok(Duration::ZERO),
            text => humantime::parse_duration(text),
        };
        let (low, high) = (shown(*range.start()), shown(*range.end()));
        match value {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(_) => Err(format!("{text:?} is not from {low} to {high}")),
            Err(_) => Err(format!("{text:?} is not a duration such as 500ms, 10m or 1h 30m")),
        }
    })
}

/// A bound as people write it. The library would split 365 days into months, days and hours.
fn shown(bound: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let days = bound.as_secs() / DAY;
    if days > 1 && bound == Duration::from_secs(days * DAY) {
        return format!("{days}days");
    }
    format_duration(bound).to_string()
}

/// Parses a number of bytes such as `1000000`, `64MB` or `96MiB` within `range`.
pub fn bytes(range: RangeInclusive<ByteSize>) -> Reader<impl Fn(&str) -> Result<ByteSize, String> + Clone> {
    read_by(move |text: &str| {
        let value = text.parse().ok().filter(|value| range.contains(value));
        let (low, high) = (range.start(), range.end());
        value.ok_or_else(|| format!("{text:?} is not a number of bytes such as 64MiB, from {low} to {high}"))
    })
}

/// Parses a switch such as `true`, `yes`, `on` or `1`.
pub fn switch() -> Reader<impl Fn(&str) -> Result<bool, String> + Clone> {
    read_by(|text: &str| match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    })
}
