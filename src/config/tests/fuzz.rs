//! Whatever is in the file, the answer is a configuration or mistakes with places inside it; never a panic.

use std::time::Duration;

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::super::units::{parse_duration, parse_size, show_duration, show_size, show_size_rounded};
use super::{DESIGN_EXAMPLE, check, memory};

/// Checks a text and looks at everything that comes of it.
fn survives(text: &str) {
    match check("fuzz.toml", text) {
        Ok(config) => assert!(memory(&config, 4).standing_bytes > 0),
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let lines = text.split('\n').count();
            for mistake in mistakes.list() {
                assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "{mistake:?}");
            }
            assert!(mistakes.render(true).len() >= mistakes.render(false).len());
        }
    }
}

/// Lines that look like a configuration: known and almost known keys, values of every kind.
fn nearly() -> impl Strategy<Value = String> {
    let heading = prop::sample::select(vec![
        "[server]",
        "[admin]",
        "[[upstreams]]",
        "[[models]]",
        "[[routes]]",
        "[models.batching]",
        "[upstreams]",
        "[server.io]",
        "[x]",
        "",
    ]);
    let key = prop::sample::select(vec![
        "listen",
        "shards",
        "io",
        "max_body",
        "name",
        "endpoints",
        "upstream",
        "path",
        "batching",
        "nmae",
        "batching.mode",
        "\"\"",
        "header_timeout",
        "receive_buffers",
        "weight",
        "total_timeout",
        "max_items",
        "ä",
        "models",
        "server",
    ]);
    let fixed = prop::sample::select(vec![
        "\"gpu0\"",
        "1",
        "-1",
        "0xff",
        "1.5",
        "nan",
        "true",
        "1979-05-27",
        "[]",
        "{}",
        "\"5s\"",
        "\"32MiB\"",
        "[\"http://a\"]",
        "[[1]]",
        "{ url = \"unix:/a\", weight = 0 }",
        "[{ url = 1 }, \"http://b:1\"]",
        "\"\"\"\na\n\"\"\"",
        "\"auto\"",
        "99999999999999999999",
        "\"\u{202e}ä\"",
        "",
    ]);
    // An empty one stands for free text.
    let value = (fixed, ".{0,12}").prop_map(|(fixed, free)| if fixed.is_empty() { free } else { fixed.to_owned() });
    let line = (heading, prop::collection::vec((key, value), 0..5)).prop_map(|(heading, pairs)| {
        pairs.into_iter().fold(format!("{heading}\n"), |text, (key, value)| format!("{text}{key} = {value}\n"))
    });
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn nearly_right_text_is_survived(text in nearly()) {
        survives(&text);
    }

    #[test]
    fn a_wounded_example_is_survived(at in any::<prop::sample::Index>(), cut in 0_usize..20, put in "(?s).{0,4}") {
        let chars: Vec<char> = DESIGN_EXAMPLE.chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        survives(&text);
    }

    #[test]
    fn durations_round_trip(nanos in any::<u64>(), unit in prop::sample::select(vec![1_u64, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000])) {
        let duration = Duration::from_nanos(nanos / unit * unit);
        prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }

    #[test]
    fn sizes_round_trip(bytes in any::<u64>(), shift in 0_u32..40) {
        let bytes = bytes >> shift << shift.min(20);
        prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        prop_assert!(show_size_rounded(bytes).len() <= 17);
    }

    #[test]
    fn any_unit_text_is_survived(text in ".{0,30}") {
        let _ = (parse_duration(&text), parse_size(&text));
    }

    #[test]
    fn numbers_with_units_are_read_or_refused(text in "[0-9.]{0,25} ?(ns|us|ms|s|m|h|B|KiB|MB)") {
        let _ = (parse_duration(&text), parse_size(&text));
    }
}
