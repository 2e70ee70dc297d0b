//! Tokens: every request carries one of its own, every answer must carry that one and no other. Sixteen characters that are also
//! valid base64, so that a token may stand where an embedding is expected.

use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a token.
pub(crate) const LEN: usize = 16;

const MARK: &str = "tk";

/// One that was never given out in this run. `kind` says who made it: a client's are `0`.
pub(crate) fn fresh(kind: u8) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{MARK}{kind:02x}{:04x}{number:08x}", std::process::id() & 0xffff)
}

/// What an upstream puts into answers that nobody asked for.
pub(crate) const UNASKED: u8 = 0xfe;

/// All tokens in `bytes`, in order, repeated ones too.
pub(crate) fn all_in(bytes: &[u8]) -> impl Iterator<Item = &str> {
    (0..bytes.len().saturating_sub(LEN - 1)).filter_map(|at| {
        let text = std::str::from_utf8(&bytes[at..at + LEN]).ok()?;
        let digits = text.strip_prefix(MARK)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()).then_some(text)
    })
}

#[test]
fn tokens_are_found_wherever_they_stand_and_never_repeat() {
    let (one, two) = (fresh(0), fresh(0));
    assert_ne!(one, two);
    assert_eq!(one.len(), LEN);
    let text = format!("x{one}tk{two}{one}");
    assert_eq!(all_in(text.as_bytes()).collect::<Vec<_>>(), [&one, &two, &one]);
    assert_eq!(all_in(&one.as_bytes()[1..]).count(), 0);
}
