//! What is wrong in a configuration, where, and what to do: a bounded list that renders itself for people and for programs.
//! Finding mistakes is the work of `shape` and `check`.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// One mistake with its place. Lines and columns begin at 1; columns count characters.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Mistake {
    pub line: usize,
    pub column: usize,
    /// What was found and why it cannot be.
    pub message: String,
    /// What is allowed and what to do.
    pub help: String,
    /// Bytes of the file.
    #[serde(skip)]
    place: Range<usize>,
    /// Short words beside the underlined text.
    #[serde(skip)]
    label: String,
}

/// All mistakes of one configuration, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistakes {
    file_name: String,
    text: String,
    list: Vec<Mistake>,
    /// Mistakes beyond [`MISTAKES_MAX`] that are counted and not kept.
    unlisted: usize,
}

/// More mistakes than this are counted, not shown: nobody reads the hundredth, and a file of rubbish must not fill memory.
pub const MISTAKES_MAX: usize = 100;

impl Mistakes {
    pub(super) fn new(file_name: &str, text: &str) -> Mistakes {
        Mistakes { file_name: file_name.to_owned(), text: text.to_owned(), list: Vec::new(), unlisted: 0 }
    }

    /// Notes a mistake. `label` stands at the underlined text, `help` says what is allowed and what to do.
    pub(super) fn add(&mut self, place: &Range<usize>, message: impl Into<String>, label: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            self.unlisted += 1;
            return;
        }
        let place = within(&self.text, place);
        let (line, column) = position(&self.text, place.start);
        self.list.push(Mistake { line, column, message: message.into(), help: help.into(), place, label: label.into() });
    }

    /// The line, from 1, of a byte of the file.
    pub(super) fn line_of(&self, at: usize) -> usize {
        position(&self.text, within(&self.text, &(at..at)).start).0
    }

    /// Whether something inside this place is wrong already.
    pub(super) fn any_within(&self, place: &Range<usize>) -> bool {
        self.list.iter().any(|mistake| place.start <= mistake.place.start && mistake.place.end <= place.end)
    }

    /// Further mistakes are only counted, so that no work need go into their words.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MISTAKES_MAX
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|mistake| (mistake.place.start, mistake.place.end));
    }

    /// In the order of the file; at most [`MISTAKES_MAX`].
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// How many were found, shown or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.unlisted
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// For people: each mistake with its line of the file. `colour` writes terminal escapes.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for mistake in &self.list {
            out.push_str(&renderer.render(&[self.report(mistake)]));
            out.push_str("\n\n");
        }
        let noun = if self.count() == 1 { "mistake" } else { "mistakes" };
        out.push_str(&format!("{}: {} {noun}", self.file_name, self.count()));
        if self.unlisted > 0 {
            out.push_str(&format!(", of which the first {MISTAKES_MAX} are shown"));
        }
        out.push('\n');
        out
    }

    fn report<'a>(&'a self, mistake: &'a Mistake) -> annotate_snippets::Group<'a> {
        // Only the lines of the mistake are handed over: the renderer would otherwise read the whole file for each one.
        let first = self.text[..mistake.place.start].rfind('\n').map_or(0, |at| at + 1);
        let last = self.text[mistake.place.end..].find('\n').map_or(self.text.len(), |at| mistake.place.end + at);
        let place = mistake.place.start - first..mistake.place.end - first;
        let mut annotation = AnnotationKind::Primary.span(place);
        if !mistake.label.is_empty() {
            annotation = annotation.label(mistake.label.as_str());
        }
        let snippet =
            Snippet::source(&self.text[first..last]).line_start(mistake.line).path(self.file_name.as_str()).annotation(annotation);
        let group = Level::ERROR.primary_title(mistake.message.as_str()).element(snippet);
        if mistake.help.is_empty() { group } else { group.element(Level::HELP.message(mistake.help.as_str())) }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

/// The known word that `word` was probably meant to be: the nearest by edit distance, when it is near enough to be a slip.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|one| (edit_distance(&lower, &one.to_lowercase()), one))
        .filter(|(distance, one)| *distance <= allowed && *distance < one.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, one)| one)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). Long words are never near.
fn edit_distance(left: &str, right: &str) -> usize {
    const LONGEST: usize = 64;
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(LONGEST + 1).collect(), right.chars().take(LONGEST + 1).collect());
    if left.len() > LONGEST || right.len() > LONGEST {
        return usize::MAX;
    }
    let mut before: Vec<usize> = vec![0; right.len() + 1];
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1; right.len() + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

/// A list for a sentence, each word once, cut after sixteen.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 16;
    let mut words: Vec<&str> = words.into_iter().collect();
    words.sort_unstable();
    words.dedup();
    let mut out = words.iter().take(SHOWN).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    if words.len() > SHOWN {
        out.push_str(&format!(" and {} more", words.len() - SHOWN));
    }
    out
}

/// The place cut to the text and to whole characters, so that rendering cannot fail.
fn within(text: &str, place: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(place.start.min(text.len()));
    let end = text.ceil_char_boundary(place.end.clamp(start, text.len()));
    start..end
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
