//! What a server has to be, and what a session is made to be.

use super::*;

fn good() -> Server {
    Server {
        version_number: 130_000,
        version: "13.0".to_owned(),
        is_read_only: false,
        fsync: "on".to_owned(),
        full_page_writes: "on".to_owned(),
        synchronous_commit: "on".to_owned(),
        encoding: "UTF8".to_owned(),
        unlogged: None,
        has_tables: false,
        offset: 0,
    }
}

/// What a server that differs is answered, strictly and when it may lose what it acknowledges.
#[track_caller]
fn check(change: impl FnOnce(&mut Server), strict: Option<&str>, lax: Option<&str>) {
    let mut server = good();
    change(&mut server);
    for (allowed, expected) in [(false, strict), (true, lax)] {
        let options = PostgresOptions::default().allow_unsafe_durability(allowed);
        let error = server.check(&options).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), expected);
    }
}

#[test]
fn a_server_is_taken_or_told_what_is_wrong() {
    let lossy =
        |setting: &str| Some(format!("the server may lose what it acknowledges: {setting}"));
    check(|_| (), None, None);
    let old = Some("PostgreSQL 12.22 is not supported; 13 or newer is needed");
    let change = |server: &mut Server| {
        server.version_number = 120_022;
        server.version = "12.22".to_owned();
    };
    check(change, old, old);
    let standby = Some("the server takes no writes: connect to the primary");
    check(|server| server.is_read_only = true, standby, standby);
    let latin = Some("the encoding of the database is LATIN1; UTF8 is needed");
    check(|server| server.encoding = "LATIN1".to_owned(), latin, latin);
    let off = || "off".to_owned();
    check(|server| server.fsync = off(), lossy("fsync is off").as_deref(), None);
    let torn = lossy("full_page_writes is off");
    check(|server| server.full_page_writes = off(), torn.as_deref(), None);
    let unsynced = lossy("synchronous_commit is off");
    check(|server| server.synchronous_commit = off(), unsynced.as_deref(), None);
    for level in ["local", "remote_write", "remote_apply"] {
        check(|server| server.synchronous_commit = level.to_owned(), None, None);
    }
    let unlogged = lossy("unlogged tables is ready, task");
    check(|server| server.unlogged = Some("ready, task".to_owned()), unlogged.as_deref(), None);
    // Clocks that differ are warned of.
    check(|server| server.offset = -5_000_000, None, None);
}

#[test]
fn what_is_no_url_of_a_database_is_refused_without_being_told() {
    let urls = [
        "",
        "hunter2",
        "mysql://app:hunter2@localhost/app",
        "postgres://app:hun/ter2@localhost",
        "postgres://app:hunter2@localhost:x/app",
        "postgres://app:hunter2@local host/app",
        "postgres://app:hunter2@localhost/app?sslmode=x",
        "postgres://app:hunter2@localhost/app?port=x",
    ];
    for url in urls {
        let error = parse(url).err().unwrap_or_else(|| unreachable!("{url:?} was taken"));
        assert!(matches!(error, ConnectError::InvalidOption { field: "url", .. }), "{error:?}");
        let told = format!("{error:?} {}", ergon_core::text::error_chain(&error));
        assert!(!told.contains("hunter2") && !told.contains("ter2"), "{told}");
    }
}

#[test]
fn a_session_is_named_unless_the_url_names_it() {
    let of = |url: &str, options: &PostgresOptions| session(options, parse(url).unwrap());
    let options = PostgresOptions::default();
    let plain = of("postgres://localhost/app", &options);
    assert_eq!(plain.get_application_name(), Some("ergon"));
    let named = of("postgres://localhost/app?application_name=shop", &options);
    assert_eq!(named.get_application_name(), Some("shop"));
    assert_eq!(
        plain.get_options(),
        Some(
            "-c default_transaction_isolation=read\\ committed -c statement_timeout=11000ms \
             -c lock_timeout=2000ms -c idle_in_transaction_session_timeout=15000ms \
             -c enable_seqscan=off -c plan_cache_mode=force_generic_plan -c jit=off"
        )
    );
}

#[test]
fn sessions_behind_a_pooler_are_not_configured() {
    let options = PostgresOptions::default().pooled_by_bouncer(true);
    let session = session(&options, parse("postgres://localhost/app").unwrap());
    assert_eq!(session.get_options(), None);
}

#[test]
fn options_out_of_range_are_named() {
    let options = PostgresOptions::default;
    let (zero, long) = (Duration::ZERO, Duration::from_secs(25 * 3600));
    let cases = [
        ("schema", options().schema("Ergon")),
        ("max_connections", options().max_connections(1)),
        ("acquire_timeout", options().acquire_timeout(zero)),
        ("statement_timeout", options().statement_timeout(zero)),
        ("statement_timeout", options().statement_timeout(long)),
        ("lock_timeout", options().lock_timeout(zero)),
        (
            "idle_in_transaction_session_timeout",
            options().idle_in_transaction_session_timeout(zero),
        ),
        ("poll_interval", options().poll_interval(zero)),
        ("partition_span", options().partition_span(long / 60)),
        ("partition_span", options().partition_span(long + Duration::from_secs(1))),
    ];
    for (field, options) in cases {
        match options.check() {
            Err(ConnectError::InvalidOption { field: named, .. }) => assert_eq!(named, field),
            other => unreachable!("{field}: {other:?}"),
        }
    }
    assert_eq!(options().check().unwrap().name(), "ergon");
}
