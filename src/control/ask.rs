//! What the admin page tells operators of this host, and nobody else: the configuration in force, and where a request would go. It
//! changes nothing; `headrace check --live` and `headrace routes explain --admin` ask here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::admin::Asker;
use super::orders::{refusal, stranger};
use super::plane::Plane;
use crate::mesh::{Shared, reply};
use crate::shard::{Asked, Message, Question};

/// What is written in the configuration in force, without its comments.
pub(super) async fn configuration(State(plane): State<Arc<Plane>>, ConnectInfo(asker): ConnectInfo<Asker>, headers: HeaderMap) -> Response {
    if let Some(refused) = stranger(asker, &headers) {
        return refused;
    }
    match plane.written() {
        Some(text) => ([(header::CONTENT_TYPE, "application/toml")], text).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "this gateway was not started from a file, so there is no text of its configuration"),
    }
}

/// What each shard would do with a request.
pub(super) async fn explain(
    State(plane): State<Arc<Plane>>,
    ConnectInfo(asker): ConnectInfo<Asker>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refused) = stranger(asker, &headers) {
        return refused;
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &format!("this is no question ({error}); `headrace routes explain` asks")),
    };
    // It waits for shards.
    let told = tokio::task::spawn_blocking(move || ask_shards(&plane, asked)).await;
    let told = told.unwrap_or_else(|_| json!({ "ok": false, "error": "the question broke; the log says where" }));
    ([(header::CONTENT_TYPE, "application/json")], format!("{told:#}\n")).into_response()
}

/// Asks all at once. One that is too busy to hear or to answer is left out and named.
fn ask_shards(plane: &Plane, asked: Asked) -> Value {
    let asked = Shared::new(asked);
    let ask = |(shard, line): (u32, &super::plane::ShardLine)| {
        let (reply, awaited) = reply();
        let question = Message::Question(Box::new(Question { asked: asked.clone(), reply }));
        (shard, line.sender.send(question).is_ok().then_some(awaited))
    };
    let awaited: Vec<_> = (0..).zip(plane.shards()).map(ask).collect();
    let (mut shards, mut silent) = (Vec::new(), Vec::new());
    let until = plane.now() + PATIENCE;
    for (shard, awaited) in awaited {
        match awaited.and_then(|awaited| awaited.wait(until.since(plane.now()))) {
            Some(Ok(told)) => shards.push(json!({ "shard": shard, "told": told })),
            // They all say the same: it is about the request.
            Some(Err(why)) => return json!({ "ok": false, "error": why }),
            None => silent.push(shard),
        }
    }
    json!({ "ok": true, "shards": shards, "silent": silent })
}

/// For all of them. A shard takes microseconds for a turn: one that says nothing for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(2);
