//! Model dialects: whose error envelope a route wears, and what an engine's error means. Usage and cost come with the LLM-format work. It writes into buffers it is
//! given; it opens no sockets and knows no endpoint.

mod context;
mod dialect;

pub use context::is_context_length;
pub use dialect::{Dialect, ErrorFacts};
