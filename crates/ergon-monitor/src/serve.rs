//! Serving a monitor on its own: connections that are few, and that cannot be held up.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    response::{IntoResponse as _, Redirect, Response},
};
use http::Uri;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tower::ServiceExt as _;

use self::watch::{Guarded, Times, Turns, Watchful};
use crate::{
    auth::Auth,
    error::{MonitorError, PageError},
    router,
    shared::App,
};

mod watch;

/// How long no connection is taken after the system could not give one: it is out of descriptors, and
/// needs a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection too many may take to be told so.
const FULL_WITHIN: Duration = Duration::from_secs(1);

/// What a connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
    retry-after: 5\r\nconnection: close\r\ncontent-length: 21\r\n\r\nToo many connections\n";

/// Refuses to be open to other machines when nobody is asked who comes.
pub(crate) fn check(auth: &Auth, address: SocketAddr) -> Result<(), MonitorError> {
    let is_meant = auth.asks() || matches!(auth, Auth::None(_));
    if is_meant || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(MonitorError::OpenToEveryone { address })
    }
}

/// Serves until `shutdown` resolves.
pub(crate) async fn serve(
    app: &App,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MonitorError> {
    let unknown = app.config.listen;
    let address = listener
        .local_addr()
        .map_err(|source| MonitorError::Listen { address: unknown, source })?;
    check(&app.config.auth, address)?;
    tracing::info!(%address, base_path = app.config.base_path, "the monitor is served");
    let routes = standalone(app);
    let places = Arc::new(Semaphore::new(app.config.connections_max));
    let graceful = GracefulShutdown::new();
    // Dropped with this future, and every connection with it.
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            // Those that ended are forgotten.
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let connection = connection(app, &routes, stream, peer, place, &graceful);
                        connections.spawn(connection);
                    }
                    Err(_full) => {
                        connections.spawn(refuse(stream));
                    }
                },
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // From here on nobody can connect.
    drop(listener);
    app.streams.cancel();
    app.tasks.close();
    let ended = async {
        graceful.shutdown().await;
        app.tasks.wait().await;
    };
    if tokio::time::timeout(app.config.grace_period, ended).await.is_err() {
        tracing::warn!("requests were under way when the monitor stopped");
    }
    Ok(())
}

/// The routes, and what is at every other address.
fn standalone(app: &App) -> Router {
    let routes = router::router(app);
    if app.config.base_path.is_empty() {
        return routes;
    }
    let target = format!("{}/", app.config.base_path);
    let elsewhere = move |uri: Uri| async move {
        if uri.path() == "/" {
            Redirect::to(&target).into_response()
        } else {
            PageError::NotFound("There is no such page.".to_owned()).into_response()
        }
    };
    routes.merge(router::framed(app, Router::new().fallback(elsewhere)))
}

/// Tells a connection too many that it is.
async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await
    };
    // Nobody is owed more than the attempt.
    let _ = tokio::time::timeout(FULL_WITHIN, told).await;
}

/// Serves one connection.
fn connection(
    app: &App,
    routes: &Router,
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + 'static + use<> {
    let config = &app.config;
    let times = Times {
        head: config.header_timeout,
        idle: config.idle_timeout,
        write: config.write_timeout,
    };
    let turns = Turns::new();
    let stream = Watchful::new(stream, times, turns.clone());
    let routes = routes.clone();
    let entering = turns.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let (routes, busy) = (routes.clone(), entering.enter());
        async move {
            let answered = routes.oneshot(request).await;
            answered.map(|response: Response| response.map(|body| Guarded::new(body, busy)))
        }
    });
    // The time is watched over by ourselves, also between two requests.
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(64)
        .max_buf_size(32 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let served = graceful.watch(served);
    async move {
        tokio::select! {
            // A connection that breaks off is nobody's fault here.
            ended = served => if let Err(error) = ended {
                tracing::debug!(error = %error, "a connection broke off");
            },
            () = turns.exhausted(times) => tracing::debug!("a connection was silent for too long"),
        }
        drop(place);
    }
}
