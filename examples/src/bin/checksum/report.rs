//! What a run prints: the sums, in the format of `sha256sum`, and a summary.

use std::{
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::task::Sum;

/// What came of a run.
pub(crate) struct Report {
    began: Instant,
    store: PathBuf,
    sums: Vec<(String, String)>,
    /// Paths that have no sum, and why.
    pub(crate) failures: Vec<(String, String)>,
    done_before: usize,
    bytes_read: u64,
}

impl Report {
    pub(crate) fn begin(store: &Path) -> Self {
        Self {
            began: Instant::now(),
            store: store.to_owned(),
            sums: Vec::new(),
            failures: Vec::new(),
            done_before: 0,
            bytes_read: 0,
        }
    }

    pub(crate) fn add(&mut self, path: String, sum: Sum) {
        self.bytes_read += sum.bytes;
        self.sums.push((path, sum.sha256));
    }

    /// Adds a sum that an earlier run has recorded.
    pub(crate) fn add_earlier(&mut self, path: String, sum: Sum) {
        self.done_before += 1;
        self.sums.push((path, sum.sha256));
    }

    pub(crate) const fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Sums go to stdout by path, everything else to stderr.
    pub(crate) fn print(&mut self) -> io::Result<()> {
        self.sums.sort_unstable();
        self.failures.sort_unstable();
        let mut out = BufWriter::new(io::stdout().lock());
        for (path, sum) in &self.sums {
            writeln!(out, "{}", line(path, sum))?;
        }
        out.flush()?;
        for (path, reason) in &self.failures {
            eprintln!("{path}: {reason}");
        }
        let (found, failed) = (self.sums.len() + self.failures.len(), self.failures.len());
        let (before, now) = (self.done_before, self.sums.len() - self.done_before);
        eprintln!("{found} files: {now} summed now, {before} before, {failed} failed");
        let (bytes, seconds) = (HumanBytes(self.bytes_read), self.began.elapsed().as_secs_f64());
        eprintln!("read {bytes} in {seconds:.2} s; recorded in {}", self.store.display());
        Ok(())
    }
}

/// A progress bar on stderr, if that is a terminal.
pub(crate) fn bar(files: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} files, {eta} left")?;
    Ok(ProgressBar::new(u64::try_from(files)?).with_style(style))
}

/// One line as `sha256sum` writes it, and reads it again with `--check`.
fn line(path: &str, sum: &str) -> String {
    if path.contains(['\\', '\n', '\r']) {
        let path = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        format!("\\{sum}  {path}")
    } else {
        format!("{sum}  {path}")
    }
}
