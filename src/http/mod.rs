//! HTTP/1.1 as values: heads are parsed strictly into spans, bodies run through a decoder machine, and what leaves is written
//! from the parsed message with its own framing. What has two readings is refused here (status and short reason), so that
//! nothing behind this room has to ask again. It leaves to others: sockets, time limits (408), body size limits (413), pools,
//! pipelining, whether a route wants an upgrade, and what an error looks like to the client (`shard/respond.rs`).
//!
//! Rule numbers in comments are those of the list in `tests/mod.rs`; RFC 9110 and RFC 9112 are the source of what is not marked
//! strict.

mod body;
mod chunked;
mod connection;
mod framing;
mod h1;
mod head;
mod known;
mod request;
mod response;
mod retry_after;
mod scan;
mod sse;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod trailer;
mod websocket;

pub use body::{BodyDecoder, BodyError, Step};
pub use h1::{
    CHUNK_END, CONTINUE, LAST_CHUNK, RequestEdit, ResponseEdit, client_addr_text, framing_for_client, write_chunk_header,
    write_end_to_end_fields, write_own_response, write_request_fields, write_request_line, write_response_head,
};
pub use head::{Field, Framing, HeadError, HeadLimits, Method, Parsed, Version};
pub use known::{Known, KnownSet};
pub use request::RequestHead;
pub use response::ResponseHead;
pub use retry_after::RetryAfter;
pub use sse::{Event, EventReader};
pub use status::reason_phrase;
pub use websocket::{UPGRADE_LINES, WebSocketAccept};
