//! tests/golden/check: what `headrace check` makes of a configuration, `name.toml` to `name.txt`.

use std::path::Path;

use super::{as_json, human};
use crate::config::tests::golden::{compare, read};
use crate::config::{Config, check};

fn golden(name: &str) -> (String, Config) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check").join(name);
    let text = read(&path.with_extension("toml"));
    let config = check(name, &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    (path.with_extension("txt").to_string_lossy().into_owned(), config)
}

#[test]
fn the_settings_in_effect_are_told_whether_written_or_not() {
    for name in ["defaults", "resilience"] {
        let (transcript, config) = golden(name);
        let told = human(&config);
        // The memory sum behind it has tests of its own.
        let (settings, memory) = told.split_once("\n\nmemory ").unwrap_or_else(|| panic!("{told}"));
        assert!(memory.contains("worst case"));
        compare(Path::new(&transcript), &format!("{settings}\n"));
    }
}

#[test]
fn a_program_is_told_the_same() {
    let (_, config) = golden("resilience");
    let (told, human) = (as_json(&config), human(&config));
    for of in ["upstreams", "models"] {
        for one in told[of].as_array().unwrap() {
            for (label, shown) in one["settings"].as_object().unwrap() {
                let line = format!("{:<10} {}", label.replace('_', " "), shown.as_str().unwrap());
                assert!(human.contains(&line), "{line}");
            }
        }
    }
    assert_eq!(told["models"][0]["settings"]["fallback"], "small, then sorry (canned, status 503)");
    assert_eq!(told["upstreams"][1]["settings"]["probes"], "none");
}
