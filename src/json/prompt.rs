//! Where a model call's prompt lies: the messages (or the prompt string), what stands in front of them for the model wherever the body
//! has it, and how far the conversation's opening reaches. Only plain bodies are looked at: others have no prompt, which costs a cache
//! hit and nothing else.

use super::members::members;
use super::walk::Walk;
use crate::sys::Span;

/// The prompt of a body. All spans lie in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PromptSpans {
    /// System prompt, instructions, tools: each whole value.
    pub before: [Option<Span>; 3],
    /// The messages without what closes their array (or the prompt's text without its quote), so that the next turn's text begins
    /// with it.
    pub text: Span,
    /// Bytes of `text` up to the end of the first user's message; of a plain prompt its first KiB.
    pub opening: usize,
}

/// Finds the prompt of a chat, a completion, a response or a message. `None`: there is none, or the body is not plain.
#[must_use]
pub fn scan_prompt(body: &[u8]) -> Option<PromptSpans> {
    let wanted: [&[u8]; 6] = [b"messages", b"prompt", b"input", b"system", b"instructions", b"tools"];
    let [messages, prompt, input, system, instructions, tools] = members(body, wanted)?;
    let value = messages.or(prompt).or(input)?;
    let text = Span { len: value.len.checked_sub(1)?, ..value };
    let opening = match body.get(value.start as usize)? {
        b'"' => text.len.min(PLAIN_OPENING_BYTES) as usize,
        b'[' => first_user_end(body, value)? - value.start as usize,
        _ => return None,
    };
    Some(PromptSpans { before: [system, instructions, tools], text, opening })
}

/// Where the first message of a user ends; of the first element when there is none.
fn first_user_end(body: &[u8], messages: Span) -> Option<usize> {
    let mut walk = Walk::new(body, messages.start as usize + 1);
    let mut first = None;
    while let Some(element) = walk.next_element().ok()? {
        first.get_or_insert(element.end());
        if is_users(body, element) {
            return Some(element.end());
        }
    }
    first
}

fn is_users(body: &[u8], message: Span) -> bool {
    if body.get(message.start as usize) != Some(&b'{') {
        return false;
    }
    let mut walk = Walk::new(body, message.start as usize + 1);
    while let Ok(Some(key)) = walk.next_key() {
        let Ok(value) = walk.value() else { return false };
        if key == b"\"role\"" {
            return value.of(body) == b"\"user\"";
        }
    }
    false
}

const PLAIN_OPENING_BYTES: u32 = 1024;
