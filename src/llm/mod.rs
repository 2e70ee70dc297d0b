//! Model dialects: whose error envelope a route wears. Usage and cost come with the LLM-format work. It writes into buffers it is
//! given; it opens no sockets and knows no endpoint.

mod dialect;

pub use dialect::{Dialect, ErrorFacts};
