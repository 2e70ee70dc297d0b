//! What a request says about the endpoint it wants: fields and prompt, hashed. Only upstreams whose endpoints are chosen by such
//! things ask; for all others there is no [`Wish`] and nothing is looked at.

use crate::config::{Engine, HashKey, Upstream};
use crate::http::{Known, RequestHead};
use crate::json::scan_prompt;
use crate::policy::{Operation, Prompt, Wish, hash_bytes};

/// A request to an upstream that asks where it wants to go.
pub(super) struct Steered {
    pub(super) wish: Wish,
    /// The engine is asked to tell its load with the answer (ORCA). The client did not ask: that field is not for it.
    pub(super) asks_load: bool,
}

/// The request's head as far as it matters here.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) head: &'a RequestHead,
    /// What the head's spans lie in.
    pub(super) bytes: &'a [u8],
    /// The client's address as text.
    pub(super) client: &'a str,
}

/// Whether the body must be read whole to choose an endpoint of `upstream`: for its prompt, or for the model's name where that may be
/// an adapter's that only some endpoints have loaded.
pub(super) fn wants_body(upstream: &Upstream, operation: Operation) -> bool {
    let by_adapter = upstream.steering.engine == Some(Engine::Vllm);
    generates(operation) && (upstream.steering.prefix_affinity.is_some() || by_adapter) && upstream.endpoints.len() > 1
}

const fn generates(operation: Operation) -> bool {
    matches!(operation, Operation::ChatCompletions | Operation::Completions | Operation::Responses | Operation::Messages)
}

/// What the head alone says. `None` when this upstream does not ask.
pub(super) fn wish_of_head(upstream: &Upstream, head: Head<'_>) -> Option<Box<Steered>> {
    let steering = &upstream.steering;
    let hashed = upstream.balance == crate::config::Balance::ConsistentHash;
    if !hashed && steering.affinity.is_none() && steering.engine.is_none() && steering.prefix_affinity.is_none() {
        return None;
    }
    let key = if hashed { key_of(&steering.hash, head) } else { None };
    let session = steering.affinity.as_ref().and_then(|name| head.field(name)).map(|value| hash_bytes(SESSION, value));
    let tells = matches!(steering.engine, Some(Engine::Vllm | Engine::Triton)) && upstream.endpoints.len() > 1;
    let asks_load = tells && head.field(ORCA_REQUEST).is_none();
    Some(Box::new(Steered { wish: Wish { key, session, model: None, prompt: None }, asks_load }))
}

/// Adds what the body says: the model's name as asked for (it may be an adapter's), and the prompt.
pub(super) fn add_body(Steered { wish, .. }: &mut Steered, upstream: &Upstream, operation: Operation, name: &[u8], body: &[u8]) {
    let model = hash_bytes(0, name);
    wish.model = upstream.steering.engine.map(|_| model);
    if upstream.steering.prefix_affinity.is_none() || !generates(operation) {
        return;
    }
    wish.prompt = scan_prompt(body).map(|spans| {
        let before = spans.before.iter().flatten().map(|span| span.of(body));
        Prompt::new(model, before, spans.text.of(body), spans.opening)
    });
}

fn key_of(hash: &HashKey, head: Head<'_>) -> Option<u64> {
    let value = match hash {
        HashKey::Header(name) => head.field(name)?,
        HashKey::ClientIp => head.client.as_bytes(),
        HashKey::Credential => {
            let field = head.head.field(Known::Authorization).or_else(|| head.head.field(Known::ApiKey))?;
            field.of(head.bytes)
        }
    };
    Some(hash_bytes(KEY, value))
}

impl Head<'_> {
    /// The first field of this name, which is in lower case.
    fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.head.fields.iter();
        let found = fields.find(|field| field.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(found.value.of(self.bytes))
    }
}

/// Asks an engine for its load (ORCA), and where it tells it.
pub(super) const ORCA_REQUEST: &str = "endpoint-load-metrics-format";
pub(super) const ORCA_FIELD: &str = "endpoint-load-metrics";
/// Tells sessions from keys.
const SESSION: u64 = 1;
const KEY: u64 = 2;
