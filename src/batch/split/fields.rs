//! Which response header fields of a merged call every member may see. Cookies, request ids and rate-limit counts belong to one
//! request; copied to all they would tell clients of each other.

use bytes::{Bytes, BytesMut};

/// The lines of `fields` that are true of every member.
pub(in crate::batch) fn shared(fields: &Bytes) -> Bytes {
    let mut kept = BytesMut::new();
    let mut only = None;
    let mut count = 0;
    let mut start = 0;
    while let Some(len) = memchr::memchr(b'\n', &fields[start..]) {
        let line = start..start + len + 1;
        start = line.end;
        let name = fields[line.clone()].split(|byte| *byte == b':').next().unwrap_or_default();
        if SHARED.iter().any(|shared| name.eq_ignore_ascii_case(shared.as_bytes())) {
            count += 1;
            if count == 1 {
                only = Some(line);
                continue;
            }
            if let Some(first) = only.take() {
                kept.extend_from_slice(&fields[first]);
            }
            kept.extend_from_slice(&fields[line]);
        }
    }
    only.map_or_else(|| kept.freeze(), |line| fields.slice(line))
}

const SHARED: [&str; 5] = ["content-type", "date", "server", "cache-control", "vary"];
