//! A strict reader of the text form: refuses what Prometheus would, and what it would swallow but should not be there.

use std::collections::{BTreeMap, HashSet};

/// Samples by name and labels (in the order written).
pub(super) type Samples = BTreeMap<(String, Labels), f64>;

type Labels = Vec<(String, String)>;

/// Reads a whole scrape: families in blocks with HELP and TYPE first, names and labels well formed, no sample twice,
/// histograms cumulative with `+Inf` equal to their count, `# EOF` at the end.
pub(super) fn check(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
    let mut families = HashSet::new();
    let mut samples = Samples::new();
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        let (family, help) = line.strip_prefix("# HELP ").expect(line).split_once(' ').expect(line);
        assert!(families.insert(family.to_owned()), "{family} in two blocks");
        assert!(!help.is_empty() && !help.contains('\\'), "{line}");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {family} "))).expect("TYPE follows HELP");
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_sum", "_count", "_bucket"],
            other => panic!("{family} is a {other}"),
        };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} in the block of {family}"));
            assert!(suffixes.contains(&suffix), "{line} in a {kind}");
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(samples.insert((name.clone(), labels), value).is_none(), "twice: {line}");
        }
        if kind == "histogram" {
            check_histogram(family, &samples);
        }
    }
    samples
}

fn check_histogram(family: &str, samples: &Samples) {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), &value) in samples {
        if name == &format!("{family}_bucket") {
            let (le, rest): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|label| label.0 == "le");
            assert_eq!(le.len(), 1, "{family}{labels:?}");
            let bound = if le[0].1 == "+Inf" { f64::INFINITY } else { le[0].1.parse().expect("a number") };
            series.entry(rest).or_default().push((bound, value));
        }
    }
    let counts = samples.keys().filter(|(name, _)| name == &format!("{family}_count")).count();
    assert_eq!(series.len(), counts, "{family}: a count for every set of buckets");
    for (labels, mut buckets) in series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{family}{labels:?} not cumulative");
        let &(last, all) = buckets.last().expect("buckets");
        assert!(last.is_infinite(), "{family}{labels:?} has no +Inf");
        assert_eq!(all, samples[&(format!("{family}_count"), labels.clone())], "{family}{labels:?}");
        let sum = samples[&(format!("{family}_sum"), labels)];
        assert!(sum >= 0.0);
    }
}

/// `name{a="b",c="d"} value`.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let name = &line[..end];
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, after) = quoted(after);
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
            assert!(after.starts_with([',', '}']), "{line}");
        }
        assert!(!labels.is_empty(), "empty braces: {line}");
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect(line);
    (name.to_owned(), labels, value.parse().expect(line))
}

/// A label value up to its closing quote, unescaped, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().map(|(_, char)| char) {
                Some('n') => '\n',
                Some(char @ ('\\' | '"')) => char,
                other => panic!("escape {other:?}"),
            }),
            '\n' => panic!("a raw line end in a label"),
            _ => value.push(char),
        }
    }
    panic!("no closing quote: {text}")
}

fn is_name(name: &str) -> bool {
    name.starts_with(|char: char| char.is_ascii_lowercase())
        && name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

#[test]
fn the_checker_refuses_what_it_should() {
    let good = "# HELP a_b x\n# TYPE a_b gauge\na_b{c=\"d\"} 1\n# EOF\n";
    assert_eq!(check(good).len(), 1);
    for (from, to) in [
        ("# EOF\n", ""),
        ("# TYPE a_b gauge\n", ""),
        ("gauge", "counter"),
        ("{c=\"d\"}", "{}"),
        ("{c=\"d\"}", "{c=\"d}"),
        ("{c=\"d\"}", "{c=\"d\\x\"}"),
        ("a_b{c=\"d\"} 1\n", "a_b{c=\"d\"} 1\na_b{c=\"d\"} 2\n"),
        ("} 1", "} one"),
        ("\na_b{", "\nother{"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(std::panic::catch_unwind(|| check(&bad)).is_err(), "{bad}");
    }
    let histogram = "# HELP h x\n# TYPE h histogram\nh_sum 3.0\nh_count 2\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n# EOF\n";
    assert_eq!(check(histogram).len(), 4);
    for (from, to) in [("_count 2", "_count 3"), ("\"1.0\"} 1", "\"1.0\"} 3"), ("+Inf", "2.0")] {
        let bad = histogram.replace(from, to);
        assert!(std::panic::catch_unwind(|| check(&bad)).is_err(), "{bad}");
    }
}
