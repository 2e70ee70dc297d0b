//! Handing connections over: to whom, and what happens when that shard has no room for the message.

use super::world::{Reply, World, ok};
use crate::mesh::ShardId;
use crate::shard::Message;

const CONFIG: &str = r#"
[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[routes]]
path = "/"
upstream = "up"
"#;

#[test]
fn a_connection_whose_new_shard_has_a_full_inbox_stays() {
    let world = World::with_neighbours(1, CONFIG, |_, _| Reply::Bytes(ok("fine")));
    let (rt, address) = (world.rt.clone(), world.address.clone());
    // They come one after the other; none closes until all have come.
    let answered = world.run(async move {
        let (mut sockets, mut answered) = (Vec::new(), 0);
        for _ in 0..8 {
            let socket = rt.connect(&address).await.unwrap();
            socket.send(b"GET /x HTTP/1.1\r\nhost: g\r\n\r\n".to_vec()).await.unwrap();
            let soon = rt.now() + std::time::Duration::from_millis(300);
            answered += u32::from(rt.before(soon, socket.recv()).await.is_some_and(|got| got.is_ok_and(|bytes| bytes.is_some())));
            sockets.push(socket);
        }
        (sockets, answered)
    });
    let (sockets, answered) = answered;
    let neighbour = &world.neighbours[0];
    // The neighbour never turns: its two messages stay in its inbox, and all others are served here.
    assert_eq!(answered, 6);
    assert_eq!(world.metric("headrace_connections_handed_over_total{shard=\"0\"}"), 2.0);
    assert_eq!(world.metric("headrace_connections{shard=\"0\"}"), 6.0);
    assert_eq!((neighbour.load(ShardId(0)).connections, neighbour.load(ShardId(1)).connections), (6, 2));
    assert!(matches!(
        (neighbour.pop(), neighbour.pop(), neighbour.pop()),
        (Some(Message::Connection(_)), Some(Message::Connection(_)), None)
    ));
    drop(sockets);
    let shard = std::rc::Rc::clone(&world.shard);
    let rt = world.rt.clone();
    world.run(async move {
        while shard.port.load(ShardId(0)).connections > 0 {
            rt.sleep_until(rt.now() + std::time::Duration::from_millis(1)).await;
        }
    });
    assert!(world.shard.is_empty(), "every place was given back");
}
