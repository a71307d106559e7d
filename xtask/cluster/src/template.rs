//! Fresh data directories: `initdb` runs once for each version, and then its result is copied.

use std::{
    env, fs,
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    account::{Identity, is_private},
    error::ClusterError,
    place::Place,
    program,
};

/// Changes when `initdb` is called in another way, so that old results are not taken for new ones.
const LAYOUT: &str = "1";

/// Holds the number of entries, for cleaners of temporary directories nibble at old ones.
const COUNT_FILE: &str = "entries";

/// Makes the data directory `data` for the servers in `programs`.
///
/// All copies have the same system identifier, which matters to nobody but replication.
pub(crate) fn make(programs: &Path, place: &Place, data: &Path) -> Result<(), ClusterError> {
    let Some(cache) = cache(place.identity()) else {
        return initdb(programs, place, data);
    };
    let version = program::version(&programs.join("postgres"))?;
    let key: String = format!("{LAYOUT} {version}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    // Released with the file, also when its holder is killed.
    let lock = File::create(cache.join(format!("{key}.lock")))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(ClusterError::io(format!("lock {}", cache.display())))?;
    let template = cache.join(&key);
    if !is_whole(&template) {
        renew(programs, place, &template)?;
    }
    copy(&template.join("data"), data, place.identity())?;
    drop(lock);
    Ok(())
}

/// The directory of templates, if there can be one: ours alone, for what lies there is executed.
fn cache(identity: &Identity) -> Option<PathBuf> {
    let path = env::temp_dir().join(format!("ergon-cluster-{}", identity.own_uid()));
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Some(path),
        Err(_) => is_private(&path, identity.own_uid()).unwrap_or(false).then_some(path),
    }
}

fn is_whole(template: &Path) -> bool {
    let expected = fs::read_to_string(template.join(COUNT_FILE)).ok();
    let expected = expected.and_then(|text| text.trim().parse::<usize>().ok());
    expected.is_some() && count(&template.join("data")).ok() == expected
}

/// Makes a template beside its place and moves it there, so that it is never half of one.
fn renew(programs: &Path, place: &Place, template: &Path) -> Result<(), ClusterError> {
    // A place of its own: the user who runs initdb cannot enter the cache when that is root's.
    let workshop = Place::make("ergon-template-", place.path().parent())?;
    let fresh = workshop.path().join("template");
    let operation = || format!("make the template {}", template.display());
    fs::create_dir(&fresh).map_err(ClusterError::io(operation()))?;
    workshop.identity().give(&fresh)?;
    let data = fresh.join("data");
    initdb(programs, &workshop, &data)?;
    let replace = || {
        let entries = count(&data)?;
        fs::write(fresh.join(COUNT_FILE), entries.to_string())?;
        if template.exists() {
            fs::remove_dir_all(template)?;
        }
        fs::rename(&fresh, template)
    };
    match replace() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            copy_as_us(&fresh, template).map_err(ClusterError::io(operation()))
        }
        Err(error) => Err(ClusterError::io(operation())(error)),
    }
}

fn initdb(programs: &Path, place: &Place, data: &Path) -> Result<(), ClusterError> {
    let mut command: Command = place.command(&programs.join("initdb"))?;
    command.arg("--pgdata").arg(data).args([
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    let status = command.status().map_err(ClusterError::io("run initdb"))?;
    if status.success() {
        return Ok(());
    }
    Err(ClusterError::Ended { program: "initdb", status, log: place.log_tail() })
}

/// Copies a tree of directories and files and gives it to the user who runs the server.
fn copy(from: &Path, to: &Path, identity: &Identity) -> Result<(), ClusterError> {
    let operation = || format!("copy {} to {}", from.display(), to.display());
    DirBuilder::new().mode(0o700).create(to).map_err(ClusterError::io(operation()))?;
    identity.give(to)?;
    for entry in fs::read_dir(from).map_err(ClusterError::io(operation()))? {
        let entry = entry.map_err(ClusterError::io(operation()))?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(ClusterError::io(operation()))?.is_dir() {
            copy(&entry.path(), &target, identity)?;
        } else {
            fs::copy(entry.path(), &target).map_err(ClusterError::io(operation()))?;
            identity.give(&target)?;
        }
    }
    Ok(())
}

/// Moves a template to another file system; its mark, which makes it whole, comes last.
fn copy_as_us(from: &Path, to: &Path) -> std::io::Result<()> {
    fn tree(from: &Path, to: &Path) -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                tree(&entry.path(), &target)?;
            } else {
                fs::copy(entry.path(), &target)?;
            }
        }
        Ok(())
    }
    tree(&from.join("data"), &to.join("data"))?;
    fs::copy(from.join(COUNT_FILE), to.join(COUNT_FILE)).map(|_bytes| ())
}

/// How many files and directories are below this one.
fn count(directory: &Path) -> std::io::Result<usize> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        total += 1;
        if entry.file_type()?.is_dir() {
            total += count(&entry.path())?;
        }
    }
    Ok(total)
}
