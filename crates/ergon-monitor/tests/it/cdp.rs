//! A browser without a window, steered over its debugging pipe.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, MutexGuard},
    time::timeout,
};

/// How long the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Browsers need much of a machine: one at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// What the browser is told for every test: no window, nothing over the network, nothing kept.
const OPTIONS: &str = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --disable-extensions --disable-sync --disable-background-networking --disable-component-update \
    --no-default-browser-check --mute-audio --remote-debugging-pipe";

/// A browser with one page open.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    /// What the page complained of.
    complaints: Vec<String>,
    _home: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// The program, if it is installed; says why the test is skipped if not.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn program() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|path| path.join(name).is_file())
    });
    if found.is_none() {
        eprintln!("skipped: Chromium is not installed (apt-get install chromium)");
    }
    found
}

impl Browser {
    /// A browser with an empty page; `None` where there is no browser.
    pub(crate) async fn start() -> Option<Self> {
        let program = program()?;
        let turn = TURN.lock().await;
        let home = TempDir::new().unwrap();
        // The pipe is at descriptors 3 and 4.
        let line = format!(
            "exec {program} {OPTIONS} --user-data-dir=\"$0\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1"
        );
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(line)
            .arg(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let from = BufReader::new(from);
        let (session, calls, complaints) = (None, 0, Vec::new());
        let mut browser =
            Self { child, to, from, session, calls, complaints, _home: home, _turn: turn };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        Some(browser)
    }

    /// Ends it, so that nothing of it outlives the test.
    pub(crate) async fn stop(mut self) {
        self.session = None;
        self.send("Browser.close", &json!({})).await;
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
    }

    async fn send(&mut self, method: &str, params: &Value) {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).await.unwrap();
        self.to.flush().await.unwrap();
    }

    /// The next message of the browser.
    async fn message(&mut self) -> Value {
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, self.from.read_until(0, &mut bytes)).await;
        assert!(read.expect("the browser says nothing").unwrap() > 0, "the browser has ended");
        bytes.pop();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Calls a method, and answers its result.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(method, &params).await;
        loop {
            let mut message = self.message().await;
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, message: &Value) {
        let params = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") => Some(params["args"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] != "verbose" => {
                Some(params["entry"].to_string())
            }
            _ => None,
        };
        self.complaints.extend(complaint);
    }

    /// What the page complained of since it was asked last: errors, and what its policy forbade.
    pub(crate) async fn complaints(&mut self) -> Vec<String> {
        // What it said before it answers is heard by then.
        self.eval("1").await;
        std::mem::take(&mut self.complaints)
    }

    /// Opens a page, and waits until it is loaded.
    pub(crate) async fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address })).await;
        self.loaded().await;
    }

    /// Waits until a page is loaded.
    pub(crate) async fn loaded(&mut self) {
        loop {
            let message = self.message().await;
            if message["method"] == "Page.loadEventFired" {
                return;
            }
            self.hear(&message);
        }
    }

    /// What this expression comes to in the page.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", asked).await;
        let wrong = &answer["exceptionDetails"];
        assert!(wrong.is_null(), "{expression}: {wrong}");
        answer["result"]["value"].take()
    }

    /// Waits until this is true in the page.
    #[track_caller]
    pub(crate) fn until(&mut self, condition: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        let wait = format!(
            "new Promise((tell) => {{
                const end = performance.now() + 20000;
                const look = () => {{
                    if ({condition}) tell(true);
                    else if (performance.now() > end) tell(false);
                    else setTimeout(look, 20);
                }};
                look();
            }})"
        );
        async move {
            let came = self.eval(&wait).await == true;
            let page = if came { Value::Null } else { self.eval("document.body.innerText").await };
            assert!(came, "at {place}: {page}");
        }
    }

    /// Shows pages in a window of this width, in these colours.
    pub(crate) async fn look(&mut self, width: u32, colours: &str) {
        let size =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.call("Emulation.setEmulatedMedia", media).await;
    }
}
