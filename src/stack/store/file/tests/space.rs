//! What is removed, when, and what happens when there is no room.

use super::*;

/// Writes `count` answers of some 1 KiB, the first of which expire first.
async fn fill(file: &File, count: u64) {
    let text = "x".repeat(1000);
    let now = now(file).await;
    for contact in 0..count {
        let (names, value) = (names(contact), value(now, &text));
        let ttl = HOUR + Duration::from_secs(contact);
        let written = file.write(Write { ttl, ..answer(&names, &value) }).await;
        assert_eq!(written.unwrap().1, Written::Stored);
    }
}

/// The contacts below `count` with an answer.
async fn present(file: &File, count: u64) -> Vec<u64> {
    let mut present = Vec::new();
    for contact in 0..count {
        if stored(file, contact).await.is_some() {
            present.push(contact);
        }
    }
    present
}

async fn number(file: &File, pragma: &'static str) -> i64 {
    file.run(How::Read, move |session| database::number(session.db, pragma)).await.unwrap()
}

/// Tidies up until there is nothing more to do, as the thread does step by step.
async fn tidy_up(file: &File, bytes: u64) {
    for step in 0.. {
        assert!(step < 1000, "there is always more to do");
        if !file.run(How::Commit, move |session| tidy::tidy(session, bytes)).await.unwrap() {
            return;
        }
    }
}

#[tokio::test]
async fn answers_that_expire_soonest_make_room_and_the_file_shrinks() {
    let (_folder, path) = folder();
    let file = open(&path);
    fill(&file, 4000).await;
    file.probe().await.unwrap();
    let before = number(&file, "page_count").await;
    assert!(before > 1000, "{before} pages");
    tidy_up(&file, 1 << 20).await;
    let left = present(&file, 4000).await;
    assert!(left.len() > 400 && left.len() < 1000, "{} answers", left.len());
    assert!(left.iter().copied().eq(4000 - u64::try_from(left.len()).unwrap()..4000), "{left:?}");
    assert_eq!(number(&file, "auto_vacuum").await, 2);
    // 1 MiB in use, and 1 MiB spare.
    let after = number(&file, "page_count").await;
    assert!(after <= 512, "{after} pages");
    file.close().await;
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length <= 2 << 20, "{length} bytes");
}

#[tokio::test]
async fn the_thread_keeps_the_bound_by_itself() {
    let (_folder, path) = folder();
    let file = File::open(&path, 1 << 20).unwrap();
    fill(&file, 3000).await;
    let used = async || number(&file, "page_count").await - number(&file, "freelist_count").await;
    for _ in 0..300 {
        if used().await <= 256 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(used().await <= 256);
    assert!(stored(&file, 2999).await.is_some() && stored(&file, 0).await.is_none());
}

#[tokio::test]
async fn what_has_expired_is_absent_at_once_and_removed_later() {
    let (_folder, path) = folder();
    let file = open(&path);
    store(&file, 1, "one").await;
    let (two, value) = (names(2), value(now(&file).await, "two"));
    let ttl = Duration::from_millis(1);
    assert_eq!(file.write(Write { ttl, ..answer(&two, &value) }).await.unwrap().1, Written::Stored);
    file.fail(&names(3), Reach::Key, &value, ttl, LEASE).await.unwrap();
    let old = StoreTime::from_millis(1);
    file.remember("{a:1}", HorizonRecord { free_at: old, spare_at: old, paused_until: old });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(present(&file, 5).await, [1]);
    file.probe().await.unwrap();
    let rows = async || {
        let count = "SELECT (SELECT count(*) FROM answers) + (SELECT count(*) FROM failures) \
                     + (SELECT count(*) FROM horizons)";
        let count = move |session: &mut Session<'_>| {
            Ok(session.db.query_row(count, [], |row| row.get::<_, i64>(0))?)
        };
        file.run(How::Read, count).await.unwrap()
    };
    assert_eq!(rows().await, 4);
    tidy_up(&file, ROOM).await;
    assert_eq!(rows().await, 1);
    assert_eq!(present(&file, 5).await, [1]);
}

#[tokio::test]
async fn the_record_of_a_scope_lives_40_days() {
    let (_folder, path) = folder();
    let file = open(&path);
    store(&file, 1, "one").await;
    let expires =
        file.run(How::Read, |session| Ok(rows::scope(session.db, "s:1")?.unwrap().expires)).await.unwrap();
    let days = expires.since(now(&file).await).as_secs_f64() / 86_400.0;
    assert!((39.9..=40.0).contains(&days), "{days} days");
}

#[tokio::test]
async fn a_full_disk_fails_operations_until_there_is_room() {
    let (_folder, path) = folder();
    let file = open(&path);
    fill(&file, 300).await;
    file.probe().await.unwrap();
    let limit = |pages: i64| {
        move |session: &mut Session<'_>| {
            let set = format!("PRAGMA max_page_count = {pages}");
            Ok(session.db.query_row(&set, [], |row| row.get::<_, i64>(0))?)
        }
    };
    let pages = number(&file, "page_count").await;
    assert_eq!(file.run(How::Read, limit(pages)).await.unwrap(), pages);
    let text = "y".repeat(20_000);
    let mut failures = 0;
    for contact in 1000..1100 {
        let (names, value) = (names(contact), value(now(&file).await, &text));
        let is_stored = match file.write(answer(&names, &value)).await {
            Ok((_, written)) => written == Written::Stored,
            Err(failed) => {
                assert!(failed.cause.contains("disk is full"), "{}", failed.cause);
                failures += 1;
                false
            }
        };
        assert_eq!(stored(&file, contact).await.is_some(), is_stored);
    }
    // Each failure made room for some of the next writes.
    assert!((1..50).contains(&failures), "{failures} failures");
    file.run(How::Read, limit(1 << 20)).await.unwrap();
    for contact in 2000..2100 {
        store(&file, contact, &text).await;
    }
    file.close().await;
    let file = open(&path);
    assert!(stored(&file, 2099).await.is_some());
    assert_eq!(moved_aside(&path), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_log_that_grew_is_cut_back() {
    let (_folder, path) = folder();
    let file = open(&path);
    let length = || std::fs::metadata(path.with_file_name("store.db-wal")).unwrap().len();
    // One transaction that is larger than what is kept of the log.
    let grow = "CREATE TABLE large (b); \
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) \
                INSERT INTO large SELECT zeroblob(1000000) FROM n; DROP TABLE large";
    file.run(How::Commit, move |session| Ok(session.db.execute_batch(grow)?)).await.unwrap();
    assert!(length() > 16 << 20, "{} bytes", length());
    for contact in 0..10 {
        store(&file, contact, "x").await;
        file.probe().await.unwrap();
    }
    assert!(length() <= 16 << 20, "{} bytes", length());
}
