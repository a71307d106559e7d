//! Finds out which process holds a file.

use std::{fs, path::Path};

use crate::error::Holder;

/// Who holds a lock on the file, as far as the system tells.
pub(crate) fn holder(path: &Path) -> Holder {
    let process = inode(path).and_then(|inode| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| process_of(line, inode))
    });
    match process {
        Some(id) if id == std::process::id() => Holder::ThisProcess,
        Some(id) => {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            Holder::Process { id, name: name.trim().to_owned() }
        }
        None => Holder::Unknown,
    }
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(fs::metadata(path).ok()?.ino())
}

/// Other systems keep no table of locks to look at.
#[cfg(not(unix))]
fn inode(_path: &Path) -> Option<u64> {
    None
}

/// Reads a line such as `1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF`.
fn process_of(line: &str, inode: u64) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let at = fields.iter().position(|field| *field == "WRITE" || *field == "READ")?;
    let (process, file) = (fields.get(at + 1)?, fields.get(at + 2)?);
    let is_same = file.rsplit(':').next()?.parse() == Ok(inode);
    if is_same { process.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_lock_table_are_understood() {
        let line = "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF";
        assert_eq!(process_of(line, 131), Some(4711));
        assert_eq!(process_of(line, 132), None);
        assert_eq!(process_of("", 131), None);
        let line = "12: -> OFDLCK  ADVISORY  WRITE -1 08:01:131 0 EOF";
        assert_eq!(process_of(line, 131), None);
    }
}
