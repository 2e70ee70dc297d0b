//! One shard with its clients and upstreams on a single runtime and real sockets: transcripts of what each side must see.

mod admission;
mod balance;
mod coalescing;
mod forwarding;
mod held;
mod lanes;
mod leaving;
mod refusals;
mod resilience;
mod splits;
mod streams;
mod timeouts;
mod websockets;
mod world;
