//! Model dialects: whose error envelope a route wears, what an engine's error means, and what a stream of model output says about itself
//! (its end, its bill, an error). Cost comes with the LLM-format work. It writes into buffers it is given; it opens no sockets and knows
//! no endpoint.

mod context;
mod dialect;
mod shape;
mod stream;
#[cfg(test)]
mod tests;

pub use context::is_context_length;
pub use dialect::{Dialect, ErrorFacts};
pub use stream::{Finish, Said, StreamError, StreamFacts, StreamTap, Usage};
