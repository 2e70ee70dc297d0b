//! Spans over raw JSON: where the model name, the input items and the pieces of an answer lie in the bytes that came in. Requests
//! are validated whole (they come from strangers and are spliced into other people's calls); answers are walked once, only as
//! deep as a splice needs. It builds no tree, never re-serialises, and knows nothing of batches, models or HTTP.

mod answer;
mod members;
mod prompt;
mod request;
mod splice;
mod walk;

#[cfg(test)]
mod tests;

pub use answer::{AnswerShape, Element, Number, scan_answer};
pub use members::members;
pub use prompt::{PromptSpans, scan_prompt};
pub use request::{
    EmbeddingsRequest, ItemKind, Items, Model, ModelRequest, scan_embeddings, scan_model, scan_model_in, scan_output_tokens,
};
pub use splice::{Pieces, Splice};

use std::fmt;

/// Nesting deeper than this is refused: we could walk it, the model server behind us may not survive it.
pub const DEPTH_MAX: u32 = 128;

/// Items in one request beyond this are not split (`OpenAI`'s own bound); the request goes upstream alone and unchanged.
pub const ITEMS_MAX: usize = 2048;

/// Why a body could not be scanned. The client's fault when the body is a request's, the upstream's when it is an answer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanError {
    /// Short and constant, for labels: `not_json`, `too_deep`, `duplicate_field`, `model_not_a_string`, `not_an_object`,
    /// `input_missing`, `wrong_shape`.
    pub reason: &'static str,
    /// For a person; constant too, so it never quotes the body.
    pub message: &'static str,
    /// Byte offset in the body, at most one off, where it went wrong.
    pub at: usize,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.message, self.at)
    }
}

impl std::error::Error for ScanError {}
