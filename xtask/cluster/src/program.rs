//! Where the programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::ClusterError;

/// Names the directory of `postgres` and `initdb`; nothing else is looked at when it is set.
const POSTGRES_VARIABLE: &str = "ERGON_POSTGRES_BIN";

/// Names the directory of `pgbouncer`; nothing else is looked at when it is set.
const PGBOUNCER_VARIABLE: &str = "ERGON_PGBOUNCER_BIN";

const POSTGRES_HINT: &str = "install the server (Debian, Ubuntu: apt-get install postgresql; \
                             Fedora: dnf install postgresql-server; macOS: brew install postgresql), \
                             or set ERGON_POSTGRES_BIN to the directory of postgres and initdb";

const PGBOUNCER_HINT: &str = "install it (Debian, Ubuntu: apt-get install pgbouncer; \
                              Fedora: dnf install pgbouncer; macOS: brew install pgbouncer), \
                              or set ERGON_PGBOUNCER_BIN to its directory";

/// Where versions of Postgres lie side by side: before the version, and after it.
const VERSIONED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
];

const HOMEBREW: &[&str] =
    &["/opt/homebrew/opt/postgresql/bin", "/opt/homebrew/bin", "/usr/local/opt/postgresql/bin"];

/// Often not on the `PATH` of people, for these programs are for the system.
const SYSTEM: &[&str] =
    &["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/homebrew/sbin"];

/// The directory that holds `postgres` and `initdb`.
///
/// Looks at `ERGON_POSTGRES_BIN` alone if it is set, otherwise at the `PATH`, at what `pg_config`
/// names, and where Debian, Red Hat and Homebrew put them, the newest version first.
///
/// # Errors
///
/// [`ClusterError::Missing`], which says where it looked and how to install a server.
pub fn find_postgres() -> Result<PathBuf, ClusterError> {
    let places = stated(POSTGRES_VARIABLE).unwrap_or_else(|| {
        let mut places = on_path();
        places.extend(pg_config());
        for (parent, prefix, suffix) in VERSIONED {
            places.extend(newest_first(Path::new(parent), prefix, suffix));
        }
        places.extend(HOMEBREW.iter().map(PathBuf::from));
        places
    });
    find(places, &["postgres", "initdb"]).map_err(|searched| ClusterError::Missing {
        program: "postgres with initdb",
        searched,
        hint: POSTGRES_HINT,
    })
}

/// The directory that holds `pgbouncer`.
///
/// Looks at `ERGON_PGBOUNCER_BIN` alone if it is set, otherwise at the `PATH` and where systems put
/// such programs.
///
/// # Errors
///
/// [`ClusterError::Missing`], which says where it looked and how to install one.
pub fn find_pgbouncer() -> Result<PathBuf, ClusterError> {
    let places = stated(PGBOUNCER_VARIABLE).unwrap_or_else(|| {
        let mut places = on_path();
        places.extend(SYSTEM.iter().map(PathBuf::from));
        places
    });
    find(places, &["pgbouncer"]).map_err(|searched| ClusterError::Missing {
        program: "pgbouncer",
        searched,
        hint: PGBOUNCER_HINT,
    })
}

/// What `<program> --version` prints, such as `postgres (PostgreSQL) 17.2`.
pub(crate) fn version(program: &Path) -> Result<String, ClusterError> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(ClusterError::io(format!("run {}", program.display())))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn stated(variable: &str) -> Option<Vec<PathBuf>> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(|value| vec![value.into()])
}

fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| PathBuf::from(text))
}

/// The first place with all the programs, or all places.
fn find(places: Vec<PathBuf>, programs: &[&str]) -> Result<PathBuf, Vec<PathBuf>> {
    let is_complete = |place: &&PathBuf| programs.iter().all(|name| place.join(name).is_file());
    match places.iter().find(is_complete) {
        Some(place) => Ok(place.clone()),
        None => {
            let mut searched = Vec::new();
            for place in places {
                if !searched.contains(&place) {
                    searched.push(place);
                }
            }
            Err(searched)
        }
    }
}

/// The directories `parent/prefix<version>/suffix`, the highest version first.
fn newest_first(parent: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version: Result<Vec<u32>, _> =
                name.strip_prefix(prefix)?.split('.').map(str::parse).collect();
            Some((version.ok()?, entry.path().join(suffix)))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        for name in ["9.6", "15", "9.10", "common", "100"] {
            fs::create_dir(parent.path().join(name))?;
        }
        let found = newest_first(parent.path(), "", "bin");
        let names: Vec<_> = found
            .iter()
            .filter_map(|path| path.parent()?.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["100", "15", "9.10", "9.6"]);
        Ok(())
    }

    #[test]
    fn a_place_needs_all_programs() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let (half, whole) = (parent.path().join("half"), parent.path().join("whole"));
        for (place, programs) in [(&half, &["a"][..]), (&whole, &["a", "b"])] {
            fs::create_dir(place)?;
            for program in programs {
                fs::write(place.join(program), "")?;
            }
        }
        let both = vec![half.clone(), whole.clone()];
        assert_eq!(find(both, &["a", "b"]), Ok(whole));
        assert_eq!(find(vec![half.clone(), half.clone()], &["b"]), Err(vec![half]));
        Ok(())
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let searched = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        let error = ClusterError::Missing { program: "pgbouncer", searched, hint: PGBOUNCER_HINT };
        let text = error.to_string();
        assert!(text.starts_with("no pgbouncer found in /a, /b; install it"), "{text}");
        assert!(text.contains("apt-get install pgbouncer"), "{text}");
        assert!(error.is_missing_program());
    }
}
