//! Tests of the http room. The rules, by their number (section 1 of the project's HTTP rules):
//!
//! 1 line ends · 2 request line · 3 field lines · 4 underscore names · 5 limits · 6 Host · 7 target forms · 8 target bytes ·
//! 9 Content-Length · 10 Transfer-Encoding · 11 no framing, no body · 12 chunks · 13 trailers · 14 re-framing · 15 unwanted
//! bodies · 16 framing errors after the head · 17 Connection and hop-by-hop · 18 identity fields · 19 Upgrade · 20 pipelining ·
//! 21 Expect · 22 interim answers · 23 bodyless answers · 24 response framing · 25 status line and answer heads.
//!
//! Rules 15, 16, 20 and 22 are held by the shard; what this room gives for them (a place where a message ends, an error that
//! stays) is tested under their numbers in `body` and `request_meaning`.

mod body;
mod known;
mod properties;
mod request;
mod request_meaning;
mod response;
mod retry_after;
mod sse;
mod websocket;
mod write;

use super::{BodyDecoder, BodyError, Framing, HeadError, HeadLimits, Method, Parsed, RequestHead, ResponseHead};

/// Parses a whole request head from bytes that hold it.
fn request(bytes: &[u8]) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::new();
    match head.parse(bytes, &mut 0, &HeadLimits::default())? {
        Parsed::Complete => Ok(head),
        Parsed::Partial => panic!("partial: {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// Parses a whole response head, the answer to `method`.
fn response(bytes: &[u8], method: Method) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::new();
    match head.parse(bytes, &mut 0, &HeadLimits::answers(), method)? {
        Parsed::Complete => Ok(head),
        Parsed::Partial => panic!("partial: {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// What a body decoder makes of `bytes`, fed in the pieces that end at `cuts`: the body, whether it is over, and how many
/// bytes were used.
fn decode(mut decoder: BodyDecoder, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Result<(bool, usize), BodyError>) {
    let mut body = Vec::new();
    let mut used = 0;
    for end in cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]) {
        while used < end && !decoder.is_done() {
            match decoder.handle_bytes(&bytes[used..end]) {
                Ok(step) => {
                    assert!(step.data.start <= step.data.end && step.data.end <= step.consumed && step.consumed <= end - used);
                    assert!(step.consumed > 0 || step.done, "a step must get ahead");
                    assert_eq!(step.done, decoder.is_done());
                    body.extend_from_slice(&bytes[used..end][step.data]);
                    used += step.consumed;
                }
                Err(error) => {
                    assert_eq!(decoder.handle_bytes(b"x"), Err(error), "an error stays");
                    return (body, Err(error));
                }
            }
        }
    }
    (body, Ok((decoder.is_done(), used)))
}

fn decode_chunked(bytes: &[u8]) -> (Vec<u8>, Result<(bool, usize), BodyError>) {
    decode(BodyDecoder::new(Framing::Chunked), bytes, &[])
}
