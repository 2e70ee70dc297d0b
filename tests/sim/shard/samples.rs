//! The gateway's own counters, as a scrape shows them.

pub(crate) struct Samples(Vec<(String, f64)>);

impl Samples {
    pub(crate) fn new(text: &str) -> Samples {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Samples(lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// Of all series of a metric.
    pub(crate) fn sum(&self, metric: &str) -> u64 {
        self.sum_where(metric, "")
    }

    /// Of those with this label.
    pub(crate) fn sum_where(&self, metric: &str, label: &str) -> u64 {
        let is_of = |name: &str| name.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        let values = self.0.iter().filter(|(name, _)| is_of(name) && name.contains(label)).map(|(_, value)| *value);
        values.sum::<f64>() as u64
    }
}
