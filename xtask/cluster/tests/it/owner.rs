//! A server does not outlive the process that owns it, however that ends.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ergon_cluster::{find_postgres, wait_until_gone};

use crate::{Result, skip};

const SOON: Duration = Duration::from_secs(20);

/// A process with a cluster, and what it said about it.
struct Owner {
    child: Child,
    pids: Vec<u32>,
    directory: PathBuf,
}

fn owner() -> Result<Option<Owner>> {
    if let Err(missing) = find_postgres() {
        skip(&missing);
        return Ok(None);
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_hold-cluster"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("the output is not piped")?;
    BufReader::new(output).read_line(&mut line)?;
    let mut words = line.trim().splitn(3, ' ');
    let pids = words.by_ref().take(2).filter_map(|word| word.parse().ok()).collect();
    let directory = words.next().ok_or_else(|| format!("it printed {line:?}"))?.into();
    Ok(Some(Owner { child, pids, directory }))
}

impl Owner {
    #[track_caller]
    fn check_gone(&self) {
        for pid in &self.pids {
            assert!(wait_until_gone(*pid, SOON), "{pid} lives");
        }
        let start = Instant::now();
        while self.directory.exists() {
            assert!(start.elapsed() < SOON, "{} is still there", self.directory.display());
            std::thread::yield_now();
        }
    }
}

#[test]
fn servers_end_with_an_owner_that_is_killed() -> Result {
    let Some(mut owner) = owner()? else { return Ok(()) };
    assert!(!owner.pids.is_empty());
    assert!(owner.directory.exists());
    owner.child.kill()?;
    owner.child.wait()?;
    owner.check_gone();
    Ok(())
}

#[test]
fn servers_end_with_an_owner_that_comes_to_its_end() -> Result {
    let Some(mut owner) = owner()? else { return Ok(()) };
    drop(owner.child.stdin.take());
    assert!(owner.child.wait()?.success());
    assert!(!owner.directory.exists());
    owner.check_gone();
    Ok(())
}
