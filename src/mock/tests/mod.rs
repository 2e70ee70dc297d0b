//! The mock: its pure parts as tables (`pure`), what it says on real sockets with both drivers (`wire`), and the clients against
//! it (`load`).

mod load;
mod pure;
mod wire;
