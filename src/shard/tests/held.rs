//! Bodies that were read whole: where they lie while an upstream is waited for, and that a second try gets them as the first did.

use std::time::Duration;

use super::world::{Reply, World, ok, read_to_end};

const MODEL: &str = r#"
[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[models]]
name = "m"
upstream = "up"
batching = { mode = "off" }

[[models]]
name = "other"
upstream = "up"
batching = { mode = "off" }
"#;

/// A model call with a body of about `len` bytes.
fn call(len: usize, keeps: bool) -> String {
    let body = body(len);
    let connection = if keeps { "" } else { "connection: close\r\n" };
    format!("POST /v1/embeddings HTTP/1.1\r\nhost: g\r\n{connection}content-length: {}\r\n\r\n{body}", body.len())
}

fn body(len: usize) -> String {
    format!(r#"{{"input":"{}","model":"m"}}"#, "lorem ipsum ".repeat(len / 12))
}

#[test]
fn a_body_goes_up_as_it_came_and_its_buffers_come_back() {
    let world = World::new(MODEL, |_, _| Reply::Bytes(ok("done")));
    // In one piece, in several that stay where they lie, in more than may stay there.
    for len in [100, 5_000, 15_000, 40_000, 150_000, 900_000] {
        assert!(world.transcript(&call(len, false)).ends_with("done"));
        assert_eq!(String::from_utf8_lossy(&world.seen.borrow_mut().pop().unwrap().body), body(len));
        assert_eq!(world.rt.stats().leased_buffers, 0);
    }
}

#[test]
fn a_second_try_sends_the_same_body_from_where_it_lies() {
    for len in [10_000, 100_000] {
        let config = MODEL.replace("\"$UP\"", "\"$UP\", \"$OTHER\"");
        let world = World::new(&config, |_, number| if number == 0 { Reply::ThenClose(Vec::new()) } else { Reply::Bytes(ok("later")) });
        assert!(world.transcript(&call(len, false)).ends_with("later"));
        let bodies: Vec<_> = world.seen.borrow().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
        assert_eq!(bodies, [body(len), body(len)]);
        assert_eq!(world.rt.stats().leased_buffers, 0);
    }
}

#[test]
fn a_model_across_a_border_of_pieces_is_found_and_bad_json_in_pieces_is_refused() {
    let world = World::new(MODEL, |_, _| Reply::Bytes(ok("done")));
    let head = |len: usize| format!("POST /v1/embeddings HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n");
    let send = |first: String, second: String| {
        let (rt, address) = (world.rt.clone(), world.address.clone());
        let answer = world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.send(format!("{}{first}", head(first.len() + second.len())).into_bytes()).await.unwrap();
            rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
            socket.send(second.into_bytes()).await.unwrap();
            read_to_end(&socket).await
        });
        String::from_utf8_lossy(&answer).into_owned()
    };
    let long = "x".repeat(12_000);
    assert!(send(format!("{{\"input\":\"{long}\",\"mod"), format!("el\":\"m\",\"user\":\"{long}\"}}")).ends_with("done"));
    let refused = send(format!("{{\"input\":\"{long}\","), format!("\"model\":\"m\",\"user\":\"{long}\",}}"));
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("not JSON"), "{refused}");
    assert_eq!(world.rt.stats().leased_buffers, 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_leaves_no_buffer_lent() {
    let world = World::new(MODEL, |_, _| Reply::Bytes(ok("done")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let lent = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(call(100_000, true).into_bytes()[..60_000].to_vec()).await.unwrap();
        rt.sleep_until(rt.now() + Duration::from_millis(20)).await;
        let lent = rt.stats().leased_buffers;
        drop(socket);
        rt.sleep_until(rt.now() + Duration::from_millis(20)).await;
        lent
    });
    assert!(lent > 0, "the first of it waits where it came");
    assert_eq!(world.rt.stats().leased_buffers, 0);
    assert!(world.seen.borrow().is_empty());
}

#[test]
fn the_next_request_behind_a_large_body_is_not_lost() {
    let world = World::new(MODEL, |seen, _| Reply::Bytes(ok(&seen.body.len().to_string())));
    let answers = world.transcript(&format!("{}{}", call(6_000, true), call(200, false)));
    let told = |len: usize| body(len).len().to_string();
    let ends: Vec<&str> = answers.split("\r\n\r\n").skip(1).collect();
    assert!(ends[0].starts_with(&told(6_000)) && ends[1] == told(200), "{answers}");
}

#[test]
fn bodies_that_wait_keep_less_than_half_of_the_buffers() {
    let world = World::new(MODEL, |seen, _| if seen.body.len() > 1_000 { Reply::Never } else { Reply::Bytes(ok("served")) });
    let mut waiting = Vec::new();
    for _ in 0..80 {
        let (rt, address) = (world.rt.clone(), world.address.clone());
        waiting.push(world.run(async move {
            let socket = rt.connect(&address).await.unwrap();
            socket.send(call(10_000, true).into_bytes()).await.unwrap();
            rt.sleep_until(rt.now() + Duration::from_millis(2)).await;
            socket
        }));
    }
    let (rt, address) = (world.rt.clone(), world.address.clone());
    let answer = world.run(async move {
        let socket = rt.connect(&address).await.unwrap();
        socket.send(call(100, false).into_bytes()).await.unwrap();
        read_to_end(&socket).await
    });
    assert!(answer.ends_with(b"served"));
    assert_eq!(world.seen.borrow().len(), 81);
    let leased = world.rt.stats().leased_buffers;
    assert!((16..=24).contains(&leased), "three eighths of 64, the other bodies were copied: {leased}");
    drop(waiting);
}
