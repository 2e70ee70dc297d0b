//! A configuration with many models and routes, as a shared gateway has.

use headrace::config::{Config, check};

/// 100 models and 100 routes, some below others.
pub(crate) fn config() -> Config {
    let mut text = String::from("[server]\nlisten = [\"127.0.0.1:8080\"]\n");
    for number in 0..4 {
        text.push_str(&format!("[[upstreams]]\nname = \"up{number}\"\nendpoints = [\"http://127.0.0.1:80{number:02}\"]\n"));
    }
    for number in 0..100 {
        let upstream = number % 4;
        text.push_str(&format!("[[models]]\nname = \"org/model-{number}\"\nupstream = \"up{upstream}\"\n"));
        let below = if number % 2 == 0 { "" } else { "/admin" };
        text.push_str(&format!("[[routes]]\npath = \"/service-{}{below}\"\nupstream = \"up{upstream}\"\n", number / 2));
    }
    check("headrace.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

pub(crate) const MODEL: &[u8] = b"org/model-77";
/// Below a route that another route stands above.
pub(crate) const PATH: &[u8] = b"/service-33/files/2026/report.json";
/// Needs the slow way to its normal form.
pub(crate) const ODD_PATH: &[u8] = b"/service-33/./files//%7Eann/../2026/report%2ejson";
