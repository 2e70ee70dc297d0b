//! The normal form: what becomes what, what is refused, and that it is a fixed point.

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use crate::policy::{PathError, normal_form};

#[test]
fn paths_become_their_normal_form() {
    let table = [
        ("/", "/"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/a/", "/a/"),
        ("//", "/"),
        ("/a//b///c", "/a/b/c"),
        ("/a/./b", "/a/b"),
        ("/./", "/"),
        ("/.", "/"),
        ("/a/.", "/a/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/..", "/"),
        ("/a//../b", "/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/a/..b", "/a/..b"),
        ("/%61dmin", "/admin"),
        ("/%7Euser/%2d", "/~user/-"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/%e4%BD", "/%E4%BD"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/%2e", "/a/"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/a%3fb%23", "/a%3Fb%23"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/a/b%2F%2Fc", "/a/b%2F%2Fc"),
        ("/v1/models/org%2Fname.v1", "/v1/models/org%2Fname.v1"),
    ];
    let mut scratch = b"old content".to_vec();
    for (path, wanted) in table {
        let normal = normal_form(path.as_bytes(), &mut scratch).unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(std::str::from_utf8(normal).unwrap(), wanted, "{path}");
    }
}

#[test]
fn paths_without_a_normal_form_are_refused() {
    let table = [
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("v1", PathError::NotAbsolute),
        ("http://x/", PathError::NotAbsolute),
        ("/a b", PathError::Byte),
        ("/a\tb", PathError::Byte),
        ("/a\0", PathError::Byte),
        ("/\u{e9}", PathError::Byte),
        ("/\u{7f}", PathError::Byte),
        ("/a?b", PathError::Byte),
        ("/a#b", PathError::Byte),
        ("/a\\..\\b", PathError::Byte),
        ("/%", PathError::Escape),
        ("/%4", PathError::Escape),
        ("/%4g", PathError::Escape),
        ("/%+1", PathError::Escape),
        ("/%%41", PathError::Escape),
        ("/%00", PathError::Control),
        ("/a%0d%0Ab", PathError::Control),
        ("/%7f", PathError::Control),
        ("/..", PathError::AboveRoot),
        ("/a/../../b", PathError::AboveRoot),
        ("/%2e%2e/b", PathError::AboveRoot),
        ("//../x", PathError::AboveRoot),
        ("/public/..%2fadmin", PathError::HiddenDots),
        ("/public/x%2F..%2fadmin", PathError::HiddenDots),
        ("/public/%2e%2e%5cadmin", PathError::HiddenDots),
        ("/a%2f.", PathError::HiddenDots),
        ("/a%2f..", PathError::HiddenDots),
        ("/public/..;/admin", PathError::HiddenDots),
        ("/public/..;x=1/admin", PathError::HiddenDots),
        ("/public/.;/admin", PathError::HiddenDots),
        ("/a/x%5C.;y", PathError::HiddenDots),
    ];
    let mut scratch = Vec::new();
    for (path, wanted) in table {
        assert_eq!(normal_form(path.as_bytes(), &mut scratch), Err(wanted), "{path:?}");
    }
}

#[test]
fn a_normal_path_is_borrowed() {
    let path = b"/v1/chat/completions";
    let mut scratch = Vec::new();
    let normal = normal_form(path, &mut scratch).unwrap();
    assert!(std::ptr::eq(normal, path.as_slice()));
    assert_eq!(scratch.capacity(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Forwarding the form and asking again changes nothing; nothing in it can be read as a dot segment or an empty one.
    #[test]
    fn the_form_is_a_fixed_point(path in "/(\\.|\\.\\.|/|a|%2e|%2E|%2f|%5c|%41|%25|;|~|%c3|b\\.c|/\\.\\./){0,10}") {
        let mut scratch = Vec::new();
        if let Ok(normal) = normal_form(path.as_bytes(), &mut scratch) {
            let normal = normal.to_vec();
            prop_assert!(normal.len() <= path.len());
            prop_assert!(normal.starts_with(b"/"));
            let segments: Vec<&[u8]> = normal[1..].split(|&byte| byte == b'/').collect();
            for (index, segment) in segments.iter().enumerate() {
                prop_assert!(!matches!(*segment, b"." | b".."), "{path}");
                prop_assert!(!segment.is_empty() || index + 1 == segments.len(), "{path}");
            }
            let mut again = Vec::new();
            prop_assert_eq!(normal_form(&normal, &mut again), Ok(&normal[..]), "{}", path);
        }
    }

    #[test]
    fn no_bytes_panic(path in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
        let _ = normal_form(&path, &mut Vec::new());
    }
}
