//! Values of flags: times, chances, counts.
use std::time::Duration;

/// Reads `30s`, `250ms`, `5m`, `1h`, or plain seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().map_err(|_| "expected a time like 30s, 250ms or 5m".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err("expected ms, s, m or h after the number".to_owned()),
    };
    if seconds > 30.0 * 86_400.0 {
        return Err("longer than 30 days".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a time".to_owned())
}

/// Reads what [`duration`] reads, but for zero: nothing can be waited for in no time.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait.is_zero() { Err("expected a time longer than zero".to_owned()) } else { Ok(wait) }
}

/// Reads what [`duration`] reads, and days and weeks like `7d` and `2w`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let days = |number: &str, each: u64| {
        let count: u64 = number.parse().map_err(|_| "expected a time like 7d, 12h or 30m".to_owned())?;
        let seconds = count.checked_mul(each * 86_400).filter(|seconds| *seconds <= 100 * 366 * 86_400);
        seconds.map(Duration::from_secs).ok_or_else(|| "longer than 100 years".to_owned())
    };
    match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(number), _) => days(number, 1),
        (_, Some(number)) => days(number, 7),
        (None, None) => duration(text),
    }
}

/// Reads `0.02` or `2%`.
pub(super) fn chance(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let number: f64 = number.parse().map_err(|_| "expected a chance like 0.02 or 2%".to_owned())?;
    let chance = number / scale;
    if (0.0..=1.0).contains(&chance) { Ok(chance) } else { Err("a chance runs from 0 to 1".to_owned()) }
}

/// Reads `10/10m`.
pub(super) fn max_restarts(text: &str) -> Result<(usize, Duration), String> {
    let (count, window) =
        text.split_once('/').ok_or_else(|| "expected a count and a time like 10/10m".to_owned())?;
    let count = count.parse().map_err(|_| "expected a count before the slash".to_owned())?;
    Ok((count, wait(window)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_units() {
        for (text, millis) in [
            ("30s", 30_000),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2", 2_000),
            ("1.5s", 1_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1e3s", "99999999h", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_waited_for_in_no_time() {
        assert_eq!(wait("1ms"), Ok(Duration::from_millis(1)));
        for text in ["0", "0s", "0.0h"] {
            assert!(duration(text).is_ok() && wait(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_have_days_and_weeks_too() {
        for (text, hours) in [("7d", 168), ("2w", 336), ("12h", 12), ("0d", 0)] {
            assert_eq!(span(text), Ok(Duration::from_secs(hours * 3_600)), "{text}");
        }
        for text in ["d", "1.5d", "-1d", "99999999999999999999d", "999999d", "x"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn chances_are_read_with_and_without_percent() {
        assert_eq!(chance("2%"), Ok(0.02));
        assert_eq!(chance("0.5"), Ok(0.5));
        assert!(
            chance("2").is_err() && chance("-1%").is_err() && chance("NaN").is_err() && chance("x").is_err()
        );
    }

    #[test]
    fn restarts_are_a_count_and_a_time() {
        assert_eq!(max_restarts("10/10m"), Ok((10, Duration::from_secs(600))));
        assert!(
            max_restarts("10").is_err() && max_restarts("10/0s").is_err() && max_restarts("x/1m").is_err()
        );
    }
}
