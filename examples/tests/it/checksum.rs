//! The checksum example: right sums, nothing done twice, nothing lost by a kill at any moment.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use ergon_core::{Manager, State, StateSet, TaskFilter};
use ergon_redb::RedbStore;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::program;

const CHECKSUM: &str = env!("CARGO_BIN_EXE_checksum");

/// A directory with files to sum, and a place for the store beside it.
struct Ground {
    base: TempDir,
}

impl Ground {
    /// With so many files, of all sizes around that of a block, in some directories.
    fn new(files: usize) -> Self {
        let base = tempfile::tempdir().unwrap();
        let ground = Self { base };
        for number in 0..files {
            let folder = ground.files().join(format!("folder {}", number % 7));
            fs::create_dir_all(&folder).unwrap();
            let len = if number % 10 == 0 { (256 << 10) - 5 + number } else { number };
            fs::write(folder.join(format!("{number}")), content(number, len)).unwrap();
        }
        ground
    }

    fn files(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("files")
    }

    fn command(&self) -> Command {
        let mut command = program(CHECKSUM, self.base.path());
        command.arg("files");
        command
    }

    /// Runs to the end.
    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Runs until a line on stderr is the nth that begins so, and kills the process then and there.
    fn run_and_kill(&self, begin: &str, nth: usize, throttle_ms: &str) {
        let mut command = self.command();
        command.args(["--verbose", "--throttle-ms", throttle_ms, "--concurrency", "2"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut wanted = lines.map(Result::unwrap).filter(|line| line.starts_with(begin));
        assert!(wanted.nth(nth - 1).is_some(), "the run ended before");
        // SIGKILL: nothing is written any more, nothing is closed.
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// How many sums are recorded, by the store's own count.
    fn recorded(&self) -> usize {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = RedbStore::open(self.base.path().join("checksum.redb")).await.unwrap();
            let manager = Manager::new(store.clone());
            let filter = TaskFilter::all().states(StateSet::from(State::Completed));
            let count = manager.tasks().count(&filter).await.unwrap();
            store.close().await.unwrap();
            usize::try_from(count.value).unwrap()
        })
    }

    /// Checks that a run printed every sum, by path, as they are when computed directly.
    #[track_caller]
    fn check_sums(&self, output: &Output) {
        let files = walkdir::WalkDir::new(self.files()).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let paths: BTreeSet<String> =
            files.map(|entry| entry.path().to_str().unwrap().to_owned()).collect();
        let line = |path: String| format!("{}  {path}", sum(path.as_ref()));
        let expected: Vec<String> = paths.into_iter().map(line).collect();
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{err}", output.status);
        assert_eq!(str::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), expected);
    }
}

fn sum(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + number) % 251).unwrap()).collect()
}

/// Checks the summary: how many files were summed now, by an earlier run, and not at all.
#[track_caller]
fn check_summary(output: &Output, now: usize, before: usize, failed: usize) {
    let err = String::from_utf8_lossy(&output.stderr);
    let found = now + before + failed;
    let expected = format!("{found} files: {now} summed now, {before} before, {failed} failed");
    assert!(err.contains(&expected), "{expected:?} is not in\n{err}");
}

#[test]
fn sums_are_right_and_a_second_run_repeats_nothing() {
    let ground = Ground::new(50);
    let first = ground.run();
    ground.check_sums(&first);
    check_summary(&first, 50, 0, 0);
    let second = ground.run();
    assert_eq!(first.stdout, second.stdout);
    check_summary(&second, 0, 50, 0);

    // A file that changes is summed again, and no other one is.
    fs::write(ground.files().join("folder 0/0"), "changed").unwrap();
    fs::write(ground.files().join("new"), "new").unwrap();
    let third = ground.run();
    ground.check_sums(&third);
    check_summary(&third, 2, 49, 0);
}

#[test]
fn a_run_that_is_killed_is_completed_by_the_next() {
    const FILES: usize = 300;
    let ground = Ground::new(FILES);
    let mut recorded = 0;
    for nth in [1, 7, 20] {
        // It would take seconds to end; it is killed long before.
        ground.run_and_kill("done ", nth, "20");
        // What was said to be done is on disk, and what was done before was not done again.
        let now = ground.recorded();
        assert!(now >= recorded + nth && now < FILES, "{recorded} and {nth} became {now}");
        recorded = now;
    }
    let last = ground.run();
    ground.check_sums(&last);
    check_summary(&last, FILES - recorded, recorded, 0);
    assert_eq!(ground.recorded(), FILES);
}

#[test]
fn a_run_that_is_killed_during_the_walk_is_completed_by_the_next() {
    let ground = Ground::new(0);
    fs::create_dir(ground.files()).unwrap();
    for number in 0..2_100 {
        fs::write(ground.files().join(number.to_string()), content(number, 9)).unwrap();
    }
    // Two more batches have to be found; no sum is recorded within a minute.
    ground.run_and_kill("enqueued ", 1, "60000");
    assert_eq!(ground.recorded(), 0);
    let last = ground.run();
    ground.check_sums(&last);
    check_summary(&last, 2_100, 0, 0);
    assert_eq!(ground.recorded(), 2_100);
}

#[test]
fn the_store_itself_is_not_summed() {
    let ground = Ground::new(1);
    let mut command = program(CHECKSUM, &ground.files());
    let output = command.arg(".").output().unwrap();
    check_summary(&output, 1, 0, 0);
    assert!(ground.files().join("checksum.redb").exists());
}

/// Hands the output to `sha256sum --check`; says whether there is such a tool and it agrees.
fn sha256sum_agrees(sums: &[u8]) -> Option<bool> {
    let mut command = Command::new("sha256sum");
    command.args(["--check", "--quiet", "--strict"]).stdin(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(sums).unwrap();
    Some(child.wait().unwrap().success())
}

#[expect(clippy::print_stdout, reason = "a test that cannot run says so in its output")]
#[test]
fn sha256sum_reads_the_output() {
    let ground = Ground::new(20);
    if cfg!(unix) {
        for name in ["back\\slash", "new\nline", " blank ", "ünï"] {
            fs::write(ground.files().join(name), name).unwrap();
        }
    }
    let output = ground.run();
    match sha256sum_agrees(&output.stdout) {
        Some(agrees) => assert!(agrees, "{}", String::from_utf8_lossy(&output.stdout)),
        None => println!("skipped: there is no sha256sum to compare with"),
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_read_is_reported_and_not_tried_for_ever() {
    use std::os::unix::{fs::PermissionsExt as _, process::CommandExt as _};

    let ground = Ground::new(3);
    let forbidden = ground.files().join("forbidden");
    fs::write(&forbidden, "secret").unwrap();
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = ground.command();
    if fs::File::open(&forbidden).is_ok() {
        // Root reads everything, so that somebody else has to run it, where he may.
        let program_of_all = ground.base.path().join("checksum");
        fs::copy(CHECKSUM, &program_of_all).unwrap();
        fs::set_permissions(ground.base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        command = program(program_of_all.to_str().unwrap(), ground.base.path());
        command.arg("files").uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    check_summary(&output, 3, 0, 1);
    let reason = format!("{}: the task failed: Permission denied", forbidden.display());
    assert!(err.contains(&reason), "{err}");

    // The next run tries it again.
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o644)).unwrap();
    let output = command.output().unwrap();
    ground.check_sums(&output);
    check_summary(&output, 1, 3, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf8_is_reported() {
    use std::os::unix::ffi::OsStrExt as _;

    let ground = Ground::new(2);
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(ground.files().join(name), "latin").unwrap();
    let output = ground.run();
    check_summary(&output, 2, 0, 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("its name is not UTF-8"));
}
