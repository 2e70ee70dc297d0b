//! Which endpoint a request would be sent to, and why, from a configuration alone: the same hashes, prompts and rules as an exchange
//! uses, with nothing in flight, nothing reported and nothing remembered.

use super::wish::{self, add_body, wish_of_head};
use crate::config::{Config, UpstreamId};
use crate::http::{HeadLimits, Parsed, RequestHead};
use crate::json::scan_model;
use crate::policy::{Ask, Balancer, Explanation, Operation, Router, normal_form};

/// A request as somebody describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    pub path: String,
    /// In place of the body's.
    pub model: Option<String>,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The client's address as text, if it is known.
    pub client: String,
    pub body: Vec<u8>,
}

/// Where a request belongs, and the choice there.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    /// `model "x"` or `route /y`, as configured.
    pub target: String,
    pub upstream: UpstreamId,
    /// Single requests of this kind are merged: their lane picks, not the balancer.
    pub is_merged: bool,
    /// Blocks of the prompt that count for prefix affinity; `None` when there is no prompt, or nobody asks for it.
    pub prompt_blocks: Option<usize>,
    pub explanation: Explanation,
}

/// Explains.
///
/// # Errors
/// Why the request would be refused before an endpoint is chosen, and what to do instead.
pub fn explain(config: &Config, asked: &Asked) -> Result<Explained, String> {
    let router = Router::new(config);
    let mut scratch = Vec::new();
    let path = asked.path.split('?').next().unwrap_or_default();
    let path = normal_form(path.as_bytes(), &mut scratch).map_err(|_| format!("{path:?} is not a path; write one like /v1/completions"))?;
    let operation = Operation::from_path(path);
    if let Some(route) = router.resolve_path(path) {
        let route = config.route(route);
        return choice(config, asked, route.upstream, format!("route {}", route.path), None, None);
    }
    let Some(operation) = operation.filter(|_| !config.models.is_empty()) else {
        let shown = String::from_utf8_lossy(path).into_owned();
        return Err(format!("no route takes {shown} and it is no model call; add a route, or ask for a path like /v1/chat/completions"));
    };
    let name = match &asked.model {
        Some(name) => name.clone(),
        None => {
            let found = scan_model(&asked.body).map_err(|error| format!("the body: {error}"))?;
            let missing = "nothing says which model is asked for; give --model, or a body with one";
            found.model.map(|model| model.decode(&asked.body).into_owned()).ok_or(missing)?
        }
    };
    let Some(model) = router.resolve_model(name.as_bytes()) else {
        let known: Vec<&str> = config.models.iter().map(|model| model.name.as_str()).collect();
        return Err(format!("no model takes {name:?} (404); there are {}", known.join(", ")));
    };
    let model = config.model(model);
    let merges = operation.coalescible() && model.batching.mode != crate::config::BatchingMode::Off;
    choice(config, asked, model.upstream, format!("model \"{}\"", model.name), Some((operation, &name)), Some(merges))
}

fn choice(
    config: &Config,
    asked: &Asked,
    id: UpstreamId,
    target: String,
    model: Option<(Operation, &str)>,
    merges: Option<bool>,
) -> Result<Explained, String> {
    let upstream = config.upstream(id);
    let bytes = head_bytes(asked);
    let mut head = RequestHead::new();
    match head.parse(&bytes, &mut 0, &HeadLimits::default()) {
        Ok(Parsed::Complete) => {}
        Ok(Parsed::Partial) => return Err("the fields do not make a head; write each as NAME=VALUE".to_owned()),
        Err(error) => return Err(format!("a request with these fields is refused: {} ({})", error.reason, error.status)),
    }
    let mut steered = wish_of_head(upstream, wish::Head { head: &head, bytes: &bytes, client: &asked.client });
    if let (Some(steered), Some((operation, name))) = (&mut steered, model) {
        add_body(steered, upstream, operation, name.as_bytes(), &asked.body);
    }
    let balancer = Balancer::for_upstream(upstream, config.server.zone.as_deref());
    let wish = steered.as_ref().map(|steered| &steered.wish);
    let ask = Ask { wish, ..Ask::default() };
    let prompt_blocks = wish.and_then(|wish| wish.prompt.as_ref()).map(crate::policy::Prompt::blocks);
    let explanation = balancer.explain(&ask, &|_| true);
    Ok(Explained { target, upstream: id, is_merged: merges.unwrap_or(false), prompt_blocks, explanation })
}

fn head_bytes(asked: &Asked) -> Vec<u8> {
    let mut bytes = format!("POST {} HTTP/1.1\r\nhost: headrace\r\n", asked.path).into_bytes();
    for (name, value) in &asked.fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
