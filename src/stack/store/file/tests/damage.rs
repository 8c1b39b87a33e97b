//! Files that are cut short or overwritten. The store always opens and works, and never returns a value that
//! was not written.

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write as _},
    sync::Arc,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

/// Answers in a file before it is damaged; some 60 pages.
const ANSWERS: u64 = 240;
/// Those of them that are in the log alone.
const IN_LOG: u64 = 60;
const ROUNDS: u64 = 200;

/// The answers, of which none may ever be returned differently.
type Known = Arc<Vec<Vec<u8>>>;

/// A closed file with answers, some of them in the log alone, and the answers.
async fn template(path: &Path) -> Known {
    let source = path.with_file_name("source.db");
    let file = open(&source);
    let mut known = Vec::new();
    for contact in 0..ANSWERS {
        known.push(store(&file, contact, &text(contact)).await);
        if contact == ANSWERS - IN_LOG {
            file.close().await;
            return Box::pin(rest(source, path, known)).await;
        }
    }
    unreachable!("there are more answers than in the log")
}

async fn rest(source: PathBuf, path: &Path, mut known: Vec<Vec<u8>>) -> Known {
    let file = open(&source);
    for contact in u64::try_from(known.len()).unwrap()..ANSWERS {
        known.push(store(&file, contact, &text(contact)).await);
    }
    let time = now(&file).await;
    file.remember("{a:1}", HorizonRecord { free_at: time, spare_at: time, paused_until: time });
    file.probe().await.unwrap();
    fs::copy(&source, path).unwrap();
    fs::copy(log(&source), log(path)).unwrap();
    Arc::new(known)
}

fn text(contact: u64) -> String {
    format!("{contact:0>20}").repeat(40)
}

fn log(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", path.display()))
}

/// Cuts a file short or overwrites some of it.
fn damage(path: &Path, random: &mut StdRng) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    if length == 0 {
        return;
    }
    // Often near the beginning, where the header and the schema are.
    let range = if random.random_bool(0.3) { length.min(200) } else { length };
    let at = random.random_range(0..range);
    match random.random_range(0..4) {
        0 => file.set_len(at).unwrap(),
        kind => {
            let bytes = match kind {
                1 => 1,
                2 => random.random_range(1..100),
                _ => random.random_range(1000..20_000),
            };
            let noise: Vec<u8> = (0..bytes).map(|_| random.random()).collect();
            file.seek(SeekFrom::Start(at)).unwrap();
            let noise = &noise[..noise.len().min(usize::try_from(length - at).unwrap())];
            file.write_all(noise).unwrap();
        }
    }
}

/// Reads everything, and returns how many answers are still there.
async fn read_all(file: &File, known: &Known) -> usize {
    let mut found = 0;
    for (contact, expected) in (0..).zip(known.iter()) {
        if let Some(value) = stored(file, contact).await {
            assert!(value == *expected, "the answer of contact {contact} was never written");
            found += 1;
        }
    }
    found
}

/// Reads and writes everything, now and after another start.
async fn check_works(path: &Path, file: File, known: &Known) -> usize {
    let found = read_all(&file, known).await;
    for (contact, value) in (0..).zip(known.iter()).skip(known.len() / 2) {
        let written = file.write(answer(&names(contact), value)).await.unwrap().1;
        // The record of the scope may be one that was made anew.
        assert_eq!(written, Written::Stored);
        assert!(stored(&file, contact).await.as_ref() == Some(value));
    }
    let before = moved_aside(path).len();
    file.probe().await.unwrap();
    file.close().await;
    let file = open(path);
    let after = read_all(&file, known).await;
    // Some damage is found only by a commit, or by the next start.
    let is_replaced = moved_aside(path).len() > before;
    assert!(is_replaced || after >= known.len() / 2, "{after} answers");
    let value = store(&file, 1, "one").await;
    assert!(stored(&file, 1).await == Some(value));
    file.close().await;
    found
}

/// Files that were damaged, and answers that were still found in others.
#[derive(Debug, Default)]
struct Seen {
    moved: usize,
    found: usize,
    lost: usize,
}

async fn check_rounds(is_running: bool) {
    let (folder, source) = folder();
    let known = template(&source).await;
    let mut seen = Seen::default();
    for round in 0..ROUNDS {
        let random = &mut StdRng::seed_from_u64(round);
        let path = folder.path().join(format!("{round}.db"));
        fs::copy(&source, &path).unwrap();
        fs::copy(log(&source), log(&path)).unwrap();
        let victim = if random.random_bool(0.3) { log(&path) } else { path.clone() };
        let found = if is_running {
            let file = open(&path);
            for contact in 0..20 {
                assert_eq!(
                    stored(&file, contact).await.as_ref(),
                    known.get(usize::try_from(contact).unwrap())
                );
            }
            // Otherwise all pages are in memory.
            let no_cache = "PRAGMA cache_size = 0; PRAGMA shrink_memory";
            file.run(How::Read, move |session| Ok(session.db.execute_batch(no_cache)?)).await.unwrap();
            damage(&victim, random);
            check_works(&path, file, &known).await
        } else {
            damage(&victim, random);
            check_works(&path, open(&path), &known).await
        };
        let moved = moved_aside_of(&path);
        seen.moved += usize::from(moved);
        seen.found += found;
        seen.lost += known.len() - found;
        for file in folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if file.file_name().unwrap().to_string_lossy().starts_with(&format!("{round}.db")) {
                fs::remove_file(file).unwrap();
            }
        }
    }
    println!("of {ROUNDS} files: {seen:?}");
    // Otherwise the damage was none.
    assert!(seen.moved > 20 && seen.found > 1000 && seen.lost > 1000, "{seen:?}");
}

fn moved_aside_of(path: &Path) -> bool {
    let begin = format!("{}.damaged-", path.display());
    moved_aside(path).iter().any(|file| file.to_string_lossy().starts_with(&begin))
}

#[tokio::test]
async fn a_file_damaged_at_random_is_used_or_replaced() {
    check_rounds(false).await;
}

#[tokio::test]
async fn a_file_damaged_at_random_while_running_is_used_or_replaced() {
    check_rounds(true).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_moved_aside_with_its_companions() {
    let (_folder, path) = folder();
    fs::write(&path, "no database, and longer than a header would be ".repeat(40)).unwrap();
    fs::write(log(&path), "a log").unwrap();
    let file = open(&path);
    let value = store(&file, 1, "one").await;
    assert_eq!(stored(&file, 1).await, Some(value));
    let moved = moved_aside(&path);
    assert_eq!(moved.len(), 1);
    assert!(fs::read(&moved[0]).unwrap().starts_with(b"no database"));
    assert_eq!(fs::read(log(&moved[0])).unwrap(), b"a log");
}

#[tokio::test]
async fn a_log_left_behind_by_another_file_is_not_replayed() {
    let (_folder, path) = folder();
    let known = template(&path).await;
    // The operator deletes the file, but not its log.
    fs::remove_file(&path).unwrap();
    let file = open(&path);
    assert_eq!(read_all(&file, &known).await, 0);
    check_works(&path, file, &known).await;
}

#[tokio::test]
async fn damaged_files_do_not_pile_up() {
    let (_folder, path) = folder();
    for _ in 0..6 {
        fs::write(&path, "no database".repeat(400)).unwrap();
        fs::write(log(&path), "a log").unwrap();
        open(&path).close().await;
    }
    assert_eq!(moved_aside(&path).len(), 3);
    let files = path.parent().unwrap().read_dir().unwrap().count();
    // Three with their logs, the present file, and its lock.
    assert_eq!(files, 8);
}

#[tokio::test]
async fn a_replaced_file_keeps_the_horizons() {
    let (_folder, path) = folder();
    let file = open(&path);
    let time = now(&file).await;
    let horizon = HorizonRecord { free_at: time, spare_at: time, paused_until: time };
    file.remember("{a:1}", horizon);
    store(&file, 1, "one").await;
    file.probe().await.unwrap();
    file.run(How::Commit, |session| Ok(session.db.execute_batch("UPDATE answers SET value = x'0102'")?))
        .await
        .unwrap();
    assert_eq!(stored(&file, 1).await, None);
    assert_eq!(moved_aside(&path).len(), 1);
    file.close().await;
    assert_eq!(open(&path).horizons(), [("{a:1}".to_owned(), horizon)]);
}

/// Changes rows of the answers behind the back of their indexes.
fn change_without_indexes(path: &Path, change: &str) {
    let schema = |sql: &str| {
        let tool = rusqlite::Connection::open(path).unwrap();
        tool.execute_batch(&format!("PRAGMA writable_schema = ON; {sql}")).unwrap();
    };
    let tool = rusqlite::Connection::open(path).unwrap();
    let mut select = tool
        .prepare(
            "SELECT 'INSERT INTO sqlite_schema VALUES (' || quote(type) || ', ' || quote(name) || ', ' \
             || quote(tbl_name) || ', ' || rootpage || ', ' || quote(sql) || ');' \
             FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'answers'",
        )
        .unwrap();
    let indexes: String =
        select.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect();
    drop(select);
    drop(tool);
    schema(
        "DELETE FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'answers'; \
         UPDATE sqlite_schema SET sql = replace(sql, ' UNIQUE', '') WHERE name = 'answers'",
    );
    rusqlite::Connection::open(path).unwrap().execute_batch(change).unwrap();
    schema(&format!(
        "{indexes} UPDATE sqlite_schema SET sql = replace(sql, 'name TEXT NOT NULL', 'name TEXT NOT NULL UNIQUE') \
         WHERE name = 'answers'"
    ));
    let tool = rusqlite::Connection::open(path).unwrap();
    let found: String = tool.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_ne!(found, "ok");
}

#[tokio::test]
async fn an_index_that_differs_from_its_table_is_damage() {
    // The check at the start counts the entries of an index. It does not compare them with the table.
    let double = "INSERT INTO answers SELECT name || '-', value, expires + 1, sum FROM answers";
    for change in ["DELETE FROM answers WHERE rowid % 2", "UPDATE answers SET rowid = rowid + 1000", double] {
        let (_folder, path) = folder();
        let file = open(&path);
        for contact in 0..50 {
            store(&file, contact, "one").await;
        }
        file.close().await;
        change_without_indexes(&path, change);
        let file = open(&path);
        for contact in 0..50 {
            let value = store(&file, contact, "two").await;
            assert_eq!(stored(&file, contact).await, Some(value), "{change}");
        }
        for _ in 0..3 {
            file.run(How::Commit, |session| tidy::tidy(session, 0)).await.unwrap();
        }
        file.close().await;
        let file = open(&path);
        let value = store(&file, 1, "three").await;
        assert_eq!(stored(&file, 1).await, Some(value));
        assert_eq!(moved_aside(&path).len(), 1, "{change}");
    }
}

#[tokio::test]
async fn a_file_that_is_deleted_while_running_is_begun_by_the_next_start() {
    let (_folder, path) = folder();
    let file = open(&path);
    let value = store(&file, 1, "one").await;
    fs::remove_file(&path).unwrap();
    fs::remove_file(log(&path)).unwrap();
    assert_eq!(stored(&file, 1).await, Some(value));
    store(&file, 2, "two").await;
    file.close().await;
    let file = open(&path);
    assert_eq!(stored(&file, 1).await, None);
    store(&file, 1, "one").await;
}
