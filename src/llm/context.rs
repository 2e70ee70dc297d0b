//! Whether an error says that the prompt is too long for the model. Engines say it in a 400, 413 or 422 with words of their own; there
//! is no common code.

/// Whether an answer with this status and body says that the prompt does not fit. `body` may be cut or carry chunk framing: it is
/// searched for words, not parsed.
#[must_use]
pub fn is_context_length(status: u16, body: &[u8]) -> bool {
    matches!(status, 400 | 413 | 422) && WORDS.iter().any(|word| contains(body, word))
}

/// In lower case. Who says it: `OpenAI` and vLLM (code), vLLM, SGLang, TGI and mistral-inference (message), llama.cpp (type), Anthropic,
/// TEI (413 and 422), Gemini, Cohere.
const WORDS: [&[u8]; 12] = [
    b"context_length_exceeded",
    b"maximum context length",
    b"context length of",
    b"longer than the model's context length",
    b"exceed_context_size",
    b"exceeds the available context size",
    b"prompt is too long",
    b"must have less than",
    b"`inputs` tokens + `max_new_tokens`",
    b"exceeds the maximum number of tokens",
    b"input is too long",
    b"too many tokens",
];

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::is_context_length;

    #[test]
    fn what_engines_say() {
        let said = [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens","code":400}}"#,
            ),
            (400, r#"{"error":{"message":"...","type":"invalid_request_error","code":"context_length_exceeded"}}"#),
            (
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            ),
            (413, r#"{"error":"Input validation error: `inputs` must have less than 512 tokens. Given: 3000","error_type":"Validation"}"#),
            (422, r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048","error_type":"validation"}"#),
            (400, r#"{"message":"The input (9000 tokens) is longer than the model's context length (8192 tokens)."}"#),
        ];
        for (status, body) in said {
            assert!(is_context_length(status, body.as_bytes()), "{body}");
            assert!(!is_context_length(500, body.as_bytes()), "a fault of the server is no long prompt");
            assert!(!is_context_length(200, body.as_bytes()), "an answer may speak of anything");
        }
        for other in ["", "{}", r#"{"error":{"message":"temperature must be less than 2"}}"#, r#"{"error":{"message":"unknown model"}}"#] {
            assert!(!is_context_length(400, other.as_bytes()), "{other}");
        }
    }
}
