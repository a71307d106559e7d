//! A request as everything behind the guard sees it, without what it might lie about.

use std::{net::IpAddr, sync::Arc};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_TYPE, COOKIE},
    request::Parts,
};

use crate::{
    auth::{Action, Principal},
    error::PageError,
    link::Links,
    shared::{App, Shared},
};

/// The cookie that keeps the theme.
pub(crate) const THEME_COOKIE: &str = "ergon_theme";

/// In which form the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    Html,
    Json,
}

/// Which colours the page takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Those of the system.
    System,
    Light,
    Dark,
}

impl Theme {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::System, Self::Light, Self::Dark].into_iter().find(|theme| theme.as_str() == name)
    }
}

/// Where a request came from and what it wants.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// The other end of the connection.
    pub(crate) peer: Option<IpAddr>,
    /// Where the request began, as far as trusted proxies say.
    pub(crate) client: Option<IpAddr>,
    /// Whether the browser speaks TLS, as far as trusted proxies say.
    pub(crate) is_https: bool,
    /// The host that was asked, with its port if it has one.
    pub(crate) host: Option<String>,
    pub(crate) links: Links,
    pub(crate) wants: Wants,
    /// The body is JSON, and no form.
    pub(crate) sends_json: bool,
    pub(crate) theme: Theme,
    /// The path behind the base path.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Asked by a stream, for all who follow the same page: a reading that began before is too old.
    pub(crate) not_before: Option<tokio::time::Instant>,
}

impl Visit {
    pub(crate) fn of(parts: &Parts, shared: &Shared) -> Self {
        let headers = &parts.headers;
        let connection = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>();
        let peer = connection.map(|ConnectInfo(address)| address.ip().to_canonical());
        let is_proxy = |address| shared.proxies.iter().any(|proxy| proxy.contains(address));
        let is_trusted = peer.is_some_and(is_proxy);
        let forwarded = |name: &str| text(headers, name).filter(|_| is_trusted);
        // The right-most address that no proxy of ours added itself.
        let client = forwarded("x-forwarded-for").and_then(|list| {
            let hops = list.rsplit(',').map(|hop| hop.trim().parse::<IpAddr>().ok());
            hops.map_while(|hop| hop).find(|&hop| !is_proxy(hop))
        });
        let is_https = match forwarded("x-forwarded-proto") {
            Some(scheme) => scheme.eq_ignore_ascii_case("https"),
            None => parts.uri.scheme_str() == Some("https"),
        };
        let base = &shared.config.base_path;
        let outside = forwarded("x-forwarded-prefix").map(|prefix| prefix.trim_end_matches('/'));
        let outside = outside.filter(|prefix| crate::config::is_base_path(prefix));
        let path = parts.uri.path();
        let path = path.strip_prefix(base.as_str()).unwrap_or(path).to_owned();
        Self {
            peer,
            client: client.or(peer),
            is_https,
            host: text(headers, "host")
                .or_else(|| parts.uri.authority().map(|host| host.as_str()))
                .map(str::to_owned),
            links: Links::new(outside.unwrap_or_default(), base),
            wants: wants(headers, &path),
            sends_json: sends_json(headers),
            theme: cookie(headers, THEME_COOKIE).and_then(Theme::named).unwrap_or(Theme::System),
            path,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            not_before: None,
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Programs ask under `/api/`, or say that they take JSON and not HTML.
fn wants(headers: &HeaderMap, path: &str) -> Wants {
    let accept = text(headers, ACCEPT.as_str()).unwrap_or_default();
    let takes_json = accept.contains("application/json") || accept.contains("problem+json");
    if path.starts_with("/api/")
        || ((takes_json || sends_json(headers)) && !accept.contains("text/html"))
    {
        Wants::Json
    } else {
        Wants::Html
    }
}

fn sends_json(headers: &HeaderMap) -> bool {
    text(headers, CONTENT_TYPE.as_str()).is_some_and(|name| name.starts_with("application/json"))
}

/// What a handler needs to know of its request.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) app: App,
    pub(crate) visit: Visit,
    pub(crate) principal: Principal,
}

impl Context {
    /// Whether whoever asks may give the order, now and here.
    pub(crate) fn may(&self, action: Action) -> bool {
        let config = &self.app.config;
        (!config.read_only || !action.changes())
            && self.principal.role() >= config.permissions.role(action)
    }

    /// Values of a parameter of the query, in order.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.visit.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

impl FromRequestParts<App> for Context {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let visit = parts.extensions.get::<Visit>().cloned();
        let principal = parts.extensions.get::<Principal>().cloned();
        match (visit, principal) {
            (Some(visit), Some(principal)) => Ok(Self { app: Arc::clone(app), visit, principal }),
            // Without the gate before it no handler answers.
            _ => Err(PageError::Unauthenticated(None)),
        }
    }
}
