//! From what a person wrote to a checked [`Config`], or to every mistake at once. The order: syntax (its mistakes stand alone),
//! shape (keys and kinds, in `shape`), then meaning, one file per table here. It reads no files and resolves no names.

mod address;
mod admission;
mod metric;
mod models;
mod resilience;
mod rollout;
mod server;
mod steering;
mod streams;
mod upstreams;

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde::de::Deserialize;
use toml::de::DeTable;

use super::mistake::Mistakes;
use super::raw::{At, RawConfig, schema_value};
use super::shape::{Cut, check_shape};
use super::units::{UnitError, parse_duration, parse_size, show_duration, show_size};
use super::{Config, ListenAddr, limits};

/// Reads and checks the text of a configuration; `file_name` is only shown.
///
/// # Errors
/// Every mistake that was found, with its place.
pub fn check(file_name: &str, text: &str) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes::new(file_name, text);
    if text.len() > limits::CONFIG_FILE_BYTES_MAX {
        let bound = show_size(limits::CONFIG_FILE_BYTES_MAX as u64);
        mistakes.add(&(0..0), format!("the file is larger than {bound}"), "", "a configuration is a few KiB: is this the right file?");
        return Err(mistakes);
    }
    let (mut root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let help =
                if error.message().contains("duplicate") { "remove one of the two" } else { "see https://toml.io for how TOML is written" };
            mistakes.add(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()), "", help);
        }
        mistakes.sort();
        return Err(mistakes);
    }
    let cut = check_shape(&mut root, &schema_value(), &mut mistakes);
    let root_start = root.span().start;
    let raw = match RawConfig::deserialize(toml::de::Deserializer::from(root)) {
        Ok(raw) => raw,
        Err(error) => {
            // `shape` leaves nothing for serde to refuse; should they ever differ, say what serde says.
            mistakes.add(&error.span().unwrap_or(0..0), error.message(), "", "");
            return Err(mistakes);
        }
    };
    let mut checker = Checker { mistakes, cut, root_start };
    let config = checker.config(&raw);
    checker.mistakes.sort();
    if checker.mistakes.is_empty() { Ok(config) } else { Err(checker.mistakes) }
}

/// Reads an address to listen on as it stands in `server.listen`, for arguments.
///
/// # Errors
/// Why it cannot be, and what to write.
pub fn parse_listen(text: &str) -> Result<ListenAddr, String> {
    address::listen(text).map_err(|error| format!("{}; {}", error.why, error.help))
}

/// Collects mistakes; where something is wrong it goes on with the default, so that the rest is looked at too.
struct Checker {
    mistakes: Mistakes,
    cut: Cut,
    root_start: usize,
}

/// Where a name was first written.
type Seen<'a> = HashMap<&'a str, &'a Range<usize>>;

impl Checker {
    fn config(&mut self, raw: &RawConfig) -> Config {
        let server = self.server(raw.server.as_ref());
        let admin = self.admin(raw.admin.as_ref(), &server, raw.server.as_ref());
        let upstreams = self.upstreams(raw.upstreams.as_deref().unwrap_or_default());
        let mut models = self.models(raw.models.as_deref().unwrap_or_default(), &upstreams);
        self.learned_limits_fit(raw.upstreams.as_deref().unwrap_or_default(), raw.models.as_deref().unwrap_or_default(), &models);
        let admission = self.admission(raw.admission.as_ref());
        let routes = self.routes(raw.routes.as_deref().unwrap_or_default(), &upstreams);
        let canned = self.fallbacks(raw.canned.as_deref().unwrap_or_default(), raw.models.as_deref().unwrap_or_default(), &mut models);
        // After all that is written on a model: its arms are copies of it.
        self.splits(raw.models.as_deref().unwrap_or_default(), &upstreams, &mut models);
        let written = raw.models.as_ref().is_some_and(|list| !list.is_empty()) || raw.routes.as_ref().is_some_and(|list| !list.is_empty());
        if !written && !self.cut.has(self.root_start, "models") && !self.cut.has(self.root_start, "routes") {
            let help = "add an upstream and a model that uses it:\n[[upstreams]]\nname = \"gpu0\"\nendpoints = [\"http://127.0.0.1:8000\"]\n\n[[models]]\nname = \"*\"\nupstream = \"gpu0\"";
            self.mistakes.add(&(0..0), "there is no model and no route, so every request would be refused", "", help);
        }
        Config { server, admin, admission, upstreams, models, routes, canned }
    }

    /// A key that must be there. `table` is where its table begins.
    fn required<'a, T>(&mut self, found: Option<&'a At<T>>, table: &Range<usize>, path: &str, example: &str) -> Option<&'a At<T>> {
        let key = path.rsplit('.').next().unwrap_or(path);
        if found.is_none() && !self.cut.has(table.start, key) {
            self.mistakes.add(table, format!("`{path}` is missing"), "in this table", format!("add {example}"));
        }
        found
    }

    fn duration(&mut self, found: Option<&At<String>>, default: Duration, allowed: RangeInclusive<Duration>, path: &str) -> Duration {
        let Some(At { value, place }) = found else { return default };
        let bounds = || format!("write {} to {}", show_duration(*allowed.start()), show_duration(*allowed.end()));
        match parse_duration(value) {
            Ok(duration) if allowed.contains(&duration) => duration,
            Ok(_) => {
                self.mistakes.add(place, format!("`{path}` cannot be {value:?}"), "out of bounds", bounds());
                default
            }
            Err(error) => {
                let example = show_duration(if default.is_zero() { Duration::from_millis(5) } else { default });
                self.not_a_unit(place, path, value, error, "duration", "ns, us, ms, s, m, h", &example);
                default
            }
        }
    }

    fn size(&mut self, found: Option<&At<String>>, default: u64, allowed: RangeInclusive<u64>, path: &str) -> u64 {
        let Some(At { value, place }) = found else { return default };
        match parse_size(value) {
            Ok(bytes) if allowed.contains(&bytes) => bytes,
            Ok(_) => {
                let help = format!("write {} to {}", show_size(*allowed.start()), show_size(*allowed.end()));
                self.mistakes.add(place, format!("`{path}` cannot be {value:?}"), "out of bounds", help);
                default
            }
            Err(error) => {
                self.not_a_unit(place, path, value, error, "size", "B, KiB, MiB, GiB (or KB, MB, GB of 1000)", &show_size(default));
                default
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the words of one sentence; both callers are above")]
    fn not_a_unit(&mut self, place: &Range<usize>, path: &str, value: &str, error: UnitError, what: &str, units: &str, example: &str) {
        let (why, label) = match error {
            UnitError::NoNumber => ("does not begin with a number", "no number"),
            UnitError::NoUnit => ("has no unit", "no unit"),
            UnitError::UnknownUnit => ("has a unit that is not known", "unknown unit"),
            UnitError::OutOfRange => ("is too large or too fine", "out of range"),
        };
        let help = format!("write a number and a unit, like {example:?}; units: {units}");
        self.mistakes.add(place, format!("`{path}` is not a {what}: {value:?} {why}"), label, help);
    }

    /// A whole number within bounds. `T` holds every allowed value.
    fn count<T>(&mut self, found: Option<&At<i64>>, default: T, allowed: RangeInclusive<T>, path: &str) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let Some(At { value, place }) = found else { return default };
        match T::try_from(*value) {
            Ok(count) if allowed.contains(&count) => count,
            _ => {
                let help = format!("write {} to {}; the default is {default}", allowed.start(), allowed.end());
                self.mistakes.add(place, format!("`{path}` cannot be {value}"), "out of bounds", help);
                default
            }
        }
    }

    /// As [`Self::count`], and a power of two: the ring or queue behind it masks its index instead of dividing.
    fn power_of_two(&mut self, found: Option<&At<i64>>, default: u32, allowed: RangeInclusive<u32>, path: &str) -> u32 {
        let before = self.mistakes.count();
        let count = self.count(found, default, allowed.clone(), path);
        let Some(At { place, .. }) = found else { return count };
        if self.mistakes.count() == before && !count.is_power_of_two() {
            let below = 1_u32 << count.ilog2();
            let above = below.saturating_mul(2).min(*allowed.end());
            self.mistakes.add(
                place,
                format!("`{path}` must be a power of two, not {count}"),
                "not a power of two",
                format!("write {below} or {above}"),
            );
            return default;
        }
        count
    }

    /// Notes a name that was used before; the first use stays.
    fn unique<'a>(&mut self, seen: &mut Seen<'a>, name: &'a At<String>, what: &str, help: &str) {
        match seen.get(name.value.as_str()) {
            Some(first) => {
                let line = self.line_of(first.start);
                self.mistakes.add(&name.place, format!("{what} {:?} is there twice", name.value), format!("first on line {line}"), help);
            }
            None => {
                seen.insert(&name.value, &name.place);
            }
        }
    }

    fn at_most(&mut self, count: usize, max: usize, place: &Range<usize>, what: &str) {
        if count > max {
            self.mistakes.add(place, format!("there are {count} {what}"), "too many", format!("at most {max} are allowed"));
        }
    }

    fn line_of(&self, at: usize) -> usize {
        self.mistakes.line_of(at)
    }
}
