//! Marks: words inside a request's text that make the mock misbehave on purpose, so that a test chooses its fault per request and
//! needs no second channel. What each fault looks like on the wire is `answer`'s and `connection`'s matter.

/// What a mark asks for. The first known mark of a body decides; text around it does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// `mock:poison`: 400, and the error quotes the whole input array, as FastAPI's validation errors do.
    Poison,
    /// `mock:stall`: no answer, ever; ends when the client leaves.
    Stall,
    /// `mock:close-mid-body`: half of the answer's body, then the connection ends.
    CloseMidBody,
    /// `mock:429`: too many requests, with `retry-after: 1`.
    TooMany,
    /// `mock:503`: unavailable.
    Unavailable,
    /// `mock:500`: broken.
    Broken,
    /// `mock:wrong-count`: a 200 with one vector too few.
    WrongCount,
    /// `mock:reversed`: a good answer whose elements stand in reverse order of their indexes.
    Reversed,
}

const MARKS: &[(&str, Mark)] = &[
    ("poison", Mark::Poison),
    ("stall", Mark::Stall),
    ("close-mid-body", Mark::CloseMidBody),
    ("429", Mark::TooMany),
    ("503", Mark::Unavailable),
    ("500", Mark::Broken),
    ("wrong-count", Mark::WrongCount),
    ("reversed", Mark::Reversed),
];

impl Mark {
    /// The first mark in `text` (raw JSON will do: marks hold nothing that is escaped).
    #[must_use]
    pub fn find(text: &[u8]) -> Option<Mark> {
        memchr::memmem::find_iter(text, b"mock:").find_map(|at| {
            let rest = &text[at + b"mock:".len()..];
            MARKS.iter().find(|(word, _)| rest.starts_with(word.as_bytes())).map(|(_, mark)| *mark)
        })
    }
}
