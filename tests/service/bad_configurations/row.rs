//! [`Row`]: one configuration of the list.

use std::fmt::Write;

/// A configuration and the error text for it.
#[derive(Debug, Default)]
pub struct Row {
    pub title: String,
    pub flags: Vec<(String, Option<String>)>,
    pub variables: Vec<(String, String)>,
    pub files: Vec<(String, String)>,
    /// The lines between the title and the text. They are written unchanged.
    given: String,
    pub told: String,
}

/// Reads the text before the first row, and the rows.
pub fn read(list: &str) -> (String, Vec<Row>) {
    let mut parts = list.split("\n# ");
    let head = parts.next().unwrap().to_owned();
    (head, parts.map(row).collect())
}

fn row(text: &str) -> Row {
    let (title, lines) = text.split_once('\n').expect("a row has more than a title");
    let mut row = Row { title: title.to_owned(), ..Row::default() };
    for line in lines.lines().filter(|line| !line.is_empty()) {
        if let Some(told) = line.strip_prefix("> ") {
            row.told.push_str(told);
            row.told.push('\n');
            continue;
        }
        writeln!(row.given, "{line}").unwrap();
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix('|') {
            let (_, file) = row.files.last_mut().expect("text stands below the name of its file");
            file.push_str(text.strip_prefix(' ').unwrap_or(text));
            file.push('\n');
        } else if let Some(name) = line.strip_prefix("file ") {
            row.files.push((name.to_owned(), String::new()));
        } else if line.starts_with("--") {
            let (flag, value) =
                line.split_once(' ').map_or((line, None), |(flag, value)| (flag, Some(value)));
            row.flags.push((flag.to_owned(), value.map(str::to_owned)));
        } else {
            let (name, value) = line.split_once('=').expect("a variable has a value");
            row.variables.push((name.to_owned(), value.to_owned()));
        }
    }
    row.told = row.told.trim_end().to_owned();
    row
}

/// Writes the list with the current texts.
pub fn write(head: &str, rows: &[Row]) -> String {
    let mut list = head.to_owned();
    for row in rows {
        let told = row.told.lines().fold(String::new(), |told, line| told + "> " + line + "\n");
        write!(list, "\n# {}\n{}{told}", row.title, row.given).unwrap();
    }
    list
}
