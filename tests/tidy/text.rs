//! Rust source as text with everything blanked that is not code of the program: comments, strings, characters, test code. Blanked
//! bytes become spaces, so lines keep their numbers. It knows tokens and brackets, not the grammar, which is enough for paths and
//! words; what a word means to the rules is settled in `tidy.rs`.

/// Code with comments, literals and `#[cfg(test)]` items blanked.
pub(super) struct Code(String);

impl Code {
    pub(super) fn of(source: &str) -> Code {
        Code(without_tests(without_comments(source)))
    }

    /// The line of the first such word. A word may begin with a dot (`.await`) or hold blanks (`mod tests`).
    pub(super) fn line_of_word(&self, word: &str) -> Option<usize> {
        words(&self.0, word).next().map(|end| self.line(end))
    }

    /// The rooms named as `crate::room` or `headrace::room`, each with its line; `crate::{a, b}` names both.
    pub(super) fn rooms_used(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for root in ["crate", "headrace"] {
            for end in words(&self.0, root) {
                let Some(rest) = self.0[end..].trim_start().strip_prefix("::") else { continue };
                let line = self.line(end);
                match rest.trim_start().strip_prefix('{') {
                    Some(group) => found.extend(heads(group).into_iter().map(|name| (line, name))),
                    None => found.push((line, ident(rest.trim_start()))),
                }
            }
        }
        found
    }

    /// Chains of `super::` in a module `depth` levels below the crate that get out of the room.
    pub(super) fn escapes(&self, depth: usize) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for end in words(&self.0, "super") {
            let before = self.0[..end - "super".len()].trim_end();
            if before.ends_with("super::") || before.ends_with("super ::") {
                continue;
            }
            let chain: String = self.0[end - "super".len()..].split_inclusive("::").take_while(|part| part.trim() == "super::").collect();
            if chain.matches("super").count() >= depth {
                found.push((self.line(end), chain));
            }
        }
        found
    }

    fn line(&self, at: usize) -> usize {
        self.0[..at].matches('\n').count() + 1
    }
}

/// Where each `word` that is not a part of a longer one ends.
pub(super) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).filter_map(move |(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        let whole = (word.starts_with('.') || !before.is_some_and(part)) && !after.is_some_and(part);
        whole.then_some(at + word.len())
    })
}

pub(super) fn has_word(text: &str, word: &str) -> bool {
    words(text, word).next().is_some()
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '*')).collect()
}

/// The first names of the entries of a `use` group, whose opening brace is already off.
fn heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = Vec::new();
    let mut at_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                found.push(ident(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    found
}

/// What stands at the start of the text and is no code: its length in bytes.
fn skip_len(rest: &str, word_before: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_len(rest));
    }
    if rest.starts_with('"') {
        return Some(string_len(rest));
    }
    if !word_before && let Some(len) = raw_string_len(rest) {
        return Some(len);
    }
    let quoted = rest.strip_prefix('\'')?;
    let first = quoted.chars().next()?;
    if first == '\\' {
        let escaped = 1 + quoted[1..].chars().next()?.len_utf8();
        return Some(1 + escaped + quoted[escaped..].find('\'')? + 1);
    }
    // A lifetime has no closing quote behind its first character.
    quoted[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_len(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].chars().take_while(|c| *c == '#').count();
    let body = rest[prefix.len() + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = prefix.len() + hashes + 1;
    Some(body.find(&end).map_or(rest.len(), |at| opening + at + end.len()))
}

fn without_comments(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let mut word_before = false;
    while let Some(c) = source[at..].chars().next() {
        if let Some(len) = skip_len(&source[at..], word_before) {
            blank(&source[at..at + len], &mut out);
            at += len;
            word_before = false;
        } else {
            out.push(c);
            at += c.len_utf8();
            word_before = c.is_alphanumeric() || c == '_';
        }
    }
    out
}

fn blank(text: &str, out: &mut String) {
    out.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
}

/// Blanks each item behind `#[cfg(test)]`: to its semicolon, or to the brace that closes its body.
fn without_tests(code: String) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let len = item_len(&rest[at..]);
        blank(&rest[at..at + len], &mut out);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    out
}

fn item_len(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                if c == '}' && depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}
