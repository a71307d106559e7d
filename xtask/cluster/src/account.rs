//! Who the servers run as.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::error::ClusterError;

/// The users to become instead of root, in the order of preference.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A user that is not us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// Who the servers run as: we ourselves, or somebody else because we are root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Us.
    own: u32,
    other: Option<Account>,
}

impl Identity {
    /// Finds out who we are by looking at who owns a file that we made.
    pub(crate) fn of_owner(own_file: &Path) -> Result<Self, ClusterError> {
        let own = fs::metadata(own_file)
            .map_err(ClusterError::io(format!("look at {}", own_file.display())))?
            .uid();
        if own != 0 {
            return Ok(Self { own, other: None });
        }
        let accounts = fs::read_to_string("/etc/passwd")
            .map_err(ClusterError::io("read the accounts in /etc/passwd"))?;
        let other = NAMES.iter().find_map(|name| find(&accounts, name));
        Ok(Self { own, other: Some(other.ok_or(ClusterError::NoAccount)?) })
    }

    pub(crate) const fn own_uid(&self) -> u32 {
        self.own
    }

    /// Lets a command run as this user.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Some(Account { uid, gid }) = self.other {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives one file or directory to this user.
    pub(crate) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        let Some(Account { uid, gid }) = self.other else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid))
            .map_err(ClusterError::io(format!("give away {}", path.display())))
    }
}

/// Whether a directory is ours alone, and no link to somebody else's.
pub(crate) fn is_private(directory: &Path, own: u32) -> io::Result<bool> {
    match fs::symlink_metadata(directory) {
        Ok(found) => Ok(found.is_dir() && found.uid() == own && found.mode() & 0o077 == 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads one line of `name:password:uid:gid:…`; negative numbers, as macOS has for `nobody`, wrap.
fn find(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        let mut number = || {
            let text = fields.next()?;
            text.parse::<u32>().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
        };
        Some(Account { uid: number()?, gid: number()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\n\
                            postgres2:x:7:8::/:/bin/sh\n\
                            postgres:x:101:104:PostgreSQL administrator,,,:/var:/bin/bash\n\
                            nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false\n";

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        assert_eq!(find(ACCOUNTS, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(
            find(ACCOUNTS, "nobody"),
            Some(Account { uid: u32::MAX - 1, gid: u32::MAX - 1 })
        );
        assert_eq!(find(ACCOUNTS, "post"), None);
    }
}
