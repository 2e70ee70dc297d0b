//! How long each figure is measured: all of them together in two minutes, so that somebody runs them.

use std::time::Duration;

use criterion::Criterion;

pub(crate) fn short() -> Criterion {
    Criterion::default().sample_size(50).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}
