//! Transcripts: jobs come, calls must leave, the upstream says something, answers must come. Everything at once and at random is
//! `tests/sim`.

mod failing;
mod inflight;
mod leaving;
mod parts;
mod regroup;
mod rig;
mod round_trip;
mod turns;
