//! Model dialects: whose error envelope a route wears, and what a stream of model output says about itself (its end, its bill, an
//! error). Cost comes with the LLM-format work. It writes into buffers it is given; it opens no sockets and knows no endpoint.

mod dialect;
mod stream;
#[cfg(test)]
mod tests;

pub use dialect::{Dialect, ErrorFacts};
pub use stream::{Finish, Said, StreamError, StreamFacts, StreamTap, Usage};
