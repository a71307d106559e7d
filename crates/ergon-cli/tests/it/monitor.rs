//! `ergon monitor`: what it serves, and what it refuses.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use ergon_core::Client;
use ergon_redb::RedbStore;

fn ergon(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ergon"));
    command.env_remove("ERGON_STORE").arg("--store").arg(format!("redb:{}", store.display()));
    command
}

/// A store with one task.
fn store(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("tasks.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RedbStore::open(&path).await.unwrap();
        Client::new(store.clone()).enqueue_json("greet", "Ada").await.unwrap();
        store.close().await.unwrap();
    });
    path
}

/// A monitor that is served; killed when it is dropped.
struct Served {
    process: Child,
    /// Host and port.
    host: String,
}

impl Served {
    fn start(store: &Path, arguments: &[&str]) -> Self {
        let mut command = ergon(store);
        command.args(["monitor", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("http://").unwrap().strip_suffix("/monitor").unwrap();
        Self { process, host: host.to_owned() }
    }

    fn get(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let host = &self.host;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            self.process.wait().unwrap();
        }
    }
}

#[track_caller]
fn refused(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was taken");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn pages_numbers_and_health_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::start(&store(directory.path()), &[]);
    let overview = served.get("/monitor/", "");
    assert!(overview.starts_with("HTTP/1.1 200"), "{overview}");
    assert!(served.get("/monitor/tasks", "").contains("greet"));
    let metrics = served.get("/monitor/metrics", "");
    assert!(
        metrics.contains("ergon_build_info{") && metrics.contains(r#"backend="redb""#),
        "{metrics}"
    );
    assert!(served.get("/monitor/healthz", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn users_of_a_file_come_in_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    std::fs::write(&users, "# people\nana:viewer:secret\n").unwrap();
    let auth = format!("basic:{}", users.display());
    let served = Served::start(&store(directory.path()), &["--auth", &auth]);
    assert!(served.get("/monitor/", "").starts_with("HTTP/1.1 401"));
    // ana:secret
    let known = served.get("/monitor/", "Authorization: Basic YW5hOnNlY3JldA==\r\n");
    assert!(known.starts_with("HTTP/1.1 200"), "{known}");
}

#[test]
fn what_would_be_open_by_accident_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = store(directory.path());
    let run = |arguments: &[&str]| ergon(&path).arg("monitor").args(arguments).output().unwrap();
    refused(&run(&["--auth", "none"]), "--insecure-no-auth");
    refused(&run(&["--listen", "0.0.0.0:0"]), "0.0.0.0");
    refused(&run(&["--auth", "forwarded:x-user:admin"]), "--trusted-proxy");
    refused(&run(&["--auth", "basic:/nowhere"]), "/nowhere");
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.redb");
    refused(&ergon(&path).arg("monitor").output().unwrap(), "there is no store at");
    assert!(!path.exists());
    let output = Command::new(env!("CARGO_BIN_EXE_ergon"))
        .args(["--store", "tasks.redb", "monitor"])
        .output()
        .unwrap();
    refused(&output, "a store is `redb:PATH` or `postgres://…`");
}
