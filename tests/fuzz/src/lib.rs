//! The driver that all targets share, for stable Rust: replays files, or mutates the seeds of `tests/corpus/<target>/` for a bounded
//! time. A target says with a number what kind of verdict an input got; an input with a new verdict is kept and mutated further,
//! which is a poor man's coverage. Under `cfg(fuzzing)` libFuzzer drives the same targets and this file's loop is not used.

mod driver;
mod mutate;

pub use driver::run;

use std::hash::{DefaultHasher, Hash, Hasher};

/// Makes `main` of a target: `fn(&[u8]) -> u64`.
#[macro_export]
macro_rules! main {
    ($name:literal, $target:path, $tokens:expr) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            let _: u64 = $target(data);
        });

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::run($name, $target, $tokens)
        }
    };
}

/// The number of a verdict.
#[must_use]
pub fn kind(verdict: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    verdict.hash(&mut hasher);
    hasher.finish()
}

/// Cut points that depend on the input alone, in order, the end included.
#[must_use]
pub fn cuts(data: &[u8]) -> Vec<usize> {
    let mut random = mutate::Random::new(kind(data));
    let mut ends: Vec<usize> = (0..random.below(6)).map(|_| random.below(data.len() + 1)).collect();
    ends.push(data.len());
    ends.sort_unstable();
    ends
}
