//! [`Tables`]: the tables `[<section>.<name>]` of a TOML file.
//!
//! serde reads each table on its own, so that a fault in one hides none of another. A fault names its line
//! and its table, and repeats no value.

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue, Error, ValueDeserializer},
};

/// A kind of tables, such as `[callers.<name>]`.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The only key at the top of the file, such as `callers`.
    pub section: &'static str,
    /// The head of such a table, as a person writes it.
    pub head: &'static str,
    /// The words for the table of a given name in the text of a fault. A name that is not valid may be a
    /// secret, and must not be repeated.
    pub called: fn(&str) -> String,
}

/// A table that serde could read.
#[derive(Debug)]
pub struct Table<T> {
    /// Its name, as it stands in the file.
    pub name: String,
    /// Where its name begins in the file, in bytes.
    pub at: usize,
    /// Its fields.
    pub fields: T,
}

/// The tables of a file that serde could read, in the order of the file, and the faults of all others.
#[derive(Debug)]
pub struct Tables<'t, T> {
    /// The tables that serde could read.
    pub tables: Vec<Table<T>>,
    /// The faults found so far.
    pub faults: LineFaults<'t>,
}

/// Faults of a file, each with its line.
#[derive(Debug)]
pub struct LineFaults<'t> {
    text: &'t str,
    all: Vec<(usize, String)>,
}

impl<'t, T: Deserialize<'t>> Tables<'t, T> {
    /// Reads the tables of the text of a file.
    pub fn read(text: &'t str, kind: Kind) -> Self {
        let mut found = Self { tables: Vec::new(), faults: LineFaults { text, all: Vec::new() } };
        match DeTable::parse(text) {
            Ok(document) => found.read_document(document.into_inner(), kind),
            Err(error) => found.faults.note(error.span().unwrap_or_default().start, explain(&error)),
        }
        found.tables.sort_by_key(|table| table.at);
        found
    }

    fn read_document(&mut self, document: DeTable<'t>, kind: Kind) {
        let Kind { section, head, .. } = kind;
        for (key, value) in document {
            let at = key.span().start;
            match value.into_inner() {
                _ if key.get_ref() != section => {
                    let unknown = field(key.get_ref());
                    self.faults.note(at, format!("unknown {unknown}; only {head} is allowed here"));
                }
                DeValue::Table(tables) => {
                    tables.into_iter().for_each(|(name, value)| self.read_table(&name, value, kind));
                }
                _ => self.faults.note(at, format!("{section} is not a table; write {head}")),
            }
        }
    }

    fn read_table(&mut self, name: &Spanned<DeString<'t>>, value: Spanned<DeValue<'t>>, kind: Kind) {
        let at = name.span().start;
        let name = name.get_ref().to_string();
        let called = (kind.called)(&name);
        if !value.get_ref().is_table() {
            self.faults.note(at, format!("{called}: is not a table; write {}", kind.head));
            return;
        }
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(fields) => self.tables.push(Table { name, at, fields }),
            Err(error) => {
                let at = error.span().map_or(at, |span| span.start);
                self.faults.note(at, format!("{called}: {}", explain(&error)));
            }
        }
    }
}

impl LineFaults<'_> {
    /// Notes a fault of the table or field that begins at the byte `at` of the file.
    pub fn note(&mut self, at: usize, fault: String) {
        self.all.push((at, fault));
    }

    /// The faults in the order of the file, each with its line; `None` without any.
    pub fn into_texts(mut self) -> Option<Vec<String>> {
        self.all.sort_by_key(|(at, _)| *at);
        let line = |at| 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let texts = self.all.iter().map(|(at, fault)| format!("line {}: {fault}", line(*at)));
        (!self.all.is_empty()).then(|| texts.collect())
    }
}

/// The fault in an error of toml or serde. Their own text repeats the line or the value, which may hold a
/// token.
fn explain(error: &Error) -> String {
    let message = error.message();
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "));
    if let Some((unknown, allowed)) = unknown {
        let allowed = allowed.trim_start_matches("one of ").replace('`', "");
        return format!("unknown {}; allowed: {allowed}", field(unknown));
    }
    let without_value =
        |text: &str| text.split(['\n', '"', '`']).next().unwrap_or_default().trim_end().to_owned();
    match message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => format!("invalid type: {}, expected {expected}", without_value(found)),
        None => without_value(message).trim_end_matches(", expected").to_owned(),
    }
}

/// The field in the text of a fault: by its name only if that looks like one, because any other text may be a
/// token.
fn field(name: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_plain = (1..=16).contains(&name.len()) && name.bytes().all(fits);
    if is_plain { format!("field {name}") } else { "field".to_owned() }
}
