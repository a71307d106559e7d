//! What can go wrong: while a monitor starts, and while it answers.

use axum::response::{IntoResponse, Response};
use ergon_core::{EnqueueError, StoreError};
use http::StatusCode;

/// Why a monitor did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// A field of the [`MonitorConfig`](crate::MonitorConfig) is out of its range.
    #[error("{field}: {reason}")]
    InvalidConfig {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Other machines could reach the monitor, and nobody would be asked who comes.
    #[error(
        "{address} can be reached from other machines, and nobody is asked who comes: listen on \
         127.0.0.1, or choose Auth::Basic, Bearer, ForwardedUser or Custom, or say \
         Auth::None(Acknowledge::EveryoneMayDoEverything)"
    )]
    OpenToEveryone {
        /// Where it would have listened.
        address: std::net::SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl MonitorError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidConfig { field, reason: reason.into() }
    }
}

/// Why a request is not answered as it was meant.
///
/// As a response it is empty: the [frame](crate::frame) writes the page or the problem document, in
/// one place for all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    /// The request cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// Nobody is known to have sent this; the text is the challenge.
    #[error("sign in to go on")]
    Unauthenticated(Option<String>),
    /// Whoever sent it may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing can be changed here.
    #[error("this monitor is read-only: nothing can be changed through it")]
    ReadOnly,
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The address exists, but not for this method.
    #[error("this address does not take this method")]
    Method,
    /// What was asked for does not fit how things stand.
    #[error("{0}")]
    Conflict(String),
    /// The body is larger than can be taken.
    #[error("the body exceeds {0} bytes")]
    BodyTooLarge(usize),
    /// The address is longer than can be taken.
    #[error("the address is too long: its query may have {0} bytes")]
    QueryTooLong(usize),
    /// The body took too long to arrive.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// The body is of a type that is not understood.
    #[error("the body has to be a form or JSON")]
    MediaType,
    /// The request names a host that this monitor is not known under.
    #[error("this monitor does not answer to the host name of the request")]
    Misdirected,
    /// Too many requests, or too many wrong credentials.
    #[error("too many {what}: try again in {seconds} s")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// When to try again.
        seconds: u64,
    },
    /// The store did not answer as it should.
    #[error(transparent)]
    Store(Trouble),
}

impl PageError {
    /// The status of the response.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::ReadOnly => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::QueryTooLong(_) => StatusCode::URI_TOO_LONG,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What it is called, for people.
    pub(crate) const fn title(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "The request cannot be understood",
            Self::Unauthenticated(_) => "Who are you?",
            Self::Forbidden(_) => "You may not do this",
            Self::ReadOnly => "Read-only",
            Self::NotFound(_) => "Not found",
            Self::Method => "Not this way",
            Self::Conflict(_) => "That does not fit how things stand",
            Self::BodyTooLarge(_) | Self::QueryTooLong(_) => "Too large",
            Self::BodyTooSlow => "Too slow",
            Self::MediaType => "Neither a form nor JSON",
            Self::Misdirected => "Wrong host",
            Self::TooMany { .. } => "Too many",
            Self::Store(_) => "The store does not answer",
        }
    }

    /// What it is called, for programs.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Forbidden(_) => "forbidden",
            Self::ReadOnly => "read-only",
            Self::NotFound(_) => "not-found",
            Self::Method => "method-not-allowed",
            Self::Conflict(_) => "conflict",
            Self::BodyTooLarge(_) => "body-too-large",
            Self::QueryTooLong(_) => "query-too-long",
            Self::BodyTooSlow => "body-too-slow",
            Self::MediaType => "unsupported-media-type",
            Self::Misdirected => "misdirected",
            Self::TooMany { .. } => "too-many",
            Self::Store(_) => "store-unavailable",
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Trouble> for PageError {
    fn from(trouble: Trouble) -> Self {
        Self::Store(trouble)
    }
}

/// Why the store did not answer a reading or an order as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It took too long.
    #[error("the store did not answer within {0} s")]
    Late(String),
    /// An order took too long.
    #[error("the store did not answer within {0} s: the order may have been carried out, or not")]
    Unsure(String),
    /// It failed; what it said is in the log under this reference.
    #[error("the store reported a failure (reference {0})")]
    Failed(String),
}

/// What an order came to, if not to verdicts.
pub(crate) fn of_order(error: StoreError, reference: &dyn Fn(&StoreError) -> Trouble) -> PageError {
    match error {
        StoreError::Rejected { reason, .. } => PageError::Malformed(reason.to_string()),
        StoreError::BatchTooLarge { .. } => PageError::Malformed(error.to_string()),
        StoreError::Unavailable { .. }
        | StoreError::Conflict
        | StoreError::Corrupt { .. }
        | StoreError::Closed
        | StoreError::Failed { .. }
        | StoreError::Backend { .. }
        | _ => PageError::Store(reference(&error)),
    }
}

/// What an enqueue came to, if not to a task.
pub(crate) fn of_enqueue(
    error: EnqueueError,
    reference: &dyn Fn(&StoreError) -> Trouble,
) -> PageError {
    match error {
        EnqueueError::Store { source } => of_order(source, reference),
        EnqueueError::Duplicate { .. } => PageError::Conflict(error.to_string()),
        EnqueueError::Encode { .. }
        | EnqueueError::PayloadTooLarge { .. }
        | EnqueueError::InvalidOptions { .. }
        | _ => PageError::Malformed(error.to_string()),
    }
}
