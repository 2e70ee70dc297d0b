//! `POST /v1/chat/completions`: an answer made of the last message's words, whole or as an event stream. When each event leaves
//! is `connection`'s matter.

use serde::Deserialize;

use super::State;
use super::answer::{Answer, error, fault, number};
use super::mark::Mark;
use super::stats::add;
use crate::json::scan_prompt;

/// A chat to be answered.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) stream: bool,
    /// Content events, each one word.
    pub(super) events: u32,
    /// Fewer than the mock would have said, because the client wanted so.
    limited: bool,
    pub(super) include_usage: bool,
    /// Ends the connection in the middle of the answer.
    pub(super) cut: bool,
    /// What the prompt costs before the first event, in bytes that are not in the cache.
    pub(super) prefill: u32,
    /// The last message's text.
    last: String,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    stream: Option<bool>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// A part of a message whose content is a list.
#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

/// The text of a chat answer of `events` words to a conversation whose last message is `last`: its words, over and over.
#[must_use]
pub fn reply(last: &str, events: u32) -> String {
    (0..events).fold(String::new(), |mut text, at| {
        piece(last, at, &mut text);
        text
    })
}

/// Appends what content event `at` carries: one word, with a blank before it except the first.
fn piece(last: &str, at: u32, out: &mut String) {
    if at > 0 {
        out.push(' ');
    }
    let count = last.split_whitespace().count();
    let word = if count == 0 { None } else { last.split_whitespace().nth(at as usize % count) };
    out.push_str(word.unwrap_or("mock"));
}

pub(super) fn answer(state: &State, body: &[u8], out: &mut Vec<u8>) -> Answer {
    let request: Request<'_> = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(_) => return error(out, 400, "invalid_request_error", "the body is not a chat request"),
    };
    let Some(content) = request.messages.last().and_then(|message| message.content) else {
        return error(out, 400, "invalid_request_error", "the last message has no content");
    };
    let mark = Mark::find(content.get().as_bytes());
    if let Some(answer) = fault(state, mark, content.get().as_bytes(), out) {
        return answer;
    }
    let Some(last) = text_of(content.get()) else {
        return error(out, 400, "invalid_request_error", "the last message is neither text nor a list of parts");
    };
    let most = request.max_completion_tokens.or(request.max_tokens).unwrap_or(u32::MAX);
    let events = state.config.chat_events.min(most);
    Answer::Chat(Chat {
        stream: request.stream.unwrap_or(false),
        events,
        limited: events < state.config.chat_events,
        include_usage: request.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        cut: mark == Some(Mark::CloseMidBody),
        prefill: prefill(state, body),
        last,
    })
}

/// Puts the prompt into the cache; what of it must be computed, with a tenth of what was there.
fn prefill(state: &State, body: &[u8]) -> u32 {
    let Some(prompt) = state.config.prefill.and_then(|_| scan_prompt(body)) else { return 0 };
    let prompt = prompt.text.of(body);
    let cached = state.cache.borrow_mut().admit(prompt);
    add(&state.counters.prompt_bytes, prompt.len() as u64);
    add(&state.counters.prompt_bytes_cached, cached as u64);
    u32::try_from(prompt.len() - cached + cached / 10).unwrap_or(u32::MAX)
}

fn text_of(content: &str) -> Option<String> {
    if content.starts_with('"') {
        return serde_json::from_str(content).ok();
    }
    let parts: Vec<Part> = serde_json::from_str(content).ok()?;
    Some(parts.into_iter().filter_map(|part| part.text).collect::<Vec<_>>().join(" "))
}

impl Chat {
    /// The whole answer.
    pub(super) fn write_whole(&self, state: &State, out: &mut Vec<u8>) {
        open(state, "chat.completion", out);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        write_text(&reply(&self.last, self.events), out);
        out.extend_from_slice(b"},\"finish_reason\":\"");
        out.extend_from_slice(self.finish_reason());
        out.extend_from_slice(b"\"}],\"usage\":");
        self.write_usage(out);
        out.push(b'}');
    }

    /// The stream's first event, which names the role.
    pub(super) fn write_first(&self, state: &State, out: &mut Vec<u8>) {
        self.event(state, out, |out| out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\"}"), None);
    }

    /// Content event `at`, below `events`.
    pub(super) fn write_event(&self, state: &State, at: u32, out: &mut Vec<u8>) {
        let mut text = String::new();
        piece(&self.last, at, &mut text);
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"content\":");
            write_text(&text, out);
            out.push(b'}');
        };
        self.event(state, out, write, None);
    }

    /// The end: why it ended, the usage when asked for, and the end mark.
    pub(super) fn write_last(&self, state: &State, out: &mut Vec<u8>) {
        self.event(state, out, |out| out.extend_from_slice(b"{}"), Some(self.finish_reason()));
        if self.include_usage {
            out.extend_from_slice(b"data: ");
            open(state, "chat.completion.chunk", out);
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            self.write_usage(out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn event(&self, state: &State, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>), finish: Option<&[u8]>) {
        out.extend_from_slice(b"data: ");
        open(state, "chat.completion.chunk", out);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":");
        delta(out);
        out.extend_from_slice(b",\"finish_reason\":");
        match finish {
            None => out.extend_from_slice(b"null"),
            Some(reason) => {
                out.push(b'"');
                out.extend_from_slice(reason);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b"}]");
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn finish_reason(&self) -> &'static [u8] {
        if self.limited { b"length" } else { b"stop" }
    }

    /// A prompt token is a byte of the last message, a completion token an event.
    fn write_usage(&self, out: &mut Vec<u8>) {
        let (prompt, completion) = (self.last.len() as u64, u64::from(self.events));
        out.extend_from_slice(b"{\"prompt_tokens\":");
        number(out, prompt);
        out.extend_from_slice(b",\"completion_tokens\":");
        number(out, completion);
        out.extend_from_slice(b",\"total_tokens\":");
        number(out, prompt + completion);
        out.push(b'}');
    }
}

fn open(state: &State, object: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"chatcmpl-headrace-mock\",\"object\":\"");
    out.extend_from_slice(object.as_bytes());
    out.extend_from_slice(b"\",\"created\":0,\"model\":");
    out.extend_from_slice(&state.name_json);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing a string to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}
