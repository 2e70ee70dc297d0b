//! What the benches feed: heads and bodies as clients and servers send them. Two of them measuring the same thing must mean the same
//! input, so it stands here once.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each bench takes what it needs; one that cannot go on should stop")]

pub(crate) mod rounds;
pub(crate) mod routes;

/// What a load generator sends.
pub(crate) const REQUEST_SMALL: &[u8] =
    b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 70\r\n\r\n";

/// What the `OpenAI` Python client sends, less its telemetry.
pub(crate) const REQUEST_CLIENT: &[u8] =
    b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
    Accept: application/json\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 1.99.1\r\nX-Stainless-Lang: python\r\n\
    X-Stainless-Retry-Count: 0\r\nAuthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nContent-Length: 70\r\n\r\n";

/// What a browser sends that has been to the site before: client hints and 1.2 KiB of cookies.
pub(crate) const REQUEST_BROWSER: &[u8] =
    b"POST /v1/chat/completions?session=7f3a HTTP/1.1\r\nHost: chat.example.com\r\nConnection: keep-alive\r\nContent-Length: 70\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\nContent-Type: application/json\r\n\
    sec-ch-ua-mobile: ?0\r\nAccept: */*\r\nOrigin: https://chat.example.com\r\nSec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: https://chat.example.com/c/0f0e0d0c-0b0a-0908-0706-050403020100\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8,fr;q=0.7\r\nPriority: u=1, i\r\n\
    Cookie: _ga=GA1.1.1234567890.1750000000; _ga_ABCDEFGHIJ=GS1.1.1750000000.12.1.1750001234.0.0.0; \
    session=eyJ1c2VyIjoiNDIiLCJleHAiOjE3NjAwMDAwMDAsInJvbGVzIjpbInVzZXIiLCJiZXRhIl0sInRoZW1lIjoiZGFyayJ9; \
    csrftoken=Zk9yTTJ1bGpYb0x2a0hYd2p6R0t6bW5wUVJTdFVWV1h5WkFCQ0RFRg; cf_clearance=0123456789abcdef0123456789abcdef0123456789abcdef-\
    1750000000-1.2.1.1-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz; \
    intercom-device-id-abcdefgh=01234567-89ab-cdef-0123-456789abcdef; ajs_anonymous_id=fedcba98-7654-3210-fedc-ba9876543210; \
    consent=%7B%22necessary%22%3Atrue%2C%22preferences%22%3Atrue%2C%22statistics%22%3Afalse%2C%22marketing%22%3Afalse%7D; \
    __stripe_mid=01234567-89ab-cdef-0123-456789abcdef012345; __stripe_sid=fedcba98-7654-3210-fedc-ba9876543210fedcba; \
    mp_0123456789abcdef_mixpanel=%7B%22distinct_id%22%3A%22%24device%3A0123456789abcdef%22%2C%22%24initial_referrer%22%3A%22direct%22%7D\
    \r\n\r\n";

/// What uvicorn answers.
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Tue, 01 Sep 2026 08:00:00 GMT\r\nserver: uvicorn\r\n\
    content-length: 6021\r\ncontent-type: application/json\r\n\r\n";

/// A chat request of at least `bytes` bytes: a conversation that grew, with the model named at its end as some clients do.
pub(crate) fn chat(bytes: usize) -> String {
    let frame = r#"{"messages":[],"stream":true,"model":"llama-3.1-8b"}"#.len();
    let turns = r#"{"role":"user","content":""},{"role":"assistant","content":""}"#.len() + 1;
    let mut messages = Vec::new();
    let mut left = bytes.saturating_sub(frame).max(1);
    while left > 0 {
        let text = left.saturating_sub(turns).clamp(8, 1500);
        let (asked, answered) = (prose(text / 4), prose(text - text / 4));
        messages.push(format!(r#"{{"role":"user","content":"{asked}"}},{{"role":"assistant","content":"{answered}"}}"#));
        left = left.saturating_sub(text + turns);
    }
    format!(r#"{{"messages":[{}],"stream":true,"model":"llama-3.1-8b"}}"#, messages.join(","))
}

/// An embeddings request of about `bytes` bytes: one text up to 2 KiB, more texts above.
pub(crate) fn texts(bytes: usize) -> String {
    let text = bytes.saturating_sub(r#"{"model":"bge-small","input":""}"#.len()).max(1);
    if text <= 2048 {
        return format!(r#"{{"model":"bge-small","input":"{}"}}"#, prose(text));
    }
    let all = vec![format!("\"{}\"", prose(1021)); text / 1024];
    format!(r#"{{"model":"bge-small","input":[{}]}}"#, all.join(","))
}

/// An embeddings request of about `bytes` bytes in lists of 500 tokens.
pub(crate) fn tokens(bytes: usize) -> String {
    let list = format!("[{}1]", "12345,".repeat(500));
    let all = vec![list.as_str(); (bytes / list.len()).max(1)];
    format!(r#"{{"model":"bge-small","input":[{}]}}"#, all.join(","))
}

/// A server's answer to an embeddings request.
pub(crate) fn answer(items: usize, vector: &str) -> String {
    let data: Vec<String> = (0..items).map(|index| format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)).collect();
    let usage = format!(r#"{{"prompt_tokens":{},"total_tokens":{}}}"#, 7 * items, 7 * items);
    format!(r#"{{"object":"list","data":[{}],"model":"bge-small","usage":{usage}}}"#, data.join(","))
}

/// A vector as decimal numbers.
pub(crate) fn floats(dimensions: usize) -> String {
    let numbers: Vec<String> =
        (0..dimensions).map(|index| format!("{}0.0{:07}", if index % 2 == 0 { "-" } else { "" }, 1234 + index)).collect();
    format!("[{}]", numbers.join(","))
}

/// A vector as base64 of 32-bit floats.
pub(crate) fn base64(dimensions: usize) -> String {
    format!("\"{}\"", "QUJD".repeat((dimensions * 4).div_ceil(3)))
}

/// Exactly `bytes` bytes of text as it stands in JSON: words, now and then an escape or a letter beyond ASCII.
pub(crate) fn prose(bytes: usize) -> String {
    let words = r#"The quick brown fox jumps over the lazy dog, said \"Ann\".\nThen it slept in the café until the sun came up. "#;
    let mut text = String::with_capacity(bytes + words.len());
    while text.len() < bytes {
        text.push_str(words);
    }
    // Not in the middle of a letter or behind a lone backslash.
    while !text.is_char_boundary(bytes) || text[..bytes].ends_with('\\') {
        text.insert(0, 'x');
    }
    text.truncate(bytes);
    text
}
