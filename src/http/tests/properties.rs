//! Properties over made-up messages: any cutting gives the same result, what is written parses back strictly, nothing panics.

#![expect(clippy::disallowed_types, reason = "prop_oneof! makes an Arc inside")]

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::subsequence;

use super::{decode, request, response};
use crate::http::{
    BodyDecoder, CHUNK_END, Field, Framing, HeadError, HeadLimits, Known, LAST_CHUNK, Method, Parsed, RequestEdit, RequestHead,
    ResponseEdit, ResponseHead, Version, framing_for_client, write_chunk_header, write_own_response, write_request_fields,
    write_request_line, write_response_head,
};

const LIMITS: HeadLimits = HeadLimits { target_bytes: 40, field_bytes: 60, head_bytes: 300, fields: 8 };

/// Lines that matter, well-formed or not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop_oneof![
            Just("Host: a"), Just("Host: [::1]:8"), Just("Content-Length: 5"), Just("Transfer-Encoding: chunked"), Just("Connection: close"),
            Just("Connection: x-a, keep-alive"), Just("X-A: 1"), Just("Expect: 100-continue"), Just("X-Forwarded-For: 1"), Just("Accept: */*"),
            Just("Authorization: s"), Just("X-Request-Id: r"), Just("Upgrade: websocket"), Just("x_y: 1"), Just("TE: trailers"),
        ].prop_map(|text| text.as_bytes().to_vec()),
        2 => "[A-Za-z-]{1,12}:[ \t]?[!-~]{0,30}[ \t]?".prop_map(String::into_bytes),
        1 => "[ -~\t\r\n]{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn line_end() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![60 => Just(&b"\r\n"[..]), 1 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..])]
}

fn message(first: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![9 => first.prop_map(String::into_bytes), 1 => line()];
    let front = prop_oneof![9 => Just(&b""[..]), 1 => Just(&b"\r\n"[..]), 1 => Just(&b"\r\n\r\n"[..])];
    (front, first, vec((line_end(), line()), 0..10), vec(any::<u8>(), 0..8)).prop_map(|(front, first, lines, tail)| {
        let mut bytes = [front, &first[..]].concat();
        for (end, line) in lines {
            bytes.extend_from_slice(end);
            bytes.extend_from_slice(&line);
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&tail);
        bytes
    })
}

/// A head that must be accepted, full of fields that matter.
fn sound(first: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let known = subsequence(
        vec![
            "Connection: x-a, keep-alive, TE",
            "X-A: 1",
            "x-a: 2",
            "X-Forwarded-For: 1.1.1.1",
            "x-forwarded-for: 2",
            "X-Forwarded-Host: h",
            "Forwarded: for=x",
            "Authorization: s",
            "X-Request-Id: r",
            "X-Request-Id: 2",
            "Upgrade: websocket",
            "TE: trailers",
            "Cookie: a",
            "Content-Type: a/b",
            "Retry-After: 1",
            "Trailer: x",
            "x_y: 1",
            "X-Headrace-Coalesce: off",
            "X-Headrace-Error: x",
            "Set-Cookie: a",
            "Keep-Alive: 1",
            "Empty:",
        ],
        0..22,
    );
    let framing = prop_oneof![Just(""), Just("Content-Length: 5\r\n"), Just("Content-Length: 0\r\n")];
    let other = vec("y-[a-z]{0,9}:[ \t]?[!-~\u{80}-\u{ff}]?[ -~]{0,20}[ \t]?\r\n", 0..4);
    (first, known, framing, other, vec(any::<u8>(), 0..8)).prop_map(|(first, known, framing, other, tail)| {
        let known: String = known.iter().flat_map(|line| [line, "\r\n"]).collect();
        [format!("{first}\r\nHost: a\r\n{known}{framing}{}\r\n", other.concat()).as_bytes(), &tail].concat()
    })
}

const SOUND_REQUEST_LINE: &str =
    "(GET|POST|OPTIONS|HEAD|PUT|x) (/|/v1/[a-z;.]{0,10}(\\?%20[!-\"$&-~]{0,9})?|http://a|HTTPS://A/x) HTTP/1\\.[01]";
const SOUND_STATUS_LINE: &str = "HTTP/1\\.[01] (100|103|200|204|304|404|599)( [a-zA-Z ]{0,10})?";
const REQUEST_LINE: &str = "(GET|POST|OPTIONS|HEAD|CONNECT|x) (/|/v1/[a-z%2;.]{0,10}|\\*|http://a/?|/[a-z]{30,50}) HTTP/1\\.[01]";
const STATUS_LINE: &str = "HTTP/1\\.[01] (100|101|200|204|304|404|599|600|20)( [a-zA-Z ]{0,10})?";

fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<usize> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    ends
}

/// Feeds a growing buffer and returns the first verdict that is not `Partial`, else `Partial`.
fn grow(bytes: &[u8], cuts: &[usize], mut parse: impl FnMut(&[u8], &mut usize) -> Result<Parsed, HeadError>) -> Result<Parsed, HeadError> {
    let mut scanned = 0;
    for end in pieces(bytes, cuts) {
        match parse(&bytes[..end], &mut scanned) {
            Ok(Parsed::Partial) => {}
            verdict => return verdict,
        }
    }
    Ok(Parsed::Partial)
}

/// The fields that must arrive, by name and value.
fn end_to_end(fields: &[Field], buffer: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let kept =
        |field: &&Field| matches!(field.known, Known::Other | Known::Cookie | Known::ContentType | Known::RetryAfter | Known::SetCookie);
    fields.iter().filter(kept).map(|field| (field.name.of(buffer).to_vec(), field.value.of(buffer).to_vec())).collect()
}

proptest! {
    #[test]
    fn request_heads_do_not_care_how_they_are_cut(bytes in prop_oneof![message(REQUEST_LINE), sound(SOUND_REQUEST_LINE)], cuts in vec(any::<usize>(), 0..20)) {
        let mut whole = RequestHead::new();
        let verdict = grow(&bytes, &[], |buffer, scanned| whole.parse(buffer, scanned, &LIMITS));
        let mut cut = RequestHead::new();
        prop_assert_eq!(grow(&bytes, &cuts, |buffer, scanned| cut.parse(buffer, scanned, &LIMITS)), verdict);
        let every: Vec<usize> = (0..bytes.len()).collect();
        let mut by_byte = RequestHead::new();
        prop_assert_eq!(grow(&bytes, &every, |buffer, scanned| by_byte.parse(buffer, scanned, &LIMITS)), verdict);
        if verdict == Ok(Parsed::Complete) {
            prop_assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
            prop_assert_eq!(format!("{by_byte:?}"), format!("{whole:?}"));
        }
    }

    #[test]
    fn response_heads_do_not_care_how_they_are_cut(bytes in prop_oneof![message(STATUS_LINE), sound(SOUND_STATUS_LINE)], cuts in vec(any::<usize>(), 0..20)) {
        let mut whole = ResponseHead::new();
        let verdict = grow(&bytes, &[], |buffer, scanned| whole.parse(buffer, scanned, &LIMITS, Method::Get));
        let every: Vec<usize> = (0..bytes.len()).collect();
        for cuts in [cuts, every] {
            let mut cut = ResponseHead::new();
            prop_assert_eq!(grow(&bytes, &cuts, |buffer, scanned| cut.parse(buffer, scanned, &LIMITS, Method::Get)), verdict);
            if verdict == Ok(Parsed::Complete) {
                prop_assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
            }
        }
    }

    #[test]
    fn chunked_bodies_come_back_however_they_are_cut(
        chunks in vec(vec(any::<u8>(), 1..40), 0..6),
        extension in "(;[a-z]{1,5}(=([a-z]{1,3}|\"[a-z ;]{0,5}\"))?){0,2}",
        trailers in "(x-[a-z]{1,8}: [!-~]{0,8}\r\n){0,3}",
        tail in vec(any::<u8>(), 0..8),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            let mut line = Vec::new();
            write_chunk_header(&mut line, chunk.len());
            line.splice(line.len() - 2..line.len() - 2, extension.bytes());
            bytes.extend_from_slice(&line);
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(CHUNK_END);
        }
        bytes.extend_from_slice(&LAST_CHUNK[..3]);
        bytes.extend_from_slice(trailers.as_bytes());
        bytes.extend_from_slice(&LAST_CHUNK[3..]);
        let end = bytes.len();
        bytes.extend_from_slice(&tail);
        let every: Vec<usize> = (0..bytes.len()).collect();
        for cuts in [vec![], pieces(&bytes, &cuts), every] {
            let (body, verdict) = decode(BodyDecoder::new(Framing::Chunked), &bytes, &cuts);
            prop_assert_eq!(verdict, Ok((true, end)));
            prop_assert_eq!(&body, &chunks.concat());
        }
    }

    #[test]
    fn broken_chunks_break_alike_however_they_are_cut(
        mut bytes in "([0-3];?[a-z\"]{0,2}\r?\n?[a-z]{0,3}\r\n){0,4}(0\r\n([a-z]{1,3}:\r\n)?\r\n)?".prop_map(String::into_bytes),
        flip in any::<(usize, u8)>(),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        if !bytes.is_empty() {
            let at = flip.0 % bytes.len();
            bytes[at] = flip.1;
        }
        let whole = decode(BodyDecoder::new(Framing::Chunked), &bytes, &[]);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&decode(BodyDecoder::new(Framing::Chunked), &bytes, &pieces(&bytes, &cuts)), &whole);
        prop_assert_eq!(&decode(BodyDecoder::new(Framing::Chunked), &bytes, &every), &whole);
    }

    #[test]
    fn nothing_panics_on_any_bytes(bytes in vec(any::<u8>(), 0..400), cuts in vec(any::<usize>(), 0..4)) {
        let _ = grow(&bytes, &cuts, |buffer, scanned| RequestHead::new().parse(buffer, scanned, &LIMITS));
        let _ = grow(&bytes, &cuts, |buffer, scanned| ResponseHead::new().parse(buffer, scanned, &LIMITS, Method::Get));
        for framing in [Framing::None, Framing::Length(9), Framing::Chunked, Framing::UntilClose] {
            let (body, _) = decode(BodyDecoder::for_response(framing), &bytes, &pieces(&bytes, &cuts));
            prop_assert!(body.len() <= bytes.len());
        }
    }

    #[test]
    fn a_request_that_is_written_parses_back_strictly(
        bytes in sound(SOUND_REQUEST_LINE),
        trust_forwarded in any::<bool>(),
        forward_authorization in any::<bool>(),
        framing in prop_oneof![Just(Framing::None), any::<u32>().prop_map(|len| Framing::Length(len.into())), Just(Framing::Chunked)],
    ) {
        let head = request(&bytes).unwrap();
        let client_addr = "127.0.0.1";
        let edit = RequestEdit { framing, client_addr, proto: "http", trust_forwarded, request_id: b"id", forward_authorization, strip_coalesce: true };
        let mut out = Vec::new();
        write_request_line(&mut out, &head, &bytes, "up:1");
        write_request_fields(&mut out, &head, &bytes, &edit);
        let again = request(&out).unwrap();
        let expected = if framing == Framing::None && matches!(head.method, Method::Post | Method::Put) { Framing::Length(0) } else { framing };
        prop_assert_eq!((again.method, again.framing, again.head_len), (head.method, expected, out.len()));
        prop_assert_eq!(again.target.of(&out), head.target.of(&bytes));
        prop_assert_eq!(again.host.unwrap().of(&out), b"up:1");
        prop_assert!(again.keep_alive && !again.expect_continue && !again.upgrade);
        prop_assert!(again.request_id(&out).is_some());
        prop_assert_eq!(again.field(Known::Authorization).is_some(), forward_authorization && head.field(Known::Authorization).is_some());
        prop_assert_eq!(again.fields.iter().filter(|field| field.known == Known::XForwardedFor).count(), 1);
        prop_assert_eq!(end_to_end(&again.fields, &out), end_to_end(&head.fields, &bytes));
    }

    #[test]
    fn an_answer_that_is_written_parses_back_strictly(bytes in sound(SOUND_STATUS_LINE), http10 in any::<bool>(), head_request in any::<bool>(), close in any::<bool>()) {
        let method = if head_request { Method::Head } else { Method::Get };
        let client_version = if http10 { Version::Http10 } else { Version::Http11 };
        let head = response(&bytes, method).unwrap();
        let framing = framing_for_client(head.framing, client_version);
        let edit = ResponseEdit { framing, close, client_version, extra: &[("x-mine", b"1")] };
        let mut out = Vec::new();
        write_response_head(&mut out, &head, &bytes, &edit);
        let again = response(&out, method).unwrap();
        prop_assert_eq!((again.status, again.framing, again.head_len), (head.status, framing, out.len()));
        prop_assert_eq!(again.reason.of(&out), head.reason.of(&bytes));
        prop_assert_eq!(again.keep_alive, (!close && framing != Framing::UntilClose) || head.is_interim());
        let mut expected = end_to_end(&head.fields, &bytes);
        expected.push((b"x-mine".to_vec(), b"1".to_vec()));
        prop_assert_eq!(end_to_end(&again.fields, &out), expected);
    }

    #[test]
    fn an_answer_of_our_own_parses_back(status in 200_u16..600, len in any::<u32>(), close in any::<bool>()) {
        let mut out = Vec::new();
        write_own_response(&mut out, status, b"content-type: a/b\r\n", len.into(), close);
        let head = response(&out, Method::Get).unwrap();
        let expected = if matches!(status, 204 | 304) { Framing::None } else { Framing::Length(len.into()) };
        prop_assert_eq!((head.status, head.framing, head.keep_alive, head.head_len), (status, expected, !close, out.len()));
    }
}
