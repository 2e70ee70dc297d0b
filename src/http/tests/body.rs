//! Bodies: lengths, chunks, trailers, and what an end of the connection means for each.

use super::{decode, decode_chunked};
use crate::http::{BodyDecoder, BodyError, Framing, Step};

fn refused(rule: &str, bytes: &[u8], reason: &'static str) {
    let (_, verdict) = decode_chunked(bytes);
    assert_eq!(verdict, Err(BodyError { reason }), "{rule}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(100)]));
}

fn accepted(rule: &str, bytes: &[u8], body: &[u8]) {
    assert_eq!(decode_chunked(bytes), (body.to_vec(), Ok((true, bytes.len()))), "{rule}: {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn a_length_is_counted_and_what_follows_is_left_alone() {
    let mut decoder = BodyDecoder::new(Framing::Length(5));
    assert_eq!(decoder.remaining(), Some(5));
    assert_eq!(decoder.handle_bytes(b"ab"), Ok(Step { consumed: 2, data: 0..2, done: false }));
    assert_eq!(decoder.remaining(), Some(3));
    assert_eq!(decoder.handle_bytes(b""), Ok(Step { consumed: 0, data: 0..0, done: false }));
    assert_eq!(decoder.handle_bytes(b"cdeGET /"), Ok(Step { consumed: 3, data: 0..3, done: true }));
    assert_eq!(decoder.handle_bytes(b"GET /"), Ok(Step { consumed: 0, data: 0..0, done: true }));
    assert_eq!((decoder.is_done(), decoder.remaining()), (true, Some(0)));
    for framing in [Framing::None, Framing::Length(0)] {
        assert!(BodyDecoder::new(framing).is_done());
    }
    let (body, end) = decode(BodyDecoder::new(Framing::Length(u64::MAX)), b"abc", &[]);
    assert_eq!((body, end), (b"abc".to_vec(), Ok((false, 3))));
}

#[test]
fn rule_24_the_end_of_the_connection() {
    for (framing, fed, whole) in [
        (Framing::UntilClose, &b"abc"[..], true),
        (Framing::UntilClose, b"", true),
        (Framing::None, b"", true),
        (Framing::Length(3), b"abc", true),
        (Framing::Length(3), b"ab", false),
        (Framing::Length(3), b"", false),
        (Framing::Chunked, b"1\r\na\r\n0\r\n\r\n", true),
        (Framing::Chunked, b"1\r\na\r\n0\r\n\r", false),
        (Framing::Chunked, b"1\r\na\r\n0\r\n", false),
        (Framing::Chunked, b"1\r\na\r\n", false),
        (Framing::Chunked, b"", false),
    ] {
        let mut decoder = BodyDecoder::new(framing);
        let mut at = 0;
        while at < fed.len() {
            at += decoder.handle_bytes(&fed[at..]).unwrap().consumed;
        }
        assert_eq!(decoder.handle_eof().is_ok(), whole, "{framing:?} {fed:?}");
        assert_eq!(decoder.is_done(), whole, "{framing:?} {fed:?}: a cut body is never done");
    }
}

#[test]
fn rule_12_chunks() {
    for (bytes, body) in [
        (&b"0\r\n\r\n"[..], &b""[..]),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\na\r\nA\r\n0123456789\r\n000\r\n\r\n", b"a0123456789"),
        (b"000000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1;a;b=c;d=\"e \\\" ;f\xfc\";g\r\nx\r\n0;h\r\n\r\n", b"x"),
    ] {
        accepted("rule 12", bytes, body);
    }
    for (bytes, reason) in [
        (&b"\r\n"[..], "chunk_size"),
        (b"x\r\n", "chunk_size"),
        (b"0x5\r\nhello", "chunk_size"),
        (b"+5\r\nhello", "chunk_size"),
        (b"-5\r\nhello", "chunk_size"),
        (b" 5\r\nhello", "chunk_size"),
        (b"5 \r\nhello", "chunk_size"),
        (b"5\t\r\nhello", "chunk_size"),
        (b"1_0\r\nhello", "chunk_size"),
        (b";a\r\n", "chunk_size"),
        (b"5\nhello\r\n", "chunk_size"),
        (b"00000000000000005\r\nhello", "chunk_size"),
        (b"10000000000000000\r\n", "chunk_size"),
        (b"ffffffffffffffff\r\n", "chunk_size"),
        (b"8000000000000000\r\n", "chunk_size"),
        (b"5\rhello", "chunk_line_end"),
        (b"5\r\nhelloX\r\n0\r\n\r\n", "chunk_line_end"),
        (b"5\r\nhello\n0\r\n\r\n", "chunk_line_end"),
        (b"5\r\nhello\r0\r\n\r\n", "chunk_line_end"),
        (b"5\r\nhello\r\r\n", "chunk_line_end"),
        (b"5\r\nhello0\r\n\r\n", "chunk_line_end"),
        (b"5\r\nhello\r\n\r\n", "chunk_size"),
        (b"1;\r\n", "chunk_extension"),
        (b"1;;a\r\n", "chunk_extension"),
        (b"1;a=\r\n", "chunk_extension"),
        (b"1;a=;b\r\n", "chunk_extension"),
        (b"1; a\r\n", "chunk_extension"),
        (b"1;a =b\r\n", "chunk_extension"),
        (b"1;a\n", "chunk_extension"),
        (b"1;a\0\r\n", "chunk_extension"),
        (b"1;a=\"b\n\"\r\n", "chunk_extension"),
        (b"1;a=\"b\\\r\"\r\n", "chunk_extension"),
        (b"1;a=\"b\0\"\r\n", "chunk_extension"),
        (b"1;a=\"b\x7f\"\r\n", "chunk_extension"),
        (b"1;a=\"b\"c\r\n", "chunk_extension"),
        (b"1;a\rb\r\n", "chunk_line_end"),
        (b"1;a=\"b\r\n", "chunk_extension"),
    ] {
        refused("rule 12", bytes, reason);
    }
    assert_eq!(decode_chunked(b"7fffffffffffffff\r\nab"), (b"ab".to_vec(), Ok((false, 20))), "the largest size that is allowed");
}

#[test]
fn rule_12_extensions_are_bounded_per_line_and_per_body() {
    let line = |len: usize| format!("1;{}\r\nx\r\n", "e".repeat(len - 1));
    accepted("rule 12", format!("{}0\r\n\r\n", line(256)).as_bytes(), b"x");
    refused("rule 12", line(257).as_bytes(), "chunk_extension_too_long");
    accepted("rule 12", format!("{}0\r\n\r\n", line(256).repeat(32)).as_bytes(), &[b'x'; 32]);
    refused("rule 12", format!("{}1;a\r\n", line(256).repeat(32)).as_bytes(), "chunk_extension_too_long");
}

#[test]
fn rule_13_trailers() {
    for trailers in ["A: b\r\n", "A:\r\n", "A: b\r\nX-Checksum:\t\u{fc}\r\n", "Server-Timing: a;b=\"c\"\r\n"] {
        accepted("rule 13", format!("1\r\nx\r\n0\r\n{trailers}\r\n").as_bytes(), b"x");
    }
    for (trailers, reason) in [
        (" A: b\r\n", "trailer_line"),
        ("\n", "trailer_line"),
        ("A : b\r\n", "trailer_line"),
        (": b\r\n", "trailer_line"),
        ("A\r\n", "trailer_line"),
        ("A: b\n", "trailer_line"),
        ("A: b\rc\r\n", "trailer_line"),
        ("A: b\0\r\n", "trailer_line"),
        ("A: b\x7f\r\n", "trailer_line"),
        ("A: b\r\n c\r\n", "trailer_line"),
        ("\rA: b", "trailer_line"),
        ("A\u{fc}: b\r\n", "trailer_line"),
    ] {
        let bytes = format!("0\r\n{trailers}\r\n");
        refused("rule 13", bytes.as_bytes(), reason);
        let lenient = decode(BodyDecoder::for_response(Framing::Chunked), bytes.as_bytes(), &[]);
        assert_eq!(lenient.1, Err(BodyError { reason }), "grammar holds in answers too");
    }
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "HOST",
        "Trailer",
        "Connection",
        "Authorization",
        "x-api-key",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Whatever-It-May-Be-Called-By-Them",
        "Forwarded",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "TE",
        "Expect",
        "Upgrade",
        "Cache-Control",
        "Transfer_Encoding",
        "x_forwarded_for",
        "x-headrace-error",
    ] {
        let bytes = format!("1\r\nx\r\n0\r\nA: b\r\n{name}: 1\r\n\r\n");
        refused("rule 13", bytes.as_bytes(), "trailer_forbidden");
        let lenient = decode(BodyDecoder::for_response(Framing::Chunked), bytes.as_bytes(), &[]);
        assert_eq!(lenient, (b"x".to_vec(), Ok((true, bytes.len()))), "dropped in answers: {name}");
    }
}

#[test]
fn rule_13_trailers_have_the_heads_limits() {
    let lines = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    accepted("rule 13", lines(100).as_bytes(), b"");
    refused("rule 13", lines(101).as_bytes(), "too_many_trailers");
    let line = |len: usize| format!("A: {}\r\n", "v".repeat(len));
    accepted("rule 13", format!("0\r\n{}\r\n", line(16_000)).as_bytes(), b"");
    accepted("rule 13", format!("0\r\n{}\r\n", line(9_000).repeat(3)).as_bytes(), b"");
    refused("rule 13", format!("0\r\n{}\r\n", line(16_400)).as_bytes(), "trailers_too_long");
    refused("rule 13", format!("0\r\n{}", line(16_000).repeat(5)).as_bytes(), "trailers_too_long");
    refused("rule 13", format!("0\r\n{}", "n".repeat(17_000)).as_bytes(), "trailers_too_long");
}

#[test]
fn rule_15_and_16_data_before_a_fault_is_handed_out_and_bytes_behind_the_end_stay() {
    let bytes = b"3\r\nabcX";
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.handle_bytes(bytes), Ok(Step { consumed: 6, data: 3..6, done: false }));
    assert_eq!(decoder.handle_bytes(&bytes[6..]), Err(BodyError { reason: "chunk_line_end" }));
    assert!(decoder.handle_eof().is_err());
    assert!(!decoder.is_done());
    let (body, end) = decode_chunked(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n");
    assert_eq!((body, end), (b"a".to_vec(), Ok((true, 11))));
}

#[test]
fn a_small_chunked_body_costs_one_step() {
    let bytes = b"5\r\nhello\r\n0\r\n\r\n";
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.remaining(), None);
    assert_eq!(decoder.handle_bytes(bytes), Ok(Step { consumed: bytes.len(), data: 3..8, done: true }));
}
