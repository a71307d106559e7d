//! The walk: finds the files of a directory, on a thread that may block.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use walkdir::{DirEntry, WalkDir};

use crate::task::{Checksum, Version};

/// Files that are enqueued together: one commit.
const BATCH_LEN: usize = 1_000;

/// Batches that may wait to be enqueued; the walk pauses when there are more.
const BATCHES_MAX: usize = 4;

/// What a stretch of the walk has found.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) files: Vec<Checksum>,
    /// What cannot be a task, and why.
    pub(crate) unreadable: Vec<(String, String)>,
}

/// Walks a directory, leaving out one file: the store, which changes all the while.
pub(crate) fn start(directory: PathBuf, store: PathBuf) -> mpsc::Receiver<Batch> {
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    tokio::task::spawn_blocking(move || walk(&directory, &store, &sender));
    receiver
}

fn walk(directory: &Path, store: &Path, sender: &mpsc::Sender<Batch>) {
    let mut batch = Batch::default();
    for entry in WalkDir::new(directory).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() && entry.path() != store => batch.add(&entry),
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(directory).display().to_string();
                batch.unreadable.push((path, error.to_string()));
            }
        }
        if batch.files.len() + batch.unreadable.len() >= BATCH_LEN {
            let full = std::mem::take(&mut batch);
            if sender.blocking_send(full).is_err() {
                return;
            }
        }
    }
    // Nobody listens any more only when the program ends early.
    drop(sender.blocking_send(batch));
}

impl Batch {
    fn add(&mut self, entry: &DirEntry) {
        let failure = match (entry.path().to_str(), entry.metadata()) {
            (Some(path), Ok(metadata)) => {
                let version = Version::of(&metadata);
                self.files.push(Checksum { path: path.to_owned(), version });
                return;
            }
            (None, _) => "its name is not UTF-8".to_owned(),
            (_, Err(error)) => error.to_string(),
        };
        self.unreadable.push((entry.path().display().to_string(), failure));
    }
}
