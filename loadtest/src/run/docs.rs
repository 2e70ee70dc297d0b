//! Puts fresh figures into documents, between `<!-- figures:NAME -->` and `<!-- /figures -->`. Everything else in them is the writer's.

use std::fmt::Write;

/// The document with its blocks replaced, and what could not be refreshed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refreshed {
    pub(crate) text: String,
    /// Names of blocks this run has nothing for; they keep what they say.
    pub(crate) kept: Vec<String>,
}

const OPEN: &str = "<!-- figures:";
const OPEN_END: &str = " -->";
const CLOSE: &str = "<!-- /figures -->";

/// # Errors
/// For a person, with the line: a block that is not closed, or opened within another.
pub(crate) fn refresh(document: &str, blocks: &[(String, String)]) -> Result<Refreshed, String> {
    let (mut text, mut kept) = (String::with_capacity(document.len()), Vec::new());
    let mut open: Option<(usize, &str)> = None;
    for (at, line) in document.lines().enumerate() {
        let line_number = at + 1;
        if let Some(name) = line.trim().strip_prefix(OPEN) {
            let name = name.strip_suffix(OPEN_END).ok_or_else(|| format!("line {line_number}: write {OPEN}NAME{OPEN_END}"))?;
            if let Some((since, _)) = open {
                return Err(format!("line {line_number}: a block opens within the one of line {since}; close that with {CLOSE}"));
            }
            open = Some((line_number, name));
            let _ = writeln!(text, "{line}");
            match blocks.iter().find(|(known, _)| known == name) {
                Some((_, fresh)) => text.push_str(fresh),
                None => kept.push(name.to_owned()),
            }
        } else if line.trim() == CLOSE {
            open.take().ok_or_else(|| format!("line {line_number}: closes a block that was not opened"))?;
            let _ = writeln!(text, "{line}");
        } else if open.is_none_or(|(_, name)| kept.iter().any(|one| one == name)) {
            let _ = writeln!(text, "{line}");
        }
    }
    match open {
        Some((since, name)) => Err(format!("line {since}: the block {name:?} is not closed with {CLOSE}")),
        None => Ok(Refreshed { text, kept }),
    }
}
