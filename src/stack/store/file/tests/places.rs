//! Paths that a store cannot use, and files of others.

use rusqlite::Connection;

use super::*;

/// The fault of a path, which names the setting.
fn refused(path: &Path) -> String {
    let unusable = File::open(path, ROOM).unwrap_err();
    assert_eq!(unusable.setting, Setting::Place);
    assert!(unusable.fault.contains(&path.display().to_string()), "{}", unusable.fault);
    unusable.fault
}

fn check(path: &Path, fault: &str) {
    let found = refused(path);
    assert!(found.ends_with(fault), "{found}");
}

#[test]
fn a_path_that_cannot_be_a_file_is_refused() {
    let (folder, path) = folder();
    check(folder.path(), "it is a folder");
    check(&folder.path().join("none/store.db"), "its folder does not exist");
    check(Path::new("/dev/null"), "it is not a regular file");
    check(Path::new("/"), "it is a folder");
    check(Path::new(""), "it is not the path of a file");
    std::os::unix::fs::symlink(folder.path().join("none"), &path).unwrap();
    check(&path, "it is a link to a file that does not exist");
    std::fs::write(folder.path().join("a-file"), "").unwrap();
    let found = refused(&folder.path().join("a-file/store.db"));
    assert!(found.contains("cannot be read"), "{found}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    // Not even root can create a file there.
    let found = refused(Path::new("/proc/sys/store.db"));
    assert!(found.contains("its folder cannot be written"), "{found}");
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_one_closes() {
    let (_folder, path) = folder();
    let first = open(&path);
    let value = store(&first, 1, "one").await;
    check(&path, "another process uses it");
    let link = path.with_file_name("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    check(&link, "another process uses it");
    first.close().await;
    assert_eq!(stored(&open(&link), 1).await, Some(value));
}

#[tokio::test]
async fn a_file_that_another_process_only_locks_is_refused() {
    let (_folder, path) = folder();
    // The lock of another one of our kind, before it has made its database.
    let beside = std::fs::File::create(path.with_file_name("store.db.lock")).unwrap();
    beside.lock().unwrap();
    check(&path, "another process uses it");
    drop(beside);
    store(&open(&path), 1, "one").await;
    // A tool that reads or writes the database.
    let (_folder, path) = folder();
    open(&path).close().await;
    for lock in ["BEGIN; SELECT * FROM probe", "BEGIN EXCLUSIVE"] {
        let tool = Connection::open(&path).unwrap();
        for statement in lock.split("; ") {
            let mut statement = tool.prepare(statement).unwrap();
            let mut rows = statement.query([]).unwrap();
            let _ = rows.next().unwrap();
        }
        check(&path, "another process uses it");
        drop(tool);
        open(&path).close().await;
    }
    assert_eq!(moved_aside(&path), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_tool_cannot_read_an_open_store() {
    let (_folder, path) = folder();
    let file = open(&path);
    store(&file, 1, "one").await;
    let tool = Connection::open(&path).unwrap();
    tool.busy_timeout(Duration::ZERO).unwrap();
    assert!(tool.query_row("SELECT count(*) FROM answers", [], |_| Ok(())).is_err());
}

#[tokio::test]
async fn the_database_of_another_application_is_left_alone() {
    let tables = "CREATE TABLE answers (name TEXT); INSERT INTO answers VALUES ('theirs');";
    for foreign in [
        "PRAGMA application_id = 1; PRAGMA user_version = 1;",
        "PRAGMA user_version = 3;",
        tables,
        "PRAGMA journal_mode = WAL; CREATE TABLE a (b); INSERT INTO a VALUES (zeroblob(10000));",
    ] {
        let (_folder, path) = folder();
        Connection::open(&path).unwrap().execute_batch(foreign).unwrap();
        let before = std::fs::read(&path).unwrap();
        check(&path, "it is the database of another application");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{foreign}");
        assert_eq!(moved_aside(&path), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn another_version_of_the_format_is_refused() {
    let (_folder, path) = folder();
    open(&path).close().await;
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    check(&path, "it has version 2 of the format, not version 1");
}

#[tokio::test]
async fn an_empty_file_is_begun_in_place() {
    let (_folder, path) = folder();
    std::fs::write(&path, "").unwrap();
    let file = open(&path);
    let value = store(&file, 1, "one").await;
    assert_eq!(stored(&file, 1).await, Some(value));
    assert_eq!(moved_aside(&path), Vec::<PathBuf>::new());
    // So is a database without tables, which has its first page already.
    let (_folder, path) = folder();
    Connection::open(&path).unwrap().execute_batch("VACUUM").unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE a (b); DROP TABLE a; VACUUM").unwrap();
    let file = open(&path);
    store(&file, 1, "one").await;
    file.close().await;
    let mode: i64 =
        Connection::open(&path).unwrap().query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, 2);
}
