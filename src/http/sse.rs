//! Reads event streams (the WHATWG HTML standard, 9.2.6) beside their way: which events the bytes hold, never the bytes themselves,
//! which go on untouched. What an event says is the reader's caller's matter (`llm`); so is time. An event that lies whole in what
//! arrived is handed out where it lies; one that was cut is gathered, up to a bound.

/// A machine that walks over one event stream. Each byte is looked at once, and any cutting of the input gives the same events.
///
/// ```text
///              a line that is not empty               an empty line
///  Between ------------------------------> Inside ------------------> Between, and an event if it had data
///                                           |  ^
///                                           +--+  a line that is not empty
/// ```
#[derive(Clone, Debug)]
pub struct EventReader {
    /// Most bytes of one event that are gathered.
    limit: usize,
    /// The line that is not over yet, as far as it is kept.
    line: Vec<u8>,
    /// Bytes of that line, kept or not.
    line_len: u64,
    /// Of the event that is not over yet.
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// Some of the event was not kept.
    is_lost: bool,
    /// The event that is not over yet has a line.
    is_open: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Nothing came yet: a byte order mark may.
    at_start: bool,
    /// The event in `name` and `data` was handed out.
    is_told: bool,
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// The `event` field, empty when there was none.
    pub name: &'a [u8],
    /// The `data` lines, joined by LF. `None`: more than was to be gathered, so what it says is not known.
    pub data: Option<&'a [u8]>,
}

impl EventReader {
    /// A reader that gathers at most about `limit` bytes of an event that came in pieces.
    #[must_use]
    pub const fn new(limit: usize) -> EventReader {
        EventReader {
            limit,
            line: Vec::new(),
            line_len: 0,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            is_lost: false,
            is_open: false,
            after_cr: false,
            at_start: true,
            is_told: false,
        }
    }

    /// Steps over `input` up to the end of the next event, or over all of it. How many bytes were stepped over, and the event. Call
    /// it again with the rest until the rest is empty.
    pub fn handle_bytes<'a>(&'a mut self, input: &'a [u8]) -> (usize, Option<Event<'a>>) {
        self.forget_told();
        let mut at = 0;
        loop {
            if self.after_cr
                && let Some(&byte) = input.get(at)
            {
                self.after_cr = false;
                at += usize::from(byte == b'\n');
            }
            let rest = input.get(at..).unwrap_or_default();
            let Some(len) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.keep(rest);
                return (input.len(), None);
            };
            let line_start = at;
            at += len + 1;
            self.after_cr = rest[len] == b'\r';
            if self.line_len == 0 && !self.at_start {
                // The usual case: a line that lies whole in the input.
                let line = &input[line_start..line_start + len];
                if line.is_empty() {
                    if self.ends() {
                        return (at, Some(self.told()));
                    }
                } else if let Some((data, after)) = self.only_data(line, input, at) {
                    (self.is_told, self.is_open, self.after_cr) = (true, false, false);
                    return (after, Some(Event { name: &self.name, data: (data.len() <= self.limit).then_some(data) }));
                } else {
                    self.take_line(line);
                }
                continue;
            }
            self.keep(&rest[..len]);
            if self.take_kept() && self.ends() {
                return (at, Some(self.told()));
            }
        }
    }

    /// The stream is over. An event whose empty line never came is handed out all the same: what it says was said.
    pub fn handle_eof(&mut self) -> Option<Event<'_>> {
        self.forget_told();
        if self.line_len > 0 {
            self.take_kept();
        }
        self.ends().then(|| self.told())
    }

    /// Nothing of an event has come since the last one ended: here another may be put in.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        !self.is_open && self.line_len == 0
    }

    /// What must be written before an event of our own, so that it is read as one: ends the open line and the open event.
    #[must_use]
    pub fn closing(&self) -> &'static [u8] {
        match (self.line_len > 0, self.is_open, self.after_cr) {
            (false, false, _) => b"",
            // The first LF belongs to the line that is open, or to the CR before it.
            (true, _, _) | (false, true, true) => b"\n\n",
            (false, true, false) => b"\n",
        }
    }

    /// Bytes of memory held for an event that is not over.
    #[must_use]
    pub const fn gathered_bytes(&self) -> usize {
        self.line.capacity() + self.data.capacity() + self.name.capacity()
    }

    /// The event is over. Whether it is one that is handed out: without data it is none.
    fn ends(&mut self) -> bool {
        self.is_open = false;
        self.is_told = true;
        if !self.has_data {
            self.forget_told();
        }
        self.has_data
    }

    fn told(&self) -> Event<'_> {
        Event { name: &self.name, data: (!self.is_lost).then_some(&self.data) }
    }

    fn forget_told(&mut self) {
        if std::mem::take(&mut self.is_told) {
            self.name.clear();
            clear(&mut self.data);
            (self.has_data, self.is_lost) = (false, false);
        }
    }

    /// A line that is not over yet, within bounds.
    fn keep(&mut self, piece: &[u8]) {
        let room = (self.limit + FIELD_SLACK).saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        self.line_len += piece.len() as u64;
    }

    /// The line that was kept is over; true when it was empty.
    fn take_kept(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let is_whole = std::mem::take(&mut self.line_len) == line.len() as u64;
        let begins = std::mem::take(&mut self.at_start);
        let text = if begins { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
        let is_empty = text.is_empty() && is_whole;
        if !is_empty {
            // What is left of a line that was not kept whole is too long for `take_line` too, so it counts as lost there.
            self.take_line(text);
        }
        self.line = line;
        clear(&mut self.line);
        is_empty
    }

    /// The data of an event that is one line, when the empty line behind it is there too; and where the next event begins. A CR that
    /// ends the input leaves it open whether an LF follows, so that is not taken here.
    fn only_data<'a>(&self, line: &'a [u8], input: &[u8], mut at: usize) -> Option<(&'a [u8], usize)> {
        if self.has_data || self.is_lost || line[0] != b'd' {
            return None;
        }
        let data = match line.strip_prefix(b"data")? {
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            _ => return None,
        };
        if self.after_cr {
            at += usize::from(*input.get(at)? == b'\n');
            if *input.get(at)? != b'\r' {
                return None;
            }
            return (*input.get(at + 1)? == b'\n').then_some((data, at + 2));
        }
        (*input.get(at)? == b'\n').then_some((data, at + 1))
    }

    /// A line that is over and not empty.
    fn take_line(&mut self, line: &[u8]) {
        self.is_open = true;
        let (field, value) = match memchr::memchr(b':', line) {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                let joint = usize::from(self.has_data);
                self.has_data = true;
                if self.data.len() + joint + value.len() > self.limit {
                    self.is_lost = true;
                    self.data = Vec::new();
                } else if !self.is_lost {
                    if joint == 1 {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                }
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(&value[..value.len().min(NAME_BYTES_MAX)]);
            }
            // A comment, `id`, `retry`, or what nobody knows.
            _ => {}
        }
    }
}

/// For the next one; a vector that grew large is given back at once.
fn clear(vec: &mut Vec<u8>) {
    vec.clear();
    if vec.capacity() > KEPT_CAPACITY_MAX {
        *vec = Vec::new();
    }
}

/// A byte order mark and `data: `, which stand in a kept line beside the limit's bytes.
const FIELD_SLACK: usize = 16;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Names are short words; of a longer one the beginning is told.
const NAME_BYTES_MAX: usize = 64;
const KEPT_CAPACITY_MAX: usize = 4096;
