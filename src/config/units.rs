//! Durations and sizes as people write them: a number and a unit, `"250ms"`, `"1.5s"`, `"32MiB"`. What values a key allows is
//! settled in `check`.

use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitError {
    /// No number at the front.
    NoNumber,
    /// A number and nothing behind it.
    NoUnit,
    /// A unit we do not know.
    UnknownUnit,
    /// More than a u64 of nanoseconds or bytes, or finer than one of them.
    OutOfRange,
}

/// Units of time and their nanoseconds, as written.
const DURATION_UNITS: &[(&str, u64)] =
    &[("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// Units of size and their bytes: KiB is 1024, KB is 1000.
const SIZE_UNITS: &[(&str, u64)] =
    &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];

/// A share, in hundredths of a percent.
const SHARE_UNITS: &[(&str, u64)] = &[("%", 100)];

/// Reads `"250ms"`, `"1.5s"`, `"10m"`. Units: ns, us, ms, s, m, h.
///
/// # Errors
/// A [`UnitError`] when the text is not a number with a known unit, or does not fit in 64 bits of nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse(text, DURATION_UNITS).map(Duration::from_nanos)
}

/// Reads `"8KiB"`, `"32MiB"`, `"512B"`, in bytes. Units: B, KiB, MiB, GiB, KB, MB, GB.
///
/// # Errors
/// A [`UnitError`] when the text is not a number with a known unit, or does not fit in 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, SIZE_UNITS)
}

/// Reads `"10%"`, `"0.5%"`, in hundredths of a percent (10 % is 1000).
///
/// # Errors
/// A [`UnitError`] when the text is not a number with a percent sign, or finer than that.
pub fn parse_share(text: &str) -> Result<u32, UnitError> {
    let share = parse(text, SHARE_UNITS)?;
    u32::try_from(share).map_err(|_| UnitError::OutOfRange)
}

/// The text of a share: `"10%"`, `"0.5%"`. [`parse_share`] reads it back.
#[must_use]
pub fn show_share(hundredths: u32) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole}%"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{}%", part / 10),
        (whole, part) => format!("{whole}.{part:02}%"),
    }
}

/// The shortest exact text of a duration: `"90s"`, `"250ms"`. [`parse_duration`] reads it back (up to 584 years).
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    // Minutes and hours only where seconds would be hard to read, so that what defaults say is what `check` prints.
    let units = if nanos >= 7_200_000_000_000 { DURATION_UNITS } else { &DURATION_UNITS[..4] };
    show(nanos, units, "0ms")
}

/// The shortest exact text of a size in binary units: `"32MiB"`. [`parse_size`] reads it back.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS[..4], "0B")
}

/// A size for the eye: at most four significant digits, `"1.25 GiB"`.
#[must_use]
pub fn show_size_rounded(bytes: u64) -> String {
    let (name, unit) = SIZE_UNITS[..4].iter().rev().find(|(_, unit)| bytes >= *unit).unwrap_or(&("B", 1));
    let whole = bytes / unit;
    let hundredths = (u128::from(bytes % unit) * 100) / u128::from(*unit);
    match hundredths {
        0 => format!("{whole} {name}"),
        _ if whole >= 100 => format!("{whole}.{} {name}", hundredths / 10),
        _ => format!("{whole}.{hundredths:02} {name}"),
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let dot = number.contains('.');
    if whole.is_empty() || fraction.contains('.') || (dot && fraction.is_empty()) {
        return Err(UnitError::NoNumber);
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(UnitError::UnknownUnit)?;
    let whole: u64 = whole.parse().map_err(|_| UnitError::OutOfRange)?;
    let total = whole.checked_mul(*factor).ok_or(UnitError::OutOfRange)?;
    total.checked_add(parse_fraction(fraction, *factor)?).ok_or(UnitError::OutOfRange)
}

/// `.5` of a unit; refused when it is not a whole count of the smallest one, since a rounded timeout would lie.
fn parse_fraction(fraction: &str, factor: u64) -> Result<u64, UnitError> {
    let digits = fraction.trim_end_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let scale = u32::try_from(digits.len()).ok().and_then(|len| 10_u128.checked_pow(len)).ok_or(UnitError::OutOfRange)?;
    let value: u128 = digits.parse().map_err(|_| UnitError::OutOfRange)?;
    let scaled = value.checked_mul(u128::from(factor)).ok_or(UnitError::OutOfRange)?;
    if scaled % scale != 0 {
        return Err(UnitError::OutOfRange);
    }
    u64::try_from(scaled / scale).map_err(|_| UnitError::OutOfRange)
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let exact = units.iter().rev().find(|(_, unit)| value.is_multiple_of(*unit));
    let (name, unit) = exact.unwrap_or(&units[0]);
    format!("{}{name}", value / unit)
}
