//! Normal forms of paths: found once and for all (the form of a form is itself), never longer, never with a dot segment that
//! somebody behind us could still resolve.
#![cfg_attr(fuzzing, no_main)]

use headrace::policy::normal_form;
use headrace_fuzz::kind;

headrace_fuzz::main!("path", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let mut scratch = b"old content".to_vec();
    let form = match normal_form(data, &mut scratch) {
        Ok(form) => form.to_vec(),
        Err(error) => return kind(format!("{error:?}")),
    };
    assert!(form.first() == Some(&b'/') && form.len() <= data.len());
    assert!(form.iter().all(|byte| (0x21..=0x7e).contains(byte) && !b"?#\\".contains(byte)));
    let mut again = Vec::new();
    assert_eq!(normal_form(&form, &mut again), Ok(&form[..]));
    assert!(!form.windows(2).any(|pair| pair == b"//"));
    assert!(form.split(|byte| *byte == b'/').all(|segment| segment != b"." && segment != b".."));
    let read_loosely = String::from_utf8_lossy(&form).to_ascii_lowercase().replace("%2f", "/").replace("%5c", "/").replace("%2e", ".");
    for segment in read_loosely.split('/') {
        let name = segment.split(';').next().unwrap_or(segment);
        assert!(name != ".." && name != ".", "{read_loosely}");
    }
    kind((form.len() == data.len(), form.contains(&b'%'), form.contains(&b';'), form.split(|byte| *byte == b'/').count()))
}

const TOKENS: &[&str] =
    &["/", "//", "/./", "/../", "..", "%2e", "%2E%2e", "%2f", "%5C", "%00", "%0d%0a", ";", "..;x", "%25", "%7E", "%c3%a9", "/v1"];
