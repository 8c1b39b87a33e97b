//! [`Contacts`]: the contact list, read from a CSV file.

use std::{
    collections::HashSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use csv::{ByteRecord, ReaderBuilder, Trim};

use crate::domain::ChatId;

/// Maximum number of different contacts in a list.
const CONTACTS_MAX: usize = 1_000_000;
/// The characters that spreadsheets put between cells.
const DELIMITERS: [u8; 3] = *b",;\t";
/// A row of its own after the last one. When a quote is left open, it is not read as a row.
const END: &[u8] = b"\n\x01end of the list";
/// Maximum number of lines of one row. A row with more has a quote that was left open and closed by another.
const ROW_LINES_MAX: u64 = 100;
/// Maximum number of lines that an error names.
const LINES_NAMED_MAX: usize = 5;

/// A contact of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The canonical form.
    pub chat_id: String,
    /// The text in the list.
    pub written: String,
}

/// The contacts of a list, each once, in the order of the list.
#[derive(Debug, Default)]
pub struct Contacts {
    /// The contacts.
    pub all: Vec<Contact>,
    /// The lines whose text is no chat id.
    pub invalid_lines: Vec<u64>,
}

impl Contacts {
    /// The path of the list without links, so that one list has one state and one lock.
    ///
    /// # Errors
    ///
    /// The reason why there can be no state beside it, for the user.
    pub fn locate(path: &Path) -> Result<PathBuf, String> {
        let fault = |fault: String| format!("{}: {fault}", path.display());
        let file = fs::metadata(path).map_err(|error| fault(error.to_string()))?;
        if !file.is_file() {
            return Err(fault("not a regular file; a sync keeps its state beside the list".to_owned()));
        }
        fs::canonicalize(path).map_err(|error| fault(error.to_string()))
    }

    /// Reads the column `column` of the list at `path`. Rows without a chat id are skipped.
    ///
    /// # Errors
    ///
    /// The reason why the list cannot be used, for the user. It holds no text of the rows, because they are
    /// personal data.
    pub fn read(path: &Path, column: &str) -> Result<Self, String> {
        let fault = |fault: String| format!("{}: {fault}", path.display());
        let bytes = fs::read(path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&bytes, column).map_err(fault)
    }

    fn parse(bytes: &[u8], column: &str) -> Result<Self, String> {
        if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
            return Err("the file is UTF-16; save it as UTF-8".to_owned());
        }
        let (delimiter, column) = place(bytes, column)?;
        let mut reader = reader(delimiter).from_reader(bytes.chain(END));
        let mut seen = HashSet::new();
        let mut contacts = Self::default();
        let mut row = ByteRecord::new();
        let mut line = 1;
        while reader.read_byte_record(&mut row).map_err(|error| unreadable(&error))? {
            line = row.position().map_or(line, csv::Position::line);
            if row.len() == 1 && row.get(0) == Some(END.trim_ascii_start()) {
                return Ok(contacts);
            }
            if reader.position().line() > line + ROW_LINES_MAX {
                break;
            }
            let cell = row.get(column).unwrap_or_default();
            if cell.is_empty() {
                continue;
            }
            let text = str::from_utf8(cell).ok();
            let parsed = text.and_then(|text| Some((ChatId::parse(text).ok()?, text)));
            let Some((chat_id, written)) = parsed else {
                contacts.invalid_lines.push(line);
                continue;
            };
            if !seen.contains(chat_id.as_str()) {
                seen.insert(chat_id.as_str().to_owned());
                contacts
                    .all
                    .push(Contact { chat_id: chat_id.as_str().to_owned(), written: written.to_owned() });
            }
            if contacts.all.len() > CONTACTS_MAX {
                return Err(format!("more than {CONTACTS_MAX} contacts; split the list"));
            }
        }
        Err(format!("a quote in the row that begins in line {line} is not closed; later rows would be lost"))
    }

    /// The text about lines that hold no chat id; `None` without such lines.
    pub fn invalid(&self) -> Option<String> {
        let lines = &self.invalid_lines;
        let named: Vec<_> = lines.iter().take(LINES_NAMED_MAX).map(ToString::to_string).collect();
        let more = lines.len().saturating_sub(LINES_NAMED_MAX);
        let (named, more) =
            (named.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() });
        (!lines.is_empty()).then(|| format!("no chat id in line {named}{more}"))
    }
}

fn reader(delimiter: u8) -> ReaderBuilder {
    let mut reader = ReaderBuilder::new();
    // A row may be shorter or longer than the header. Only its cell in one column matters.
    reader.delimiter(delimiter).trim(Trim::All).flexible(true);
    reader
}

/// The delimiter of the list, and the place of the column.
fn place(bytes: &[u8], column: &str) -> Result<(u8, usize), String> {
    let mut columns = 0;
    for delimiter in DELIMITERS {
        let mut reader = reader(delimiter).from_reader(bytes);
        let header = reader.byte_headers().map_err(|error| unreadable(&error))?;
        let is_wanted = |cell: &[u8]| cell.eq_ignore_ascii_case(column.trim().as_bytes());
        let mut places =
            header.iter().enumerate().filter(|(_, cell)| is_wanted(cell)).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => return Ok((delimiter, place)),
            (Some(_), Some(_)) => return Err(format!("two columns are called {column:?}")),
            (None, _) => columns = columns.max(header.len()),
        }
    }
    // The names are not repeated: without a header, they would be the first contact.
    Err(format!(
        "none of the {columns} columns in the first line is called {column:?}; name the column of the chat ids by --chat-id-column"
    ))
}

/// The text of an error of the library, whose own text may hold a row.
fn unreadable(error: &csv::Error) -> String {
    let line = error.position().map(|position| format!(" in line {}", position.line()));
    format!("the file cannot be read as CSV{}", line.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Contacts, String> {
        Contacts::parse(text.as_bytes(), "chat_id")
    }

    #[test]
    fn a_list_is_read_as_spreadsheets_write_it() {
        for text in [
            "chat_id\n15551230001\n15551230002@c.us\n",
            "\u{FEFF}chat_id\r\n15551230001\r\n15551230002@C.US\r\n",
            "name,chat_id,note\nA,15551230001,x\nB,15551230002@s.whatsapp.net,y\n",
            "name;Chat_ID;note\nA;15551230001;x\nB;15551230002@c.us;y",
            "name\tchat_id\nA\t15551230001\nB\t15551230002@c.us\n",
            "\u{FEFF}\"chat_id\";\"name\"\r\n\"15551230001\";\"A\"\r\n15551230002@c.us;B\r\n",
            "\"name\",\"chat_id\"\n\"A, \"\"B\"\"\nC\",\" +15551230001 \"\nB,\"15551230002@c.us\"\n",
            " chat_id , name\n15551230001\n\n,no number\n15551230002@c.us,x,y,z\n+15551230001,twice\n",
        ] {
            let contacts = parse(text).unwrap();
            let ids: Vec<_> = contacts.all.iter().map(|contact| contact.chat_id.as_str()).collect();
            assert_eq!(ids, ["15551230001", "15551230002@c.us"], "{text:?}");
            assert_eq!(contacts.invalid(), None, "{text:?}");
        }
        let written = parse("chat_id\n+15551230001\n15551230001\n").unwrap();
        let one = Contact { chat_id: "15551230001".to_owned(), written: "+15551230001".to_owned() };
        assert_eq!(written.all, [one]);
        assert!(parse("chat_id\n").unwrap().all.is_empty());
    }

    #[test]
    fn lines_without_a_chat_id_are_named_but_not_repeated() {
        let text = "chat_id,x\n15551230001,\nsomebody,\n\"a\nb\",\n15551230002,\n123,\n1.5551E+10,\n(555) 123,\n1@g.us,\n";
        let contacts = parse(text).unwrap();
        assert_eq!(contacts.all.len(), 2);
        assert_eq!(contacts.invalid().unwrap(), "no chat id in line 3, 4, 7, 8, 9 and 1 more");
        let latin = Contacts::parse(b"chat_id,x\n15551230001,M\xFCller\n\xFC,\n", "chat_id").unwrap();
        assert_eq!((latin.all.len(), latin.invalid_lines), (1, vec![3]));
    }

    #[test]
    fn a_quote_that_is_left_open_is_an_error_that_names_its_row() {
        let rows = "15551230003,x\n".repeat(1_000);
        for text in [
            "chat_id,name\n15551230001,A\n15551230002,\"B".to_owned(),
            format!("chat_id,name\n15551230001,A\n15551230002,\"B\n{rows}"),
            // Another quote closes it, and every row between them is lost.
            format!("chat_id,name\n15551230001,A\n15551230002,\"B\n{rows}15551230004,\"C\"\n"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains("begins in line 3") && !error.contains("1555"), "{error}");
        }
        let note = "a line\n".repeat(90);
        let contacts = parse(&format!("chat_id,note\n15551230001,\"{note}\"\n15551230002,\n")).unwrap();
        assert_eq!(contacts.all.len(), 2, "a note may have many lines");
    }

    #[test]
    fn a_list_that_cannot_be_used_is_an_error_that_says_what_to_do() {
        for (text, words) in [
            ("", "none of the 0 columns"),
            ("15551230001\n15551230002\n", "none of the 1 columns"),
            ("name,phone\n", "--chat-id-column"),
            ("chat_id,Chat_Id\n", "two columns"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("1555"), "{error}");
        }
        let error = Contacts::parse(b"\xFF\xFEc\0", "chat_id").unwrap_err();
        assert!(error.contains("UTF-16"), "{error}");
        let missing = Contacts::read(Path::new("/nowhere/contacts.csv"), "chat_id").unwrap_err();
        assert!(missing.starts_with("/nowhere/contacts.csv: "), "{missing}");
    }
}
