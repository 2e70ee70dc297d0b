//! Reads the `Connection` fields of a head: what they say about this connection, and which fields end at this hop (rule 17).

use super::head::{Field, HeadError, is_token_byte, trim};
use super::known::Known;

/// Names one head may list in `Connection` beyond `close`, `keep-alive` and `upgrade`; more is refused. Honest messages list
/// one or two; the bound keeps names x fields small.
const NAMES_MAX: usize = 16;

/// What the `Connection` fields say.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// Reads all `Connection` fields and marks the fields they name as [`Known::Named`].
pub(super) fn read(fields: &mut [Field], buffer: &[u8]) -> Result<Options, HeadError> {
    let mut options = Options::default();
    let mut name_count = 0;
    for at in 0..fields.len() {
        if fields[at].known != Known::Connection {
            continue;
        }
        for name in fields[at].value.of(buffer).split(|&byte| byte == b',').map(trim) {
            if name.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if name.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if name.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if !name.is_empty() {
                name_count += 1;
                mark(fields, buffer, name, name_count)?;
            }
        }
    }
    Ok(options)
}

fn mark(fields: &mut [Field], buffer: &[u8], name: &[u8], name_count: usize) -> Result<(), HeadError> {
    if name_count > NAMES_MAX {
        return Err(HeadError::bad("connection_names"));
    }
    if !name.iter().all(|&byte| is_token_byte(byte)) {
        return Err(HeadError::bad("connection_token"));
    }
    if Known::of(name).is_protected() || Known::is_look_alike(name) {
        return Err(HeadError::bad("connection_protected"));
    }
    for field in fields {
        // Expect is answered here and never forwarded, so naming it changes nothing.
        let ends_here = field.known.is_hop_by_hop() || field.known == Known::Expect;
        if !ends_here && field.name.of(buffer).eq_ignore_ascii_case(name) {
            field.known = Known::Named;
        }
    }
    Ok(())
}
