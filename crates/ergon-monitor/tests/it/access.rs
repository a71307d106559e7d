//! Who comes in, and what they may do: every way to come in, every class of route, every role.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ergon_core::{
    State,
    audit::{Actor, AuditOutcome},
};
use ergon_monitor::{
    AccessToken, Acknowledge, Action, Auth, Authenticate, Denial, MonitorConfig, MonitorError,
    Permissions, Principal, Role, Roles, Secret, User,
};
use http::{Method, request::Parts};

use crate::rig::{JSON, LOCAL, Rig, request};

const REMOTE: &str = "192.0.2.1:50000";

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

fn users() -> Auth {
    Auth::Basic(vec![
        User::new("vera", Secret::new("v-pass"), Role::Viewer),
        User::new("otto", Secret::new("o:pass"), Role::Operator),
        User::new("ada", Secret::new("a-pass"), Role::Admin).view_payloads(false),
    ])
}

fn tokens() -> Auth {
    Auth::Bearer(vec![
        AccessToken::new("ci", Secret::new("tok-1"), Role::Operator),
        AccessToken::new("board", Secret::new("tok-2"), Role::Viewer),
    ])
}

fn forwarded() -> Auth {
    Auth::ForwardedUser {
        header: "x-forwarded-user".parse().unwrap(),
        trusted_proxies: vec!["10.0.0.1".parse().unwrap()],
        roles: Roles::nobody_else().with("vera", Role::Viewer).with("otto", Role::Operator),
    }
}

#[derive(Debug)]
struct Sessions;

#[async_trait]
impl Authenticate for Sessions {
    async fn authenticate(&self, request: &Parts, _: Option<IpAddr>) -> Result<Principal, Denial> {
        match request.headers.get("x-session").map(|value| value.as_bytes()) {
            Some(b"otto") => Ok(Principal::new("otto", Role::Operator)),
            Some(b"slow") => std::future::pending().await,
            Some(_) => Err(Denial::Forbidden { reason: "no <b>session</b>".to_owned() }),
            None => Err(Denial::Unauthenticated { challenge: None }),
        }
    }
}

type Headers<'a> = &'a [(&'a str, &'a str)];

/// Asks pages, the API, files and health as this one; answers the statuses.
async fn statuses(rig: &Rig, peer: &str, headers: &[(&str, &str)]) -> [u16; 5] {
    let mut statuses = [0; 5];
    let paths = ["/", "/api/v1/tasks", "/metrics", "/healthz", "/static/x"];
    for (status, path) in statuses.iter_mut().zip(paths) {
        let ask = request(Method::GET, &format!("/monitor{path}"), headers, "");
        *status = rig.send_from(peer, ask).await.status.as_u16();
    }
    statuses
}

#[tokio::test]
async fn every_way_in_opens_pages_api_and_metrics_alike() {
    let forwarded_for = ("x-forwarded-for", "198.51.100.7");
    let otto = basic("otto", "o:pass");
    let cases: &[(Auth, &str, Headers<'_>, u16)] = &[
        (Auth::LoopbackOnly, LOCAL, &[], 200),
        (Auth::LoopbackOnly, "[::1]:1", &[], 200),
        (Auth::LoopbackOnly, "[::ffff:127.0.0.1]:1", &[], 200),
        (Auth::LoopbackOnly, REMOTE, &[], 403),
        (Auth::LoopbackOnly, LOCAL, &[forwarded_for], 403),
        (Auth::LoopbackOnly, LOCAL, &[("forwarded", "for=1.2.3.4")], 403),
        (Auth::LoopbackOnly, LOCAL, &[("x-forwarded-host", "x")], 403),
        (users(), REMOTE, &[("authorization", &otto)], 200),
        (users(), REMOTE, &[], 401),
        (users(), LOCAL, &[], 401),
        (users(), REMOTE, &[("authorization", &basic("otto", "wrong"))], 401),
        (users(), REMOTE, &[("authorization", &basic("", ""))], 401),
        (users(), REMOTE, &[("authorization", &basic("ada", "o:pass"))], 401),
        (users(), REMOTE, &[("authorization", "Basic !!!")], 401),
        (users(), REMOTE, &[("authorization", "Bearer o:pass")], 401),
        (tokens(), REMOTE, &[("authorization", "bearer tok-2")], 200),
        (tokens(), REMOTE, &[("authorization", "Bearer tok-3")], 401),
        (tokens(), REMOTE, &[("authorization", "Bearer ")], 401),
        (tokens(), REMOTE, &[], 401),
        (forwarded(), "10.0.0.1:1", &[("x-forwarded-user", "otto"), forwarded_for], 200),
        (forwarded(), "10.0.0.1:1", &[("x-forwarded-user", "eve")], 403),
        (
            forwarded(),
            "10.0.0.1:1",
            &[("x-forwarded-user", "otto"), ("x-forwarded-user", "vera")],
            401,
        ),
        (forwarded(), "10.0.0.1:1", &[], 401),
        (forwarded(), "10.0.0.2:1", &[("x-forwarded-user", "otto")], 403),
        (forwarded(), LOCAL, &[("x-forwarded-user", "otto")], 403),
        (Auth::Custom(Arc::new(Sessions)), REMOTE, &[("x-session", "otto")], 200),
        (Auth::Custom(Arc::new(Sessions)), REMOTE, &[("x-session", "eve")], 403),
        (Auth::Custom(Arc::new(Sessions)), REMOTE, &[], 401),
        (Auth::None(Acknowledge::EveryoneMayDoEverything), REMOTE, &[], 200),
    ];
    for (auth, peer, headers, status) in cases {
        let rig = Rig::with(MonitorConfig::new(auth.clone()));
        let expected = [*status, *status, *status, 200, 404];
        assert_eq!(statuses(&rig, peer, headers).await, expected, "{auth:?} {peer} {headers:?}");
    }
}

#[tokio::test]
async fn metrics_can_be_open_and_nothing_else_with_them() {
    let rig = Rig::with(MonitorConfig::new(users()).open_metrics(true));
    assert_eq!(statuses(&rig, REMOTE, &[]).await, [401, 401, 200, 200, 404]);
}

#[tokio::test]
async fn a_peer_that_is_not_known_is_not_local() {
    let rig = Rig::new();
    let page = rig.send(request(Method::GET, "/monitor/", &[], "")).await;
    page.is(403).has("into_make_service_with_connect_info");
}

#[tokio::test(start_paused = true)]
async fn an_own_check_that_hangs_is_a_denial_and_its_reason_is_text() {
    let rig = Rig::with(MonitorConfig::new(Auth::Custom(Arc::new(Sessions))));
    rig.get_with("/monitor/", &[("x-session", "slow")]).await.is(403).has("too long");
    rig.get_with("/monitor/", &[("x-session", "eve")]).await.is(403).has("&lt;b&gt;session");
}

#[tokio::test]
async fn browsers_are_asked_for_a_password_and_programs_for_a_token() {
    let rig = Rig::with(MonitorConfig::new(users()));
    let page = rig.get("/monitor/tasks").await.is(401).has("Sign in").has_not("ada");
    assert!(page.header("www-authenticate").starts_with("Basic realm="));
    rig.get("/monitor/login").await.is(401);
    let ada = basic("ada", "a-pass");
    let signed_in = rig.get_with("/monitor/login", &[("authorization", &ada)]).await.is(303);
    assert_eq!(signed_in.header("location"), "/monitor/");
    rig.get_with("/monitor/", &[("authorization", &ada)]).await.has("ada").has("(admin)");
    let rig = Rig::with(MonitorConfig::new(tokens()));
    let problem = rig.get("/monitor/api/v1/tasks").await.is(401);
    assert!(problem.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test(start_paused = true)]
async fn ten_wrong_passwords_lock_an_address_for_a_minute() {
    let rig = Rig::with(MonitorConfig::new(users()));
    let (wrong, right) = (basic("ada", "x"), basic("ada", "a-pass"));
    let ask = |credentials: &str| {
        request(Method::GET, "/monitor/", &[("authorization", credentials)], "")
    };
    // Asking without a password, as every browser does first, is no failure.
    for _ in 0..20 {
        rig.send_from(REMOTE, request(Method::GET, "/monitor/", &[], "")).await.is(401);
    }
    for _ in 0..10 {
        rig.send_from(REMOTE, ask(&wrong)).await.is(401);
    }
    let locked = rig.send_from(REMOTE, ask(&right)).await.is(429);
    assert!(locked.header("retry-after").parse::<u64>().unwrap() <= 61);
    rig.send_from("192.0.2.2:1", ask(&right)).await.is(200);
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    rig.send_from(REMOTE, ask(&right)).await.is(200);
}

#[tokio::test]
async fn roles_may_do_what_they_may() {
    let cases = [
        ("vera", "v-pass", Role::Viewer),
        ("otto", "o:pass", Role::Operator),
        ("ada", "a-pass", Role::Admin),
    ];
    for (name, password, role) in cases {
        let rig = Rig::with(MonitorConfig::new(users()));
        let id = rig.in_state(State::Failed).await;
        let who = basic(name, password);
        let page =
            rig.get_with(&format!("/monitor/tasks/{id}"), &[("authorization", &who)]).await.is(200);
        assert_eq!(page.body.contains("Run now"), role >= Role::Operator, "{name}");
        assert_eq!(page.body.contains("Delete the task"), role >= Role::Admin, "{name}");
        let form = rig.get_with("/monitor/enqueue", &[("authorization", &who)]).await.status;
        assert_eq!(form.as_u16(), if role == Role::Admin { 200 } else { 403 });
        let orders = [
            ("/queues/default/pause".to_owned(), "{}", Role::Operator),
            ("/queues/default/resume".to_owned(), "{}", Role::Operator),
            (format!("/tasks/{id}/retry"), "{}", Role::Operator),
            (format!("/tasks/{id}/priority"), r#"{"priority":3}"#, Role::Operator),
            (format!("/tasks/{id}/reschedule"), r#"{"run_at":"2025-01-02T00:00"}"#, Role::Operator),
            (format!("/tasks/{id}/cancel"), "{}", Role::Operator),
            (
                "/tasks/bulk".to_owned(),
                &*format!(r#"{{"action":"delete","ids":["{id}"]}}"#),
                Role::Admin,
            ),
            ("/enqueue".to_owned(), r#"{"kind":"k","payload":1}"#, Role::Admin),
        ]
        .map(|(path, body, needed)| (path, body.to_owned(), needed));
        for (path, body, needed) in orders {
            let headers =
                [("sec-fetch-site", "same-origin"), ("authorization", who.as_str()), JSON];
            let order = request(Method::POST, &format!("/monitor{path}"), &headers, body);
            let answer = rig.send_from(REMOTE, order).await;
            let is_done = answer.status.is_success();
            assert_eq!(is_done, role >= needed, "{name} {path}: {} {}", answer.status, answer.body);
            assert_eq!(answer.status.as_u16() == 403, role < needed, "{name} {path}");
        }
        let trail = rig.trail().await;
        let denied = trail.iter().filter(|it| it.outcome == AuditOutcome::Denied).count();
        assert_eq!(
            denied,
            match role {
                Role::Viewer => 8,
                Role::Operator => 2,
                Role::Admin => 0,
            }
        );
        assert_eq!(trail.len(), 8);
        let actor = Actor::new(name).role(role.as_str()).address("192.0.2.1");
        assert!(trail.iter().all(|entry| entry.actor == actor), "{trail:?}");
    }
}

#[tokio::test]
async fn permissions_can_be_moved() {
    let permissions = Permissions::default().needs(Action::Retry, Role::Admin);
    let rig = Rig::with(MonitorConfig::new(tokens()).permissions(permissions));
    let id = rig.in_state(State::Failed).await;
    let headers = [("authorization", "Bearer tok-1"), JSON];
    // A bearer token cannot have been sent by another site, whatever the browser says.
    let order =
        |action| request(Method::POST, &format!("/monitor/tasks/{id}/{action}"), &headers, "{}");
    rig.send_from(REMOTE, order("retry")).await.is(403).has("takes the role admin");
    let cancelled = rig.send_from(REMOTE, order("cancel")).await;
    assert!([200, 409].contains(&cancelled.status.as_u16()));
}

#[tokio::test]
async fn payloads_are_seen_by_those_who_may() {
    for (name, password, may) in
        [("vera", "v-pass", false), ("otto", "o:pass", true), ("ada", "a-pass", false)]
    {
        let rig = Rig::with(MonitorConfig::new(users()));
        let id = rig.in_state(State::Completed).await;
        let who = basic(name, password);
        let headers = [("authorization", who.as_str())];
        for path in [
            format!("/tasks/{id}"),
            "/tasks".to_owned(),
            format!("/api/v1/tasks/{id}"),
            "/api/v1/tasks".to_owned(),
        ] {
            // Somebody who may looks first: what is kept for one must not be shown to the other.
            let otto = basic("otto", "o:pass");
            rig.get_with(&format!("/monitor{path}"), &[("authorization", &otto)]).await.is(200);
            let page = rig.get_with(&format!("/monitor{path}"), &headers).await.is(200);
            assert_eq!(
                page.body.contains("ada&quot;")
                    || page.body.contains("\"ada\"")
                    || page.body.contains("\\\"ada\\\""),
                may,
                "{name} {path} {}",
                page.body
            );
            assert_eq!(
                page.body.contains("sent") && path.len() > 20,
                may && path.len() > 20,
                "{name} {path}"
            );
        }
        let raw = rig.get_with(&format!("/monitor/tasks/{id}/payload"), &headers).await;
        assert_eq!(raw.status.as_u16(), if may { 200 } else { 403 });
    }
}

#[tokio::test]
async fn read_only_is_read_only_for_everybody_and_everything() {
    let rig = Rig::with(crate::rig::local().read_only(true));
    let id = rig.in_state(State::Failed).await;
    for path in ["/", "/tasks", "/queues", "/queues/default", &format!("/tasks/{id}")] {
        let page = rig.get(&format!("/monitor{path}")).await.is(200).has("read-only");
        for word in ["Run now", "Delete", "Pause</button>", "Enqueue"] {
            assert!(!page.body.contains(word), "{word} in {path}");
        }
    }
    rig.get("/monitor/enqueue").await.is(403);
    for (path, body) in [
        (format!("/tasks/{id}/retry"), "{}"),
        (format!("/api/v1/tasks/{id}/delete"), "{}"),
        ("/queues/default/pause".to_owned(), "{}"),
        ("/enqueue".to_owned(), r#"{"kind":"k","payload":1}"#),
    ] {
        rig.post_json(&format!("/monitor{path}"), body).await.is(403).has("read-only");
    }
    rig.form(&format!("/monitor/tasks/{id}/retry"), "").await.is(403);
    assert_eq!(rig.state(id).await, State::Failed);
    let trail = rig.trail().await;
    assert_eq!(trail.len(), 5);
    assert!(trail.iter().all(|entry| entry.outcome == AuditOutcome::Denied));
}

#[tokio::test]
async fn nothing_is_open_to_other_machines_by_accident() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let rig = Rig::with(MonitorConfig::new(Auth::LoopbackOnly).listen(everywhere));
    let refused = rig.monitor.serve(std::future::pending()).await;
    assert!(matches!(refused, Err(MonitorError::OpenToEveryone { .. })), "{refused:?}");
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = rig.monitor.serve_on(listener, std::future::pending()).await;
    assert!(matches!(refused, Err(MonitorError::OpenToEveryone { .. })), "{refused:?}");
    let meant = Auth::None(Acknowledge::EveryoneMayDoEverything);
    let rig = Rig::with(MonitorConfig::new(meant).listen(everywhere));
    rig.monitor.serve(std::future::ready(())).await.unwrap();
    rig.send_from(REMOTE, request(Method::GET, "/monitor/", &[], ""))
        .await
        .has("Nobody is asked who comes");
    for nobody in [Auth::Basic(vec![]), Auth::Bearer(vec![])] {
        assert!(MonitorConfig::new(nobody).check().is_err());
    }
}
