//! What a request has to be to be taken: its host, where it comes from, and what an answer carries.

use http::Method;

use crate::rig::{FORM, JSON, LOCAL, Rig, local, request};

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn every_answer_carries_the_policy() {
    let rig = Rig::new();
    for path in
        ["/", "/nowhere", "/tasks?state=x", "/healthz", "/readyz", "/metrics", "/api/v1/stats"]
    {
        let answer = rig.get(&format!("/monitor{path}")).await;
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                 connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; \
                 frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("access-control-allow-origin", ""),
            ("server", ""),
        ] {
            assert_eq!(answer.header(name), value, "{name} of {path}");
        }
    }
    let preflight =
        request(Method::OPTIONS, "/monitor/tasks/bulk", &[("origin", "https://evil.example")], "");
    let answer = rig.send_from(LOCAL, preflight).await.is(405);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn only_known_hosts_are_answered() {
    let rig = Rig::with(local().public_host("ergon.example"));
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:7766", 200),
        ("[::1]:7766", 200),
        ("ergon.example", 200),
        ("ERGON.example:443", 200),
        ("evil.example", 421),
        ("ergon.example.evil.example", 421),
        ("10.0.0.7", 421),
        ("", 421),
    ] {
        let page = rig.get_with("/monitor/", &[("host", host)]).await.is(status);
        assert_eq!(page.body.contains("Wrong host"), status == 421, "{host}");
        page.has_not("evil.example");
    }
    // Probes ask by address, and still not by any name.
    for (path, host, status) in [
        ("/healthz", "10.0.0.7:7766", 200),
        ("/readyz", "[fd00::7]", 200),
        ("/metrics", "10.0.0.7", 200),
        ("/healthz", "evil.example", 421),
        ("/metrics", "evil.example", 421),
    ] {
        rig.get_with(&format!("/monitor{path}"), &[("host", host)]).await.is(status);
    }
}

#[tokio::test]
async fn what_changes_something_has_to_come_from_our_own_pages() {
    let rig = Rig::with(local().public_url("https://ergon.example"));
    let token = rig.get("/monitor/").await.token();
    let good = format!("_token={token}");
    let own = ("origin", "http://localhost:7766");
    let site = |value| ("sec-fetch-site", value);
    let cases: &[(Headers<'_>, &str, u16)] = &[
        (&[site("same-origin"), FORM], &good, 303),
        (&[own, FORM], &good, 303),
        (&[("origin", "https://ergon.example"), FORM], &good, 303),
        (&[site("same-origin"), JSON], "{}", 204),
        (&[own, JSON], "{}", 204),
        (&[site("same-origin")], "", 303),
        // Another site, or nobody knows.
        (&[site("cross-site"), FORM], &good, 403),
        (&[site("same-site"), FORM], &good, 403),
        (&[site("none"), FORM], &good, 403),
        (&[site("cross-site"), own, FORM], &good, 403),
        (&[("origin", "http://evil.example"), FORM], &good, 403),
        (&[("origin", "https://localhost:7766"), FORM], &good, 403),
        (&[("origin", "http://localhost:1"), FORM], &good, 403),
        (&[("origin", "null"), FORM], &good, 403),
        (&[("referer", "http://localhost:7766/monitor/"), FORM], &good, 403),
        (&[FORM], &good, 403),
        (&[JSON], "{}", 403),
        // A form of ours, without its token.
        (&[site("same-origin"), FORM], "", 403),
        (&[site("same-origin"), FORM], "_token=", 403),
        (&[site("same-origin"), FORM], "_token=AAAAAAAAAAAA", 403),
        // What no form of ours is.
        (&[site("same-origin"), ("content-type", "text/plain")], "{}", 415),
        (&[site("same-origin"), ("content-type", "multipart/form-data; boundary=x")], "", 415),
        (&[site("same-origin")], "{}", 415),
    ];
    for (headers, body, status) in cases {
        let order =
            request(Method::POST, "/monitor/queues/default/pause", headers, (*body).to_owned());
        let answer = rig.send_from(LOCAL, order).await;
        assert_eq!(answer.status.as_u16(), *status, "{headers:?} {body:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_form_can_be_sent_for_half_a_day() {
    let rig = Rig::new();
    let token = rig.get("/monitor/").await.token();
    let send = || {
        let headers = [("sec-fetch-site", "same-origin"), FORM];
        request(Method::POST, "/monitor/queues/default/pause", &headers, format!("_token={token}"))
    };
    rig.clock.advance(std::time::Duration::from_secs(12 * 3600 - 1));
    rig.send_from(LOCAL, send()).await.is(303);
    rig.clock.advance(std::time::Duration::from_secs(1));
    rig.send_from(LOCAL, send()).await.is(403).has("too old");
}

#[tokio::test]
async fn a_form_of_one_process_is_taken_by_another_of_the_same_store() {
    let rig = Rig::new();
    let token = rig.get("/monitor/").await.token();
    let other = rig.beside();
    let headers = [("sec-fetch-site", "same-origin"), FORM];
    let send = || {
        request(Method::POST, "/monitor/queues/default/pause", &headers, format!("_token={token}"))
    };
    other.send_from(LOCAL, send()).await.is(303);
    Rig::new().send_from(LOCAL, send()).await.is(403);
}

#[tokio::test]
async fn nothing_is_changed_by_looking() {
    let rig = Rig::new();
    let id = rig.task().await;
    for path in [
        format!("/tasks/{id}/cancel"),
        format!("/tasks/{id}/delete?confirm=yes"),
        "/queues/default/pause".to_owned(),
        "/theme?theme=dark".to_owned(),
    ] {
        rig.get(&format!("/monitor{path}")).await.is(405);
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let headers = [("sec-fetch-site", "same-origin")];
        let order = request(method, &format!("/monitor/tasks/{id}"), &headers, "");
        rig.send_from(LOCAL, order).await.is(405);
    }
    assert_eq!(rig.state(id).await, ergon_core::State::Pending);
    assert!(rig.trail().await.is_empty());
}

#[tokio::test]
async fn the_theme_leads_nowhere_but_back() {
    let rig = Rig::new();
    for (back, expected) in [
        ("/monitor/queues", "/monitor/queues"),
        ("//evil.example", "/monitor/"),
        ("https://evil.example/monitor/", "/monitor/"),
        ("/other", "/monitor/"),
        ("", "/monitor/"),
    ] {
        let answer = rig.form("/monitor/theme", &format!("theme=dark&back={back}")).await.is(303);
        assert_eq!(answer.header("location"), expected);
        let cookie = answer.header("set-cookie");
        for part in ["ergon_theme=dark", "Path=/monitor", "HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(part), "{cookie}");
        }
    }
    let dark = rig.get_with("/monitor/", &[("cookie", "a=b; ergon_theme=dark")]).await;
    dark.has("data-theme=\"dark\"");
    let odd = rig.get_with("/monitor/", &[("cookie", "ergon_theme=\"><script>")]).await;
    odd.has_not("data-theme");
}

#[tokio::test]
async fn addresses_follow_a_prefix_of_a_trusted_proxy_alone() {
    let rig = Rig::with(
        ergon_monitor::MonitorConfig::new(ergon_monitor::Auth::None(
            ergon_monitor::Acknowledge::EveryoneMayDoEverything,
        ))
        .trusted_proxy("10.0.0.0/8".parse().unwrap()),
    );
    let ask = |prefix| request(Method::GET, "/monitor/", &[("x-forwarded-prefix", prefix)], "");
    rig.send_from("10.1.2.3:1", ask("/tools")).await.is(200).has("href=\"/tools/monitor/tasks\"");
    rig.send_from("192.0.2.1:1", ask("/tools")).await.is(200).has_not("/tools");
    rig.send_from("10.1.2.3:1", ask("//evil.example")).await.is(200).has_not("evil.example");
    rig.send_from("10.1.2.3:1", ask("/\"><b>")).await.is(200).has_not("<b>");
}
