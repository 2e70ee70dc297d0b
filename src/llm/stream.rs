//! What a stream of model output says about itself: its end, why it ended, its bill, or an error. It is given events one by one (the
//! reading of bytes is `http::EventReader`'s), knows the streams of the `OpenAI` APIs (chat, completions, responses) and of Anthropic's
//! messages, and tells them apart by what they say. Nothing of what was generated is looked at or kept; what cannot be read is unknown,
//! never zero.

use super::shape::Shape;
use crate::json::members;
use crate::sys::Span;

/// A machine that follows one stream.
#[derive(Clone, Default, Debug)]
pub struct StreamTap {
    facts: StreamFacts,
    /// Of an event that said nothing, when no other has said anything since.
    quiet: Option<Shape>,
    learned_count: u8,
}

/// What a stream has said so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StreamFacts {
    /// Its end marker came: `[DONE]`, `message_stop`, `response.completed` and the like.
    pub is_done: bool,
    /// Why the generation ended; of several choices the last that ended.
    pub finish: Option<Finish>,
    /// The first error it told.
    pub error: Option<StreamError>,
    pub usage: Option<Usage>,
    /// Events of which nothing is known: too long, or not JSON.
    pub unknown_count: u32,
}

/// What one event was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// Output, or something about it.
    Output,
    /// A sign of life and no more.
    Ping,
    /// An error that the server found after it had said 200.
    Error(StreamError),
}

/// Why a generation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// By itself, or at a stop sequence.
    Stop,
    /// The limit of tokens.
    Length,
    ToolCalls,
    Filtered,
    /// A reason that is not known here.
    Other,
}

/// An error told by an event, by what it means for another try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamError {
    /// Another server may well do it: overloaded, an internal fault, a limit of this one.
    Transient,
    /// As [`StreamError::Transient`]; a limit on the rate.
    RateLimited,
    /// The request is at fault: every server would say so.
    Client,
}

/// Tokens a stream was billed for, as far as its server said.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Of the prompt, those from a cache included.
    pub input: Option<u64>,
    pub output: Option<u64>,
    /// Of the prompt's, those that came from a cache.
    pub cached: Option<u64>,
}

impl StreamTap {
    #[must_use]
    pub const fn facts(&self) -> &StreamFacts {
        &self.facts
    }

    /// The generation is over: a clean end of the stream may follow.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.facts.is_done || self.facts.finish.is_some() || self.facts.error.is_some()
    }

    /// Takes one event. `data` is `None` when it was too long to be looked at.
    pub fn handle_event(&mut self, name: &[u8], data: Option<&[u8]>) -> Said {
        // A name may say what an event is: those that have one are read.
        if name.is_empty() && self.quiet.as_ref().zip(data).is_some_and(|(quiet, data)| quiet.fits(data)) {
            return Said::Output;
        }
        let before = self.facts;
        let said = self.read_event(name, data);
        if self.facts != before {
            self.quiet = None;
        } else if name.is_empty() && said == Said::Output && self.learned_count < LEARNED_MAX {
            self.learned_count += 1;
            self.quiet = data.and_then(Shape::of);
        }
        said
    }

    /// As [`StreamTap::handle_event`], whatever came before.
    pub(super) fn read_event(&mut self, name: &[u8], data: Option<&[u8]>) -> Said {
        let Some(data) = data else {
            self.facts.unknown_count = self.facts.unknown_count.saturating_add(1);
            // The largest event of all is the last one of the responses API, which repeats the whole answer.
            self.facts.is_done |= ends_stream(name);
            return Said::Output;
        };
        if data == b"[DONE]" {
            self.facts.is_done = true;
            return Said::Output;
        }
        let Some([kind, error, usage, choices, delta, response, message]) = members(data, MEMBERS) else {
            self.facts.unknown_count = self.facts.unknown_count.saturating_add(1);
            return if name == b"error" { self.error(StreamError::Transient) } else { Said::Output };
        };
        let text = |span: Span| span.of(data);
        let kind = kind.map_or(name, |kind| string(text(kind)));
        if let Some(error) = error.map(text).filter(|error| *error != b"null") {
            return self.error(error_of(error));
        }
        if kind == b"error" {
            return self.error(error_of(data));
        }
        if let Some(usage) = usage {
            self.usage(text(usage));
        }
        if let Some(choices) = choices {
            self.choices(text(choices));
        }
        match kind {
            b"ping" => return Said::Ping,
            b"message_delta" => self.finish(delta.map(text).and_then(|delta| member(delta, b"stop_reason"))),
            _ => {}
        }
        self.facts.is_done |= ends_stream(kind);
        match response.or(message).map(text) {
            Some(inner) if kind == b"message_start" || kind.starts_with(b"response.") => self.inner(kind, inner),
            _ => Said::Output,
        }
    }

    /// The whole message or response that some events carry.
    fn inner(&mut self, kind: &[u8], inner: &[u8]) -> Said {
        let [usage, status, error, details] = members(inner, [b"usage", b"status", b"error", b"incomplete_details"]).unwrap_or_default();
        if let Some(usage) = usage {
            self.usage(usage.of(inner));
        }
        if kind == b"response.failed" {
            return self.error(error.map_or(StreamError::Transient, |error| error_of(error.of(inner))));
        }
        if ends_stream(kind) {
            let cut = details.and_then(|details| member(details.of(inner), b"reason"));
            self.finish(cut.or(status.map(|status| status.of(inner))));
        }
        Said::Output
    }

    fn error(&mut self, error: StreamError) -> Said {
        self.facts.error.get_or_insert(error);
        Said::Error(error)
    }

    fn choices(&mut self, choices: &[u8]) {
        for choice in elements(choices) {
            self.finish(member(choice, b"finish_reason"));
        }
    }

    fn finish(&mut self, reason: Option<&[u8]>) {
        let Some(reason) = reason.filter(|reason| reason.first() == Some(&b'"')) else { return };
        self.facts.finish = Some(match string(reason) {
            b"stop" | b"end_turn" | b"stop_sequence" | b"completed" => Finish::Stop,
            b"length" | b"max_tokens" | b"max_output_tokens" => Finish::Length,
            b"tool_calls" | b"function_call" | b"tool_use" => Finish::ToolCalls,
            b"content_filter" | b"refusal" => Finish::Filtered,
            _ => Finish::Other,
        });
    }

    /// Counts are totals and come again, later ones larger; what an event leaves out stays as it was.
    fn usage(&mut self, text: &[u8]) {
        let Some(found) = members(text, USAGE) else { return };
        let [prompt, completion, input, output, read, made, details, input_details] = found.map(|span| span.map(|span| span.of(text)));
        let number = |text: Option<&[u8]>| text.and_then(whole_number);
        let mut usage = self.facts.usage.unwrap_or_default();
        let details = details.or(input_details).and_then(|details| number(member(details, b"cached_tokens")));
        // Anthropic counts what came from its cache, and what went into it, beside the input.
        let beside = number(read).unwrap_or(0).saturating_add(number(made).unwrap_or(0));
        usage.input = number(prompt).or_else(|| number(input).map(|input| input.saturating_add(beside))).or(usage.input);
        usage.output = number(completion).or(number(output)).or(usage.output);
        usage.cached = details.or(number(read)).or(usage.cached);
        if usage != Usage::default() {
            self.facts.usage = Some(usage);
        }
    }
}

/// Whether a stream of the kind that names its events ends with this one.
fn ends_stream(kind: &[u8]) -> bool {
    matches!(kind, b"message_stop" | b"response.completed" | b"response.incomplete" | b"response.failed" | b"response.cancelled")
}

/// What an error object (or the text that stands for one) means.
fn error_of(text: &[u8]) -> StreamError {
    let Some([kind, code]) = members(text, [b"type", b"code"]) else { return StreamError::Transient };
    if let Some(code) = code.and_then(|code| whole_number(code.of(text))) {
        return match code {
            429 => StreamError::RateLimited,
            408 => StreamError::Transient,
            400..=499 => StreamError::Client,
            _ => StreamError::Transient,
        };
    }
    let words = [kind, code].map(|span| span.map_or(&b""[..], |span| string(span.of(text))));
    let says = |wanted: &[&[u8]]| wanted.iter().any(|wanted| words.iter().any(|word| holds(word, wanted)));
    if says(&[b"rate_limit", b"too_many_requests"]) {
        StreamError::RateLimited
    } else if says(&[
        b"invalid",
        b"badrequest",
        b"authentication",
        b"permission",
        b"not_found",
        b"notfound",
        b"too_large",
        b"context_length",
    ]) {
        StreamError::Client
    } else {
        StreamError::Transient
    }
}

/// Whether `word` holds `wanted` (in lower case), in any case.
fn holds(word: &[u8], wanted: &[u8]) -> bool {
    word.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

fn member<'a>(object: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let [found] = members(object, [key])?;
    found.map(|span| span.of(object))
}

/// The objects of a flat array of objects, each told by counting braces outside of strings. The text was checked as a whole before.
fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + memchr::memchr(b'{', array.get(at..)?)?;
        let (mut depth, mut place) = (0_u32, start);
        loop {
            place += memchr::memchr3(b'{', b'}', b'"', array.get(place..)?)?;
            match array[place] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => place = string_end(array, place)?,
            }
            place += 1;
            if depth == 0 {
                at = place;
                return array.get(start..place);
            }
        }
    })
}

/// Where the string that begins at `at` ends: the place of its last quote.
pub(super) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        from += memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[from] == b'"' {
            return Some(from);
        }
        from += 2;
    }
}

/// A string without its quotes; words that are looked for hold no escapes.
fn string(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

fn whole_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Events a stream's shape is learned from: streams of several shapes in turn are read.
const LEARNED_MAX: u8 = 8;
/// The last two hold a whole response or message, in events of the APIs that name their events.
const MEMBERS: [&[u8]; 7] = [b"type", b"error", b"usage", b"choices", b"delta", b"response", b"message"];
const USAGE: [&[u8]; 8] = [
    b"prompt_tokens",
    b"completion_tokens",
    b"input_tokens",
    b"output_tokens",
    b"cache_read_input_tokens",
    b"cache_creation_input_tokens",
    b"prompt_tokens_details",
    b"input_tokens_details",
];
