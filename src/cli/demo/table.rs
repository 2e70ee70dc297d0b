//! The demo's table.

use std::fmt::Write;
use std::time::Duration;

use super::rounds::{Cell, Way};

/// Two lines per count of clients; the gain is headrace's requests a second over those of the direct line above it.
pub(super) fn render(cells: &[Cell]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:>7}  {:<8}  {:>10}  {:>6}  {:>9}  {:>9}  {:>10}  {:>15}  {:>5}",
        "clients", "path", "requests/s", "gain", "p50", "p99", "mean batch", "answers checked", "wrong"
    );
    let mut direct: Option<&Cell> = None;
    for cell in cells {
        let (path, gain) = match cell.way {
            Way::Direct => {
                direct = Some(cell);
                ("direct", String::new())
            }
            Way::Headrace => ("headrace", gain(direct, cell)),
        };
        let _ = writeln!(
            out,
            "{:>7}  {path:<8}  {:>10.0}  {gain:>6}  {:>9}  {:>9}  {:>10.1}  {:>15}  {:>5}",
            cell.clients,
            cell.requests_per_second,
            show(cell.p50),
            show(cell.p99),
            cell.mean_batch,
            cell.checked,
            cell.wrong,
        );
    }
    let errors: u64 = cells.iter().map(|cell| cell.errors).sum();
    if errors > 0 {
        let _ = writeln!(out, "\n{errors} requests got no good answer: these numbers are not to be trusted");
    }
    out
}

/// Empty where there is nothing to compare with.
fn gain(direct: Option<&Cell>, cell: &Cell) -> String {
    direct
        .filter(|direct| direct.clients == cell.clients && direct.requests_per_second > 0.0)
        .map_or_else(String::new, |direct| format!("{:.1}x", cell.requests_per_second / direct.requests_per_second))
}

fn show(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}
