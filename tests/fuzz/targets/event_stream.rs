//! Event streams and what is read from their events: any cutting gives the same events, the same facts and the same place; an error
//! event of our own put behind whatever came is read as one; memory stays bounded.
#![cfg_attr(fuzzing, no_main)]

use headrace::http::EventReader;
use headrace::llm::{Dialect, ErrorFacts, Said, StreamError, StreamFacts, StreamTap};
use headrace_fuzz::{cuts, kind};

headrace_fuzz::main!("event_stream", target, TOKENS);

const LIMIT: usize = 256;

fn target(data: &[u8]) -> u64 {
    let whole = read(data, &[data.len()]);
    let by_byte: Vec<usize> = (1..=data.len()).collect();
    for ends in [cuts(data), by_byte] {
        let cut = read(data, &ends);
        assert_eq!((&cut.0, cut.1, cut.2.closing()), (&whole.0, whole.1, whole.2.closing()));
    }
    let (events, facts, reader) = whole;
    assert!(reader.gathered_bytes() <= 4 * LIMIT + 256, "{} bytes are held", reader.gathered_bytes());
    ours_is_read(data, reader);
    let len_bits = usize::BITS - events.len().leading_zeros();
    let is_over = (facts.is_done, facts.finish.map(|finish| finish as u8), facts.error.map(|error| error as u8));
    kind((len_bits, is_over, facts.usage.is_some(), facts.unknown_count.min(3)))
}

type Told = (Vec<u8>, Option<Vec<u8>>);

fn read(data: &[u8], ends: &[usize]) -> (Vec<Told>, StreamFacts, EventReader) {
    let (mut reader, mut tap, mut events, mut at) = (EventReader::new(LIMIT), StreamTap::default(), Vec::new(), 0);
    for &end in ends {
        while at < end {
            let (used, event) = reader.handle_bytes(&data[at..end]);
            assert!(used > 0 && used <= end - at, "a step must get ahead, and not too far");
            if let Some(event) = event {
                tap.handle_event(event.name, event.data);
                events.push((event.name.to_vec(), event.data.map(<[u8]>::to_vec)));
            }
            at += used;
        }
    }
    (events, *tap.facts(), reader)
}

fn ours_is_read(data: &[u8], reader: EventReader) {
    let mut ours = reader.closing().to_vec();
    Dialect::OpenAi.write_error_event(&mut ours, ErrorFacts { status: 502, reason: "r", message: "m" });
    let (mut reader, mut last, mut rest) = (reader, None, &ours[..]);
    while !rest.is_empty() {
        let (used, event) = reader.handle_bytes(rest);
        last = event.map(|event| StreamTap::default().handle_event(event.name, event.data)).or(last);
        rest = &rest[used..];
    }
    assert_eq!(last, Some(Said::Error(StreamError::Transient)), "behind {data:?}");
    assert!(reader.is_between_events());
}

const TOKENS: &[&str] = &[
    "data: ",
    "data:",
    "event: ",
    "\n\n",
    "\r\n\r\n",
    "\r\r",
    "\r\n",
    ": comment\n",
    "[DONE]",
    "{\"choices\":[{\"finish_reason\":\"stop\"}]}",
    "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}",
    "{\"error\":{\"type\":\"server_error\",\"code\":500}}",
    "event: message_stop\n",
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}",
    "{\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}",
    "\u{feff}",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];
