//! Body framing. The first byte chooses the framing and the side, the rest is the body: the same bytes and the same verdict come
//! out however they are cut, and nothing behind the end is touched.
#![cfg_attr(fuzzing, no_main)]

use headrace::http::{BodyDecoder, BodyError, Framing};
use headrace_fuzz::{cuts, kind};

headrace_fuzz::main!("body", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let Some((&choice, data)) = data.split_first() else { return 0 };
    let framing = match choice & 3 {
        0 | 1 => Framing::Chunked,
        2 => Framing::Length(u64::from(choice >> 3)),
        _ => Framing::UntilClose,
    };
    let decoder = || if choice & 4 == 0 { BodyDecoder::new(framing) } else { BodyDecoder::for_response(framing) };
    let whole = decode(decoder(), data, &[data.len()]);
    let by_byte: Vec<usize> = (1..=data.len()).collect();
    for ends in [cuts(data), by_byte] {
        assert_eq!(decode(decoder(), data, &ends), whole);
    }
    let (body, verdict) = whole;
    assert!(body.len() <= data.len());
    let len_bits = usize::BITS - body.len().leading_zeros();
    match verdict {
        Ok((done, _, remaining)) => kind((choice & 7, done, remaining.is_some(), len_bits)),
        Err(error) => kind((choice & 7, error.reason, len_bits)),
    }
}

/// The body; whether it is over, the bytes used, what is left.
type Decoded = (Vec<u8>, Result<(bool, usize, Option<u64>), BodyError>);

fn decode(mut decoder: BodyDecoder, data: &[u8], ends: &[usize]) -> Decoded {
    let (mut body, mut used) = (Vec::new(), 0);
    for &end in ends {
        while used < end && !decoder.is_done() {
            match decoder.handle_bytes(&data[used..end]) {
                Ok(step) => {
                    assert!(step.data.end <= step.consumed && step.consumed <= end - used);
                    assert!(step.consumed > 0 || step.done, "a step must get ahead");
                    assert_eq!(step.done, decoder.is_done());
                    body.extend_from_slice(&data[used..end][step.data]);
                    used += step.consumed;
                }
                Err(error) => {
                    assert_eq!(decoder.handle_bytes(b"x"), Err(error), "an error stays");
                    assert_eq!(decoder.handle_eof(), Err(error));
                    return (body, Err(error));
                }
            }
        }
    }
    let verdict = (decoder.is_done(), used, decoder.remaining());
    assert_eq!(decoder.handle_eof().is_ok(), verdict.0 || matches!(decoder.remaining(), Some(0)), "a cut body looks cut");
    (body, Ok(verdict))
}

const TOKENS: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "\r\n",
    "ffffffffffffffff\r\n",
    "10000000000000000\r\n",
    "5;a=b\r\n",
    "5;a=\"b\\\"\"\r\n",
    "0\r\nx-a: 1\r\n\r\n",
    "Content-Length: 1\r\n",
    ";",
];
