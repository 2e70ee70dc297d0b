//! The first look at a parsed file: unknown keys, wrong kinds of values and words that are no choice, all of them at once. It walks
//! the document along the JSON Schema, which is made from `raw`, so the two cannot disagree. Serde would stop at the first mistake;
//! what is wrong is noted here and cut out, and serde reads the rest. What values mean is settled in `check`.

use std::collections::HashSet;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::mistake::{Mistakes, listed, nearest};

/// Keys that were written but cut out as wrong, so that they are not called missing as well: the place where their table begins and
/// the key.
#[derive(Debug, Default)]
pub(super) struct Cut(HashSet<(usize, String)>);

impl Cut {
    pub(super) fn has(&self, table_start: usize, key: &str) -> bool {
        self.0.contains(&(table_start, key.to_owned()))
    }

    fn add(&mut self, table_start: usize, key: &str) {
        self.0.insert((table_start, key.to_owned()));
    }
}

/// Walks the whole document; afterwards it has the shape the schema asks for.
pub(super) fn check_shape(root: &mut Spanned<DeTable<'_>>, schema: &Value, mistakes: &mut Mistakes) -> Cut {
    let mut walk = Walk { mistakes, cut: Cut::default() };
    let start = root.span().start;
    walk.table(root.get_mut(), start, schema, "");
    walk.cut
}

/// The keys of one table: those it may have and those it has.
struct Keys<'s> {
    known: &'s serde_json::Map<String, Value>,
    written: HashSet<String>,
}

struct Walk<'m> {
    mistakes: &'m mut Mistakes,
    cut: Cut,
}

impl Walk<'_> {
    /// Whether the value may stay.
    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, schema: &Value, path: &str) -> bool {
        let place = value.span();
        let choices = choices(schema);
        let Some(fitting) = choices.iter().copied().find(|choice| fits(choice, value.get_ref())) else {
            let wanted = choices.iter().map(|choice| kind_name(choice)).collect::<Vec<_>>().join(" or ");
            let found = found_name(value.get_ref());
            self.mistakes.add(
                &place,
                format!("`{path}` must be {wanted}, but this is {found}"),
                found,
                kind_help(schema, path, value.get_ref()),
            );
            return false;
        };
        match value.get_mut() {
            DeValue::Table(table) => {
                self.table(table, place.start, fitting, path);
                true
            }
            DeValue::Array(array) => {
                self.array(array, fitting, path);
                true
            }
            DeValue::String(text) => self.word(text, &place, fitting, path),
            DeValue::Integer(number) => {
                let fits = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).is_ok();
                if !fits {
                    self.mistakes.add(
                        &place,
                        format!("`{path}` is a number that does not fit in 64 bits"),
                        "too large",
                        "write a smaller number",
                    );
                }
                fits
            }
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        }
    }

    fn table<'i>(&mut self, table: &mut DeTable<'i>, start: usize, schema: &Value, path: &str) {
        let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
        let keys = Keys { known, written: table.keys().map(|key| key.get_ref().to_string()).collect() };
        for (key, mut value) in std::mem::replace(table, DeTable::new()) {
            let stays = match known.get(key.get_ref().as_ref()) {
                None => {
                    self.unknown_key(&key, start, &keys, path);
                    false
                }
                Some(inner) => self.value(&mut value, inner, &joined(path, key.get_ref())),
            };
            if stays {
                table.insert(key, value);
            } else {
                self.cut.add(start, key.get_ref());
            }
        }
    }

    fn unknown_key(&mut self, key: &Spanned<DeString<'_>>, start: usize, keys: &Keys<'_>, path: &str) {
        if self.mistakes.is_full() {
            self.mistakes.add(&key.span(), "", "", "");
            return;
        }
        let help = match nearest(key.get_ref(), keys.known.keys().map(String::as_str)) {
            Some(meant) if keys.written.contains(meant) => format!("did you mean `{meant}`, which is there already?"),
            Some(meant) => {
                // It was written, only not spelled: do not call it missing too.
                self.cut.add(start, meant);
                format!("did you mean `{meant}`?")
            }
            None => {
                let home = if path.is_empty() { "the top level".to_owned() } else { format!("`{path}`") };
                format!("remove it; {home} has the keys {}", listed(keys.known.keys().map(String::as_str)))
            }
        };
        self.mistakes.add(&key.span(), format!("unknown key `{}`", joined(path, key.get_ref())), "unknown key", help);
    }

    fn array<'i>(&mut self, array: &mut DeArray<'i>, schema: &Value, path: &str) {
        let Some(inner) = schema.get("items") else { return };
        let mut kept = DeArray::new();
        for mut item in std::mem::replace(array, DeArray::new()) {
            // Items of an array of tables are named by the array: `upstreams.name`, as the documentation does.
            if self.value(&mut item, inner, path) {
                kept.push(item);
            }
        }
        *array = kept;
    }

    fn word(&mut self, text: &str, place: &std::ops::Range<usize>, schema: &Value, path: &str) -> bool {
        let Some(words) = schema.get("enum").and_then(Value::as_array) else { return true };
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        if words.contains(&text) {
            return true;
        }
        let allowed = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let help = match nearest(text, words.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}? Allowed: {allowed}"),
            None => format!("write one of {allowed}"),
        };
        self.mistakes.add(place, format!("`{path}` cannot be {text:?}"), "not a choice", help);
        false
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The alternatives of a schema: those of its `anyOf`, or itself.
fn choices(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().collect(),
        None => vec![schema],
    }
}

fn fits(schema: &Value, value: &DeValue<'_>) -> bool {
    let Some(kind) = schema.get("type").and_then(Value::as_str) else { return true };
    match value {
        DeValue::String(_) => kind == "string",
        DeValue::Integer(_) => kind == "integer" || kind == "number",
        DeValue::Float(_) => kind == "number",
        DeValue::Boolean(_) => kind == "boolean",
        DeValue::Array(_) => kind == "array",
        DeValue::Table(_) => kind == "object",
        DeValue::Datetime(_) => false,
    }
}

fn kind_name(schema: &Value) -> &'static str {
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => "a string",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("array") => "an array",
        Some("object") => "a table",
        _ => "something else",
    }
}

fn found_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What to write instead, from what was written where that is plain, else from the default or the kind.
fn kind_help(schema: &Value, path: &str, value: &DeValue<'_>) -> String {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let last = path.rsplit('.').next().unwrap_or(path);
    let of_tables = schema.pointer("/items/type").is_some_and(|kind| kind == "object");
    match (kind, value, schema.get("default")) {
        ("array", _, _) if of_tables => format!("write it as tables, each with the heading [[{path}]]"),
        ("array", DeValue::String(text), _) => format!("write {last} = [{text:?}]"),
        ("boolean", DeValue::String(text), _) if text == "true" || text == "false" => format!("write {last} = {text}, without quotes"),
        ("integer", DeValue::String(text), _) if text.parse::<i64>().is_ok() => format!("write {last} = {text}, without quotes"),
        ("object", DeValue::String(text), _) => match key_with_word(schema, text) {
            Some(key) => format!("write {last} = {{ {key} = {text:?} }}"),
            None => format!("write a table: {last} = {{ ... }}"),
        },
        ("string", DeValue::Integer(_) | DeValue::Float(_), Some(Value::String(example)))
            if example.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            format!("it carries a unit and stands in quotes, like {last} = {example:?}")
        }
        (_, _, Some(default)) => format!("write it like the default, {last} = {default}"),
        ("string", _, None) => format!("write {last} = \"...\", in quotes"),
        ("object", _, None) => format!("write a table: {last} = {{ ... }}"),
        _ => format!("write {}", choices(schema).iter().map(|choice| kind_name(choice)).collect::<Vec<_>>().join(" or ")),
    }
}

/// The key of a table that takes this word: someone wrote the word in place of the table.
fn key_with_word<'s>(table: &'s Value, word: &str) -> Option<&'s str> {
    let takes = |key: &&Value| key.get("enum").and_then(Value::as_array).is_some_and(|words| words.iter().any(|one| one == word));
    let properties = table.get("properties")?.as_object()?;
    properties.iter().find(|(_, key)| takes(key)).map(|(name, _)| name.as_str())
}
