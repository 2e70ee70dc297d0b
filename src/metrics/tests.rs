//! Buckets and labels, what a scrape says, reloads, and a strict reading of the text form (`checker`).

#![expect(clippy::disallowed_types, reason = "a test counts on one thread and scrapes on another")]

mod checker;
mod parts;
mod scrape;
