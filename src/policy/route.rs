//! Decides where a request belongs: a path to a route, a model's name to a model, a path to the operation of a model call.
//! Nothing here allocates. The path must be in normal form (`path`); what to do when nothing matches is the caller's.

use hashbrown::HashMap;

use crate::config::{Config, ModelId, RouteId};

/// The routes and models of one snapshot, made for look-ups.
#[derive(Clone, Debug)]
pub struct Router {
    /// Sorted by path; see [`Router::resolve_path`].
    routes: Box<[RouteEntry]>,
    /// The keys are the operator's, so a client cannot crowd a bucket and a fixed seed does.
    models: HashMap<Box<[u8]>, ModelId, foldhash::fast::FixedState>,
    any_model: Option<ModelId>,
}

#[derive(Clone, Debug)]
struct RouteEntry {
    path: Box<[u8]>,
    id: RouteId,
    /// The longest other path this one begins with.
    parent: Option<usize>,
}

impl Router {
    #[must_use]
    pub fn new(config: &Config) -> Router {
        let mut models = HashMap::with_hasher(foldhash::fast::FixedState::default());
        let mut any_model = None;
        for (id, model) in (0..).map(ModelId).zip(config.written_models()) {
            if model.name == "*" {
                any_model.get_or_insert(id);
            } else {
                models.entry(model.name.as_bytes().into()).or_insert(id);
            }
        }
        Router { routes: sorted_routes(config), models, any_model }
    }

    /// The route with the longest path that is `path` itself or ends at a `/` boundary in it. `path` is in normal form and
    /// without the query.
    ///
    /// Every path that `path` begins with is, among the sorted routes, either the last one not above `path` or on that one's
    /// chain of parents: whatever sorts between a prefix of `path` and `path` begins with that prefix too.
    #[must_use]
    pub fn resolve_path(&self, path: &[u8]) -> Option<RouteId> {
        let mut at = self.routes.partition_point(|route| route.path[..] <= *path).checked_sub(1);
        while let Some(route) = at.and_then(|index| self.routes.get(index)) {
            if covers(&route.path, path) {
                return Some(route.id);
            }
            at = route.parent;
        }
        None
    }

    /// The model a client asked for by this name, else the one named `*`.
    #[must_use]
    pub fn resolve_model(&self, name: &[u8]) -> Option<ModelId> {
        self.models.get(name).copied().or(self.any_model)
    }
}

/// What a model call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Operation {
    Embeddings,
    ChatCompletions,
    Completions,
    Responses,
    Messages,
    Rerank,
    Score,
    Classify,
    Pooling,
}

impl Operation {
    /// In the order of their discriminants.
    pub const ALL: [Operation; 9] = [
        Operation::Embeddings,
        Operation::ChatCompletions,
        Operation::Completions,
        Operation::Responses,
        Operation::Messages,
        Operation::Rerank,
        Operation::Score,
        Operation::Classify,
        Operation::Pooling,
    ];

    /// The operation behind a path in normal form, without the query: OpenAI's and Anthropic's paths, and vLLM's for what those
    /// two do not have. A path that is none of these may still belong to a route.
    #[must_use]
    pub fn from_path(path: &[u8]) -> Option<Operation> {
        Some(match path {
            b"/v1/embeddings" => Operation::Embeddings,
            b"/v1/chat/completions" => Operation::ChatCompletions,
            b"/v1/completions" => Operation::Completions,
            b"/v1/responses" => Operation::Responses,
            b"/v1/messages" => Operation::Messages,
            b"/v1/rerank" | b"/v2/rerank" | b"/rerank" => Operation::Rerank,
            b"/v1/score" | b"/score" => Operation::Score,
            b"/v1/classify" | b"/classify" => Operation::Classify,
            b"/v1/pooling" | b"/pooling" => Operation::Pooling,
            _ => return None,
        })
    }

    /// The value of the `operation` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Embeddings => "embeddings",
            Operation::ChatCompletions => "chat_completions",
            Operation::Completions => "completions",
            Operation::Responses => "responses",
            Operation::Messages => "messages",
            Operation::Rerank => "rerank",
            Operation::Score => "score",
            Operation::Classify => "classify",
            Operation::Pooling => "pooling",
        }
    }

    /// Whether a call may be made twice without harm: the same question has the same answer, and nothing is written.
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        matches!(self, Operation::Embeddings | Operation::Rerank | Operation::Score | Operation::Classify | Operation::Pooling)
    }

    /// Whether requests of this operation may share an upstream call. Generating ones never may: a continuous-batching engine
    /// does it better (reference: batching, chat).
    #[must_use]
    pub const fn coalescible(self) -> bool {
        matches!(self, Operation::Embeddings)
    }
}

/// Whether `route` takes `path`, given in normal form: equal, or above it at a segment boundary.
fn covers(route: &[u8], path: &[u8]) -> bool {
    match path.strip_prefix(route) {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || route.ends_with(b"/"),
        None => false,
    }
}

fn sorted_routes(config: &Config) -> Box<[RouteEntry]> {
    let mut routes: Vec<RouteEntry> = (0..)
        .map(RouteId)
        .zip(&config.routes)
        .map(|(id, route)| RouteEntry { path: route.path.as_bytes().into(), id, parent: None })
        .collect();
    routes.sort_by(|a, b| a.path.cmp(&b.path).then(a.id.cmp(&b.id)));
    // Of two routes with one path (config check refuses them) the first wins.
    routes.dedup_by(|later, earlier| later.path == earlier.path);
    for index in 1..routes.len() {
        // Walks the chain of the one before, which holds every prefix of this path (see `resolve_path`).
        let mut parent = Some(index - 1);
        while let Some(at) = parent {
            if routes[index].path.starts_with(&routes[at].path) {
                break;
            }
            parent = routes[at].parent;
        }
        routes[index].parent = parent;
    }
    routes.into()
}
