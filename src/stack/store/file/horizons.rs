//! [`Horizons`]: the horizons in memory. A change is cheap, and the thread of the file writes it soon after.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::super::{engine::INSTANCES_MAX, horizon::HorizonRecord, time::StoreTime};

/// The horizons by the tag of the instance, and which of them are not written yet.
#[derive(Debug, Default)]
pub struct Horizons(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    records: HashMap<String, HorizonRecord>,
    changed: HashSet<String>,
}

impl Horizons {
    /// The horizons that a file holds.
    pub fn new(records: Vec<(String, HorizonRecord)>) -> Self {
        Self(Mutex::new(Known { records: records.into_iter().collect(), changed: HashSet::new() }))
    }

    /// All horizons.
    pub fn all(&self) -> Vec<(String, HorizonRecord)> {
        self.0.lock().records.iter().map(|(tag, record)| (tag.clone(), *record)).collect()
    }

    /// Notes a horizon. Returns whether it is the first change since the last write.
    pub fn remember(&self, tag: &str, record: HorizonRecord) -> bool {
        let mut known = self.0.lock();
        if let Some(former) = known.records.get_mut(tag) {
            if *former == record {
                return false;
            }
            *former = record;
        } else if known.records.len() < INSTANCES_MAX {
            known.records.insert(tag.to_owned(), record);
        } else {
            return false;
        }
        let is_first = known.changed.is_empty();
        if !known.changed.contains(tag) {
            known.changed.insert(tag.to_owned());
        }
        is_first
    }

    /// The horizons to write. They count as written until [`Self::keep`].
    pub fn take_changed(&self) -> Vec<(String, HorizonRecord)> {
        let mut known = self.0.lock();
        let changed = std::mem::take(&mut known.changed);
        changed
            .into_iter()
            .filter_map(|tag| known.records.get(&tag).map(|record| (tag.clone(), *record)))
            .collect()
    }

    /// Notes that these were not written.
    pub fn keep(&self, tags: impl IntoIterator<Item = String>) {
        self.0.lock().changed.extend(tags);
    }

    /// Notes that none is written, in a new file.
    pub fn keep_all(&self) {
        let mut known = self.0.lock();
        known.changed = known.records.keys().cloned().collect();
    }

    /// Forgets the written horizons whose last turn and pause ended by `time`.
    pub fn expire(&self, time: StoreTime) {
        let Known { records, changed } = &mut *self.0.lock();
        records.retain(|tag, record| {
            let last = record.free_at.max(record.spare_at).max(record.paused_until);
            last > time || changed.contains(tag)
        });
    }
}
