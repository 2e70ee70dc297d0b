//! Brings a request's path to one normal form and refuses those that cannot have one. Routing, authentication and forwarding
//! use these same bytes: a decision made on one spelling and a forward of another is how requests slip past rules
//! (http-rules 8). The query is not part of the path and is forwarded as it came.
//!
//! The form: unreserved characters unescaped, other escapes in upper case, `.` and `..` segments resolved, runs of `/` made
//! one (RFC 3986, 6.2.2). `%2F` and `%5C` stay escaped and separate nothing here, but a path that would hold a dot segment if
//! someone behind us did take them for separators is refused, as is `..;x`.

/// Why a path has no normal form; each is answered with 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A byte outside 0x21-0x7E, or one of `?`, `#`, `\`.
    Byte,
    /// `%` without two hex digits.
    Escape,
    /// An escaped control character (`%00`, `%0d`, `%0a` and their like, `%7f`).
    Control,
    /// `..` above the root.
    AboveRoot,
    /// A dot segment hidden behind `%2F`, `%5C` or `;`.
    HiddenDots,
}

/// The normal form of `path` (without the query): `path` itself when it already has it, which is the usual case and costs one
/// pass without a copy; else written into `scratch`, whose old content is lost. Never longer than `path`.
///
/// # Errors
/// When there is none.
pub fn normal_form<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let mut previous = 0;
    let mut plain = true;
    for &byte in path {
        if !(0x21..=0x7e).contains(&byte) || matches!(byte, b'?' | b'#' | b'\\') {
            return Err(PathError::Byte);
        }
        // A segment that begins with a dot may be fine (`/.well-known`); the slow way tells.
        plain &= byte != b'%' && !(previous == b'/' && matches!(byte, b'/' | b'.'));
        previous = byte;
    }
    if plain {
        return Ok(path);
    }
    unescape(path, scratch)?;
    resolve_segments(scratch)?;
    Ok(scratch)
}

/// Decodes escapes of unreserved characters, writes the others in upper case.
fn unescape(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    out.reserve(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(PathError::Escape) };
        let decoded = hex(*high)? << 4 | hex(*low)?;
        match decoded {
            0..0x20 | 0x7f => return Err(PathError::Control),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(decoded),
            _ => out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
        }
        rest = after;
    }
    Ok(())
}

fn hex(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::Escape),
    }
}

/// Resolves dot segments and runs of `/` in place (RFC 3986, 5.2.4, but strict above the root).
fn resolve_segments(path: &mut Vec<u8>) -> Result<(), PathError> {
    // Kept so far: path[..written], always without a trailing slash; `read` stands behind a slash.
    let mut written = 0;
    let mut read = 1;
    let mut ends_with_slash = true;
    while read <= path.len() {
        let length = memchr::memchr(b'/', &path[read..]).unwrap_or(path.len() - read);
        let segment = read..read + length;
        // The last segment decides: `/a/.` and `/a/b/..` name what is below a directory, as `/a/` does.
        ends_with_slash = true;
        match &path[segment.clone()] {
            b"" | b"." => {}
            b".." => {
                if written == 0 {
                    return Err(PathError::AboveRoot);
                }
                written = memchr::memrchr(b'/', &path[..written]).unwrap_or(0);
            }
            other => {
                if hides_dots(other) {
                    return Err(PathError::HiddenDots);
                }
                path[written] = b'/';
                path.copy_within(segment, written + 1);
                written += 1 + length;
                ends_with_slash = false;
            }
        }
        read += length + 1;
    }
    path.truncate(written);
    if ends_with_slash {
        path.push(b'/');
    }
    Ok(())
}

/// Whether a segment holds `.` or `..` for someone who splits at `%2F` or `%5C`, or cuts at `;`.
fn hides_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let cut = (0..rest.len()).find(|&at| rest[at..].starts_with(b"%2F") || rest[at..].starts_with(b"%5C"));
        let piece = &rest[..cut.unwrap_or(rest.len())];
        let named = piece.split(|&byte| byte == b';').next().unwrap_or(piece);
        if matches!(named, b"." | b"..") {
            return true;
        }
        match cut {
            Some(at) => rest = &rest[at + 3..],
            None => return false,
        }
    }
}
