//! What single io_uring mechanisms cost on this host, each against the one headrace uses: processor time of a thread that holds both
//! ends of a loopback connection, per message. A mechanism that does not win here is not built into the runtime.
//!
//! Every case is run in interleaved rounds; the table shows the median, and the ratio to the first of its group.

mod doorbell;
mod pair;

use pair::{Buffers, How, Pair};

struct Case {
    group: &'static str,
    name: &'static str,
    run: Box<dyn Fn(u32) -> std::io::Result<f64>>,
}

fn main() -> std::io::Result<()> {
    let cases = cases();
    let mut seen: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..=ROUNDS {
        for (case, seen) in cases.iter().zip(&mut seen) {
            let figure = (case.run)(MESSAGES).map_err(|error| std::io::Error::other(format!("{}, {}: {error}", case.group, case.name)))?;
            // The first round warms up.
            if round > 0 {
                seen.push(figure);
            }
        }
    }
    println!("| what | how | CPU us per message | lowest - highest | to the first |\n|---|---|---:|---:|---:|");
    let mut first = (cases[0].group, 0.0);
    for (case, mut figures) in cases.iter().zip(seen) {
        figures.sort_by(f64::total_cmp);
        let median = figures[figures.len() / 2];
        if first.0 != case.group || first.1 == 0.0 {
            first = (case.group, median);
        }
        let (low, high) = (figures[0], figures[figures.len() - 1]);
        println!("| {} | {} | {median:.2} | {low:.2} - {high:.2} | {:.2} |", case.group, case.name, median / first.1);
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |group, name, run: Box<dyn Fn(u32) -> std::io::Result<f64>>| cases.push(Case { group, name, run });
    let plain = Buffers { size: 8 << 10, count: 64, incremental: false };
    for (group, bytes) in [("send 70 B", 70), ("send 16 KiB", 16 << 10), ("send 64 KiB", 64 << 10)] {
        for (name, how) in [
            ("send", How::default()),
            ("send, registered file", How { fixed_file: true, ..How::default() }),
            ("send, POLL_FIRST", How { poll_first: true, ..How::default() }),
            ("send, no completion on success", How { skip_success: true, ..How::default() }),
            ("send_zc", How { zero_copy: true, ..How::default() }),
        ] {
            add(group, name, Box::new(move |messages| Pair::new(plain)?.messages(messages, bytes, how)));
        }
    }
    let large = Buffers { size: 32 << 10, count: 64, incremental: false };
    let incremental = Buffers { size: 64 << 10, count: 16, incremental: true };
    for (group, bytes) in [("receive 70 B", 70), ("receive 16 KiB", 16 << 10), ("receive 64 KiB", 64 << 10)] {
        for (name, buffers, bundle) in [
            ("multishot, buffers of 8 KiB", plain, false),
            ("multishot, buffers of 32 KiB", large, false),
            ("multishot bundles, buffers of 8 KiB", plain, true),
            ("multishot, incremental buffers of 64 KiB", incremental, false),
        ] {
            add(group, name, Box::new(move |messages| Pair::new(buffers)?.messages(messages, bytes, How { bundle, ..How::default() })));
        }
    }
    add(
        "wake a sleeping shard",
        "eventfd and a multishot poll",
        Box::new(|messages| doorbell::run(messages / 10, doorbell::Bell::EventFd)),
    );
    add("wake a sleeping shard", "MSG_RING", Box::new(|messages| doorbell::run(messages / 10, doorbell::Bell::MsgRing)));
    cases
}

/// Processor time of this thread, nanoseconds.
fn thread_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

const ROUNDS: usize = 7;
const MESSAGES: u32 = 10_000;
