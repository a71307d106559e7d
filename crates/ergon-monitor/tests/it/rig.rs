//! A monitor on a store in memory, and the requests of a browser.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    response::Response,
};
use ergon_core::{
    Client, ErrorKind, KindName, Manager, Metadata, NewTask, Now, QueueName, RunAt, State, Tag,
    TaskId, TaskRecord, TaskSpec, Timestamp,
    audit::{AuditEntry, AuditOutcome},
    outcome::{Conclusion, Outcome},
    store::{ClaimRequest, Control as _, Dispatch as _, Enqueue as _, Inspect as _, QueueSlots},
};
use ergon_monitor::{Auth, Monitor, MonitorConfig};
use ergon_testing::{Faulty, MemoryStore, VirtualClock};
use http::{HeaderMap, Method, Request, StatusCode, header};
use tower::ServiceExt as _;

/// Where the requests come from unless a test says otherwise.
pub(crate) const LOCAL: &str = "127.0.0.1:50000";

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| unreachable!("{error}: {}", self.body))
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    #[track_caller]
    pub(crate) fn has(self, text: &str) -> Self {
        assert!(self.body.contains(text), "{text:?} is not in {}", self.body);
        self
    }

    #[track_caller]
    pub(crate) fn has_not(self, text: &str) -> Self {
        assert!(!self.body.contains(text), "{text:?} is in {}", self.body);
        self
    }

    /// The token of the forms of a page.
    pub(crate) fn token(&self) -> String {
        let rest = self.body.split("name=\"_token\" value=\"").nth(1).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}

/// A monitor and its store.
pub(crate) struct Rig {
    pub(crate) store: MemoryStore,
    pub(crate) faulty: Faulty,
    pub(crate) clock: VirtualClock,
    pub(crate) monitor: Monitor,
    client: Client,
    router: Router,
}

pub(crate) fn local() -> MonitorConfig {
    let mut config = MonitorConfig::new(Auth::LoopbackOnly);
    // Tests ask more often than people do.
    config.request_burst = 100_000;
    config
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(local())
    }

    pub(crate) fn with(config: MonitorConfig) -> Self {
        let clock = VirtualClock::default();
        let store = MemoryStore::builder().clock(Arc::new(clock.clone())).build();
        Self::on(store, clock, config)
    }

    /// Another monitor of the same store, as in another process.
    pub(crate) fn beside(&self) -> Self {
        Self::on(self.store.clone(), self.clock.clone(), local())
    }

    fn on(store: MemoryStore, clock: VirtualClock, config: MonitorConfig) -> Self {
        let faulty = Faulty::new(store.clone());
        let monitor = Monitor::builder(faulty.clone(), config)
            .clock(Arc::new(clock.clone()))
            .metrics(|| "ergon_up 1\n".to_owned())
            .build()
            .unwrap();
        let router = monitor.router();
        let client = Client::builder(store.clone()).clock(Arc::new(clock.clone())).build();
        Self { store, faulty, clock, monitor, client, router }
    }

    /// Sends a request as it is, from this address.
    pub(crate) async fn send_from(&self, peer: &str, request: Request<Body>) -> Answer {
        let mut request = request;
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        self.send(request).await
    }

    /// Sends a request as it is; answers before the body is there.
    pub(crate) async fn response(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request from nobody knows where.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.response(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_from(LOCAL, request(Method::GET, path, headers, "")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path).await.is(200);
        assert_eq!(answer.header("content-type"), "application/json");
        answer.json()
    }

    /// Sends a form as a page of ours does.
    pub(crate) async fn form(&self, path: &str, fields: &str) -> Answer {
        let token = self.get("/monitor/").await.token();
        let body = format!("_token={token}&{fields}");
        let headers = [("sec-fetch-site", "same-origin"), FORM];
        self.send_from(LOCAL, request(Method::POST, path, &headers, body)).await
    }

    /// Sends JSON as a script of ours does.
    pub(crate) async fn post_json(&self, path: &str, body: &str) -> Answer {
        let headers = [("sec-fetch-site", "same-origin"), JSON];
        self.send_from(LOCAL, request(Method::POST, path, &headers, body.to_owned())).await
    }

    /// Enqueues a task that is due at once.
    pub(crate) async fn task(&self) -> TaskId {
        self.task_with(|_| {}).await
    }

    pub(crate) async fn task_with(&self, change: impl FnOnce(&mut NewTask)) -> TaskId {
        let mut task = self.client.enqueue_json("mail.send", "hello").into_new_task().unwrap();
        task.spec = TaskSpec::new(KindName::new("mail.send").unwrap(), r#"{"to":"ada"}"#);
        change(&mut task);
        self.store.insert(&[task.clone()], Now::Store).await.unwrap();
        task.id
    }

    /// Brings a new task into this state.
    pub(crate) async fn in_state(&self, state: State) -> TaskId {
        self.in_state_with(state, "smtp: connect", |_| {}).await
    }

    pub(crate) async fn in_state_with(
        &self,
        state: State,
        error: &str,
        change: impl FnOnce(&mut NewTask),
    ) -> TaskId {
        let error = error.to_owned();
        let hour = Duration::from_secs(3600);
        let id = self
            .task_with(|task| {
                // What is claimed goes before what waits.
                let waits = matches!(state, State::Pending | State::Scheduled);
                task.priority = if waits { 0 } else { i16::MAX };
                change(task);
                if state == State::Scheduled {
                    task.run_at = RunAt::After(hour);
                }
            })
            .await;
        let conclusion = match state {
            State::Completed => Conclusion::Complete { result: Some("{\"sent\":1}".into()) },
            State::Failed => Conclusion::Fail { kind: ErrorKind::Error, error },
            State::Retrying => Conclusion::Retry { delay: hour, kind: ErrorKind::Error, error },
            State::Cancelled => Conclusion::Cancel { reason: error },
            State::Running => {
                self.claim(id).await;
                return id;
            }
            _ => return id,
        };
        let token = self.claim(id).await;
        let outcome = Outcome { id, token, conclusion };
        self.store.finish(&[outcome], Now::Store).await.unwrap();
        id
    }

    async fn claim(&self, id: TaskId) -> ergon_core::Token {
        let task = self.record(id).await;
        let slots = QueueSlots { queue: task.spec.queue.clone(), slots: 1 };
        let server = ergon_core::ServerId::from_u128(1);
        let request = ClaimRequest::new(server, [task.spec.kind.clone()], [slots]);
        let claimed = self.store.claim(&request).await.unwrap();
        assert_eq!(claimed[0].id, id);
        claimed[0].token
    }

    pub(crate) async fn record(&self, id: TaskId) -> TaskRecord {
        self.find(id).await.unwrap()
    }

    pub(crate) async fn find(&self, id: TaskId) -> Option<TaskRecord> {
        self.store.tasks(&[id], Now::Store).await.unwrap().remove(0)
    }

    pub(crate) async fn state(&self, id: TaskId) -> State {
        self.record(id).await.state
    }

    /// What the audit trail holds, the oldest entry first.
    pub(crate) async fn trail(&self) -> Vec<AuditEntry> {
        let page = Manager::new(self.store.clone()).audit().page(1_000, None).await.unwrap();
        page.entries.into_iter().rev().collect()
    }

    /// What came of the only order.
    pub(crate) async fn outcome(&self) -> AuditOutcome {
        let [entry] = &self.trail().await[..] else { unreachable!("not one order") };
        entry.outcome
    }

    pub(crate) async fn pause(&self, queue: &str) {
        let queue = QueueName::new(queue).unwrap();
        self.store.set_queue(&queue, &ergon_core::store::QueueChange::pause()).await.unwrap();
    }
}

pub(crate) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header(header::HOST, "localhost:7766");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

/// Text that would be markup, or end an attribute, if it were not escaped.
pub(crate) const MARKUP: [&str; 8] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</textarea><svg onload=alert(1)>",
    "javascript:alert(1)",
    "&lt;b&gt;<b>",
    "\u{202e}<i>\u{1b}[31m",
    "</title><h1>x",
];

pub(crate) fn tag(text: &str) -> Option<Tag> {
    Tag::new(text).ok()
}

pub(crate) fn metadata(text: &str) -> Metadata {
    let key: String = text.chars().filter(|character| !character.is_control()).collect();
    Metadata::from([(key, text.to_owned()), ("plain".to_owned(), text.to_owned())])
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Rig {
    pub(crate) async fn get_owned(&self, path: String) -> Answer {
        self.get(&path).await
    }
}
