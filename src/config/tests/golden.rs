//! tests/golden/config: `name.toml` and what `headrace check` says to it, `name.txt`.

use std::path::{Path, PathBuf};

use super::check;

#[test]
fn mistakes_read_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    names.sort();
    assert!(names.len() >= 8, "only {} transcripts are left", names.len());
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Every mistake says what to do about it.
        if let Err(mistakes) = check(name, &read(&path)) {
            assert!(mistakes.list().iter().all(|mistake| !mistake.message.is_empty() && !mistake.help.is_empty()), "{mistakes}");
        }
        let found = match check(name, &read(&path)) {
            Ok(_) => "ok\n".to_owned(),
            Err(mistakes) => mistakes.to_string(),
        };
        compare(&path.with_extension("txt"), &found);
    }
}

/// The five kinds of mistakes in one file: an unknown key, a wrong kind, a bad unit, an unknown reference, a duplicate.
#[test]
fn five_mistakes_are_told_in_one_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config/five-mistakes.toml");
    let mistakes = check("five-mistakes.toml", &read(&path)).unwrap_err();
    let found: Vec<(usize, usize)> = mistakes.list().iter().map(|mistake| (mistake.line, mistake.column)).collect();
    assert_eq!(found, [(3, 1), (4, 18), (5, 16), (12, 8), (17, 12)], "{mistakes}");
    assert!(mistakes.list().iter().all(|mistake| !mistake.message.is_empty() && !mistake.help.is_empty()));
}

/// Compares with the recorded text, or records it when HEADRACE_BLESS is set.
pub(crate) fn compare(path: &Path, found: &str) {
    if std::env::var_os("HEADRACE_BLESS").is_some() {
        write(path, found);
        return;
    }
    assert!(read(path) == found, "{} differs from this (HEADRACE_BLESS=1 records it):\n{found}", path.display());
}

#[expect(clippy::disallowed_methods, reason = "a test reads its files")]
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[expect(clippy::disallowed_methods, reason = "a test records its files when asked")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
