//! Event streams: which events the bytes hold, whatever the line ends and wherever they are cut (wire 4.1).

use proptest::prelude::*;

use crate::http::EventReader;

/// An event as name and data; `None` where the data was too long.
type Told = (String, Option<String>);

const LIMIT: usize = 64;

fn read(pieces: &[&[u8]]) -> (Vec<Told>, EventReader) {
    let mut reader = EventReader::new(LIMIT);
    let mut events = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (used, event) = reader.handle_bytes(rest);
            assert!(used > 0, "a step must get ahead");
            events.extend(event.map(|event| (text(event.name), event.data.map(text))));
            rest = &rest[used..];
        }
    }
    (events, reader)
}

fn events(text: &str) -> Vec<Told> {
    let (mut events, mut reader) = read(&[text.as_bytes()]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    events.extend(reader.handle_eof().map(|event| (text(event.name), event.data.map(text))));
    events
}

fn told(name: &str, data: &str) -> Told {
    (name.to_owned(), Some(data.to_owned()))
}

#[test]
fn lines_and_fields_are_read_as_the_standard_says() {
    let cases: &[(&str, &[Told])] = &[
        ("data: one\n\ndata: two\n\n", &[told("", "one"), told("", "two")]),
        ("data: one\r\n\r\ndata: two\r\n\r\n", &[told("", "one"), told("", "two")]),
        ("data: one\r\rdata: two\r\r", &[told("", "one"), told("", "two")]),
        ("data: one\r\n\ndata: two\n\r\ndata: three\r\n\r", &[told("", "one"), told("", "two"), told("", "three")]),
        ("data:no blank\n\ndata:  two blanks\n\n", &[told("", "no blank"), told("", " two blanks")]),
        ("event: ping\ndata: {}\n\ndata: x\n\n", &[told("ping", "{}"), told("", "x")]),
        ("data: x\nevent: late\n\n", &[told("late", "x")]),
        ("data: a\ndata: b\ndata\ndata: c\n\n", &[told("", "a\nb\n\nc")]),
        (": comment\n\n:\n\ndata: x\n: inside\n\n", &[told("", "x")]),
        ("id: 7\nretry: 10\ndata: x\nunknown: y\n\n", &[told("", "x")]),
        ("event: nothing\n\ndata: x\n\n", &[told("", "x")]),
        ("data\n\n", &[told("", "")]),
        ("\n\n\r\n\ndata: x\n\n\n\n", &[told("", "x")]),
        ("\u{feff}data: x\n\n", &[told("", "x")]),
        ("data: x\n\ndata: \u{feff}y\n\n", &[told("", "x"), told("", "\u{feff}y")]),
        ("data: [DONE]", &[told("", "[DONE]")]),
        ("event: end\ndata: x\n", &[told("end", "x")]),
        ("dat: x\ndata : y\n\n", &[]),
        ("data: a:b\n\n", &[told("", "a:b")]),
        ("data: über\n\n", &[told("", "über")]),
        ("", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(events(text), *expected, "{text:?}");
    }
}

#[test]
fn what_is_too_long_is_not_gathered_and_not_known() {
    let long = "x".repeat(LIMIT + 1);
    let text = format!("data: {long}\n\nevent: big\ndata: a\ndata: {long}\n\ndata: fine\n\n");
    let lost = |name: &str| (name.to_owned(), None);
    assert_eq!(events(&text), [lost(""), lost("big"), told("", "fine")]);
    let mut reader = EventReader::new(LIMIT);
    for _ in 0..10_000 {
        assert!(reader.handle_bytes(b"data: the same line goes on").1.is_none());
    }
    assert!(std::mem::size_of_val(&reader) + reader.gathered_bytes() < 512, "memory is bounded: {}", reader.gathered_bytes());
    assert_eq!(reader.handle_bytes(b"\n\n").1.map(|event| event.data), Some(None));
    // A long comment is no loss.
    assert_eq!(events(&format!(": {}\ndata: x\n\n", "x".repeat(10_000))), [told("", "x")]);
}

#[test]
fn an_event_of_our_own_can_follow_whatever_came() {
    let cases = [
        ("data: x\n\n", ""),
        ("", ""),
        ("data: x\n", "\n"),
        ("data: x\r\n", "\n"),
        ("data: x\r", "\n\n"),
        ("data: x", "\n\n"),
        ("event: y\n", "\n"),
        (": ping\n\n", ""),
        (": pi", "\n\n"),
        ("data: x\r\n\r\n", ""),
        ("data: x\r\n\r", ""),
    ];
    for (text, closing) in cases {
        let (_, reader) = read(&[text.as_bytes()]);
        assert_eq!(std::str::from_utf8(reader.closing()), Ok(closing), "{text:?}");
        assert_eq!(reader.is_between_events(), closing.is_empty(), "{text:?}");
        let whole = format!("{text}{}data: ours\n\n", std::str::from_utf8(reader.closing()).unwrap());
        assert_eq!(events(&whole).last(), Some(&told("", "ours")), "{whole:?}");
    }
}

proptest! {
    /// Any cutting of the bytes gives the same events and leaves the reader at the same place.
    #[test]
    fn any_cutting_gives_the_same_events(
        text in proptest::collection::vec(prop_oneof![
            Just("data: "), Just("data:"), Just("data"), Just("event: "), Just("\n"), Just("\r"), Just("\r\n"), Just("\n\n"), Just(":"), Just(" "),
            Just("x"), Just("ping"), Just("\u{feff}"), Just("{\"a\":1}"), Just("[DONE]"), Just("id: 1\n"),
            Just("a text of some length that goes over the limit when it is told twice"),
        ], 0..40),
        cuts in proptest::collection::vec(0usize..400, 0..12),
    ) {
        let text = text.concat();
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let by_byte: Vec<&[u8]> = bytes.chunks(1).collect();
        let (whole, at_once) = read(&[bytes]);
        for pieces in [pieces, by_byte] {
            let (events, reader) = read(&pieces);
            prop_assert_eq!(&events, &whole);
            prop_assert_eq!(reader.closing(), at_once.closing());
            prop_assert_eq!(reader.clone().handle_eof().map(|event| event.data.map(<[u8]>::to_vec)), at_once.clone().handle_eof().map(|event| event.data.map(<[u8]>::to_vec)));
        }
    }
}
