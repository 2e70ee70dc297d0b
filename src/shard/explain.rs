//! Which endpoint a request would be sent to, and why: the same hashes, prompts and rules as an exchange uses. From a configuration
//! alone, with nothing in flight, nothing reported and nothing remembered; or on a shard that serves, with all that it knows.

use serde::{Deserialize, Serialize};

use super::Shard;
use super::wish::{self, Steered, add_body, wish_of_head};
use crate::config::{Config, Endpoint, EndpointAddr, UpstreamId};
use crate::http::{HeadLimits, Parsed, RequestHead};
use crate::json::scan_model;
use crate::mesh::{Reply, Shared};
use crate::policy::{Ask, Balancer, Candidate, Explanation, Operation, Prompt, Router, Wish, normal_form};

/// A request as somebody describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    pub path: String,
    /// In place of the body's.
    pub model: Option<String>,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The client's address as text, if it is known.
    pub client: String,
    /// As text where it is written: a body that says where it goes is JSON.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub body: Vec<u8>,
}

fn as_text<S: serde::Serializer>(body: &[u8], out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&String::from_utf8_lossy(body))
}

fn from_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(from).map(String::into_bytes)
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
    let place = place(config, &Router::new(config), asked)?;
    let mut balancer = Balancer::for_upstream(config.upstream(place.upstream), config.server.zone.as_deref());
    let ask = Ask { wish: place.wish(), ..Ask::default() };
    let explanation = balancer.explain(&ask, &|_| true);
    let prompt_blocks = place.prompt_blocks();
    let Place { target, upstream, is_merged, .. } = place;
    Ok(Explained { target, upstream, is_merged, prompt_blocks, explanation })
}

/// Where a request belongs, and what it says of the endpoint it wants.
struct Place {
    target: String,
    upstream: UpstreamId,
    is_merged: bool,
    steered: Option<Box<Steered>>,
}

impl Place {
    fn wish(&self) -> Option<&Wish> {
        self.steered.as_ref().map(|steered| &steered.wish)
    }

    fn prompt_blocks(&self) -> Option<usize> {
        self.wish().and_then(|wish| wish.prompt.as_ref()).map(Prompt::blocks)
    }
}

fn place(config: &Config, router: &Router, asked: &Asked) -> Result<Place, String> {
    let mut scratch = Vec::new();
    let path = asked.path.split('?').next().unwrap_or_default();
    let path = normal_form(path.as_bytes(), &mut scratch).map_err(|_| format!("{path:?} is not a path; write one like /v1/completions"))?;
    let operation = Operation::from_path(path);
    if let Some(route) = router.resolve_path(path) {
        let route = config.route(route);
        return steered(config, asked, route.upstream, format!("route {}", route.path), None, false);
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
    steered(config, asked, model.upstream, format!("model \"{}\"", model.name), Some((operation, &name)), merges)
}

fn steered(
    config: &Config,
    asked: &Asked,
    id: UpstreamId,
    target: String,
    model: Option<(Operation, &str)>,
    is_merged: bool,
) -> Result<Place, String> {
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
    Ok(Place { target, upstream: id, is_merged, steered })
}

fn head_bytes(asked: &Asked) -> Vec<u8> {
    let mut bytes = format!("POST {} HTTP/1.1\r\nhost: headrace\r\n", asked.path).into_bytes();
    for (name, value) in &asked.fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A question to a shard that serves.
#[derive(Debug)]
pub struct Question {
    pub asked: Shared<Asked>,
    pub reply: Reply<Result<Told, String>>,
}

/// What one shard would do with a request now, in names.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Told {
    /// `model "x"` or `route /y`, as configured.
    pub target: String,
    pub upstream: String,
    pub balance: &'static str,
    /// Single requests of this kind are merged: their lane picks, not the balancer.
    pub merged: bool,
    pub prompt_blocks: Option<usize>,
    /// `None`: no endpoint is usable.
    pub endpoint: Option<String>,
    pub reason: Option<&'static str>,
    /// What the scores are, and which end of them wins.
    pub score: &'static str,
    pub candidates: Vec<ToldEndpoint>,
}

/// One endpoint as one shard sees it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ToldEndpoint {
    pub endpoint: String,
    pub chosen: bool,
    pub usable: bool,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// The probes say that it is down.
    pub down: bool,
    /// For so long it asked not to be called.
    pub paused_ms: u64,
    /// This shard's own calls.
    pub in_flight: u32,
    /// With what engines report added to them.
    pub load: f64,
    pub weight: u32,
    pub zone: Option<String>,
    pub near: bool,
    pub score: f64,
}

impl Shard {
    /// Answers an operator's question. It costs about as much as a request's choice.
    pub(super) fn answer_question(&self, question: Question) {
        let told = self.tell(&question.asked);
        question.reply.say(told);
    }

    fn tell(&self, asked: &Asked) -> Result<Told, String> {
        let (snapshot, now) = (self.snapshot(), self.rt.now());
        let place = place(&snapshot.config, &snapshot.router, asked)?;
        let (config, upstream) = (snapshot.config.upstream(place.upstream), snapshot.upstream(place.upstream));
        let health = upstream.health.borrow();
        let view = health.view(now);
        let ask = Ask { wish: place.wish(), now, random: self.random_u64(), ..Ask::default() };
        let mut balancer = upstream.balancer.borrow_mut();
        let mut explanation = balancer.explain(&ask, &|endpoint| view.is_usable(endpoint));
        if explanation.choice.is_none() {
            // As an exchange does: one that is still starting is better than none.
            explanation = balancer.explain(&ask, &|endpoint| view.whole().is_usable(endpoint));
        }
        let chosen = explanation.choice.map(|choice| choice.endpoint);
        let candidate = |one: &Candidate| {
            let (endpoint, standing) = (&config.endpoints[one.endpoint as usize], health.standing(one.endpoint, now));
            ToldEndpoint {
                endpoint: name(endpoint),
                chosen: chosen == Some(one.endpoint),
                usable: one.usable,
                breaker: standing.breaker.as_str(),
                down: standing.down,
                paused_ms: u64::try_from(standing.paused.as_millis()).unwrap_or(u64::MAX),
                in_flight: one.in_flight,
                load: one.load,
                weight: one.weight,
                zone: endpoint.zone.clone(),
                near: one.near,
                score: one.score,
            }
        };
        Ok(Told {
            upstream: config.name.clone(),
            balance: config.balance.as_str(),
            merged: place.is_merged,
            prompt_blocks: place.prompt_blocks(),
            endpoint: chosen.map(|endpoint| name(&config.endpoints[endpoint as usize])),
            reason: explanation.choice.map(|choice| choice.why.as_str()),
            score: explanation.score,
            candidates: explanation.candidates.iter().map(candidate).collect(),
            target: place.target,
        })
    }
}

/// As metrics and the log call it.
fn name(endpoint: &Endpoint) -> String {
    match &endpoint.addr {
        EndpointAddr::Tcp { .. } => endpoint.authority.clone(),
        EndpointAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}
