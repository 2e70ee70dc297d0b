//! Counted figures against stored ones, and the file the stored ones lie in. How they are counted is `main`'s business.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Instructions by the name of what was counted.
pub(crate) type Figures = BTreeMap<String, u64>;

/// The file: where the figures come from, and the figures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) made: Made,
    pub(crate) figures: Figures,
}

/// What the figures depend on besides our code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) rustc: String,
    pub(crate) valgrind: String,
    /// Architecture and the widest vectors seen under valgrind: `memchr`, `httparse` and the C library choose by it.
    pub(crate) machine: String,
}

/// What is to be said about one figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Same,
    /// More than the bound above what is stored: the gate fails.
    Grew,
    /// More than the bound below: store it anew, or the next growth hides in the room that was won.
    Fell,
    /// Counted, and no figure is stored: the gate fails, or it would hold nothing.
    New,
    /// Stored, and nothing by that name was counted: the gate fails, or a case could vanish unseen.
    Gone,
}

/// One line of the comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) stored: Option<u64>,
    pub(crate) counted: Option<u64>,
    pub(crate) verdict: Verdict,
}

/// By how much a figure may differ from the stored one, in per cent. Below it lie what another C library or another minor release
/// of a dependency does; above it, somebody should have a reason.
pub(crate) const BOUND_PERCENT: u64 = 5;

impl Verdict {
    fn of(stored: Option<u64>, counted: Option<u64>) -> Verdict {
        let (Some(stored), Some(counted)) = (stored, counted) else {
            return if stored.is_none() { Verdict::New } else { Verdict::Gone };
        };
        if counted * 100 > stored * (100 + BOUND_PERCENT) {
            Verdict::Grew
        } else if counted * 100 < stored * (100 - BOUND_PERCENT) {
            Verdict::Fell
        } else {
            Verdict::Same
        }
    }

    pub(crate) fn fails(self) -> bool {
        matches!(self, Verdict::Grew | Verdict::New | Verdict::Gone)
    }
}

/// Every name that is stored or was counted, in order.
pub(crate) fn compare(stored: &Figures, counted: &Figures) -> Vec<Line> {
    let names = stored.keys().chain(counted.keys().filter(|name| !stored.contains_key(*name)));
    let line = |name: &String| {
        let (stored, counted) = (stored.get(name).copied(), counted.get(name).copied());
        Line { name: name.clone(), stored, counted, verdict: Verdict::of(stored, counted) }
    };
    let mut lines: Vec<Line> = names.map(line).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        write!(f, "{:<40} {:>10} {:>10}", self.name, number(self.stored), number(self.counted))?;
        if let (Some(stored), Some(counted)) = (self.stored, self.counted) {
            #[expect(clippy::cast_precision_loss, reason = "a percentage for a person")]
            let change = (counted as f64 / stored.max(1) as f64 - 1.0) * 100.0;
            write!(f, " {change:>+8.2} %")?;
        }
        match self.verdict {
            Verdict::Same => Ok(()),
            Verdict::Grew => write!(f, "  GREW by more than {BOUND_PERCENT} %"),
            Verdict::Fell => write!(f, "  fell by more than {BOUND_PERCENT} %: store it"),
            Verdict::New => write!(f, "  NEW: store it"),
            Verdict::Gone => write!(f, "  GONE: no such case any more, store the others"),
        }
    }
}

impl Stored {
    pub(crate) fn parse(text: &str) -> Result<Stored, toml::de::Error> {
        toml::from_str(text)
    }

    pub(crate) fn to_text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEAD}\n{}", toml::to_string(self)?))
    }
}

const HEAD: &str = "\
# Instructions per operation, counted under valgrind by `cargo bench --bench instructions`. `.ci/run` fails when one grows by more
# than 5 % and this file does not say so. Write it anew with `cargo bench --bench instructions -- --bless`, in the commit that
# changes a figure, and say there why.
";
