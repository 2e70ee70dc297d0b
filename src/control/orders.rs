//! The part of the admin page that changes something: reload, and orders about rollouts. Only for who is on this host, and not for a
//! page in a browser there: what a browser sends for a page carries `origin`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::admin::Asker;
use super::plane::Plane;
use super::rollouts::{Wish, WishError};

pub(super) async fn all_rollouts(State(plane): State<Arc<Plane>>) -> Response {
    json(StatusCode::OK, &plane.show_rollouts(None).unwrap_or_default())
}

pub(super) async fn one_rollout(State(plane): State<Arc<Plane>>, Path(model): Path<String>) -> Response {
    match plane.show_rollouts(Some(&model)) {
        Some(shown) => json(StatusCode::OK, &shown),
        None => refusal(StatusCode::NOT_FOUND, "no such model with targets; /rollouts lists them"),
    }
}

pub(super) async fn order_rollout(
    State(plane): State<Arc<Plane>>,
    ConnectInfo(asker): ConnectInfo<Asker>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refused) = stranger(asker, &headers) {
        return refused;
    }
    let wish: Wish = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(error) => {
            let help = "write {\"action\":\"start\"}, {\"action\":\"promote\"}, {\"action\":\"abort\"} or \
                        {\"action\":\"weight\",\"target\":\"...\",\"percent\":20}";
            return refusal(StatusCode::BAD_REQUEST, &format!("this is no order ({error}); {help}"));
        }
    };
    let granted = plane.wish(&model, wish);
    if granted.is_ok() {
        // It holds already; it is written down before the answer says so.
        let _ = tokio::task::spawn_blocking(move || plane.keep_rollouts()).await;
    }
    match granted {
        Ok(shown) => json(StatusCode::OK, &shown),
        Err(error @ WishError::NoModel(_)) => refusal(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

pub(super) async fn reload(State(plane): State<Arc<Plane>>, ConnectInfo(asker): ConnectInfo<Asker>, headers: HeaderMap) -> Response {
    if let Some(refused) = stranger(asker, &headers) {
        return refused;
    }
    // It may wait for a name server.
    match tokio::task::spawn_blocking(move || plane.reload_file()).await {
        Ok(Ok(())) => (StatusCode::OK, "reloaded\n").into_response(),
        Ok(Err(error)) => refusal(StatusCode::CONFLICT, &format!("not reloaded, the former configuration goes on: {error}")),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke; the log says where"),
    }
}

pub(super) fn stranger(asker: Asker, headers: &HeaderMap) -> Option<Response> {
    if !asker.0.ip().to_canonical().is_loopback() {
        return Some(refusal(StatusCode::FORBIDDEN, "this is for operators on this host only: ask from there"));
    }
    let browser = headers.contains_key(header::ORIGIN);
    browser.then(|| refusal(StatusCode::FORBIDDEN, "this is not for pages in a browser: use curl or `headrace`"))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

pub(super) fn refusal(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}
