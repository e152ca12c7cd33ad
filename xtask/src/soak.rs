//! Calls at a constant rate for a long time: what stays in memory, and whether it becomes slower.
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::examples::{Build, ask};
use crate::figures::{Faults, figure, real, rounded, verdict};
use crate::shell::Outcome;
use crate::steady::{Load, Steady};

/// How long a run lasts by default, minutes.
const MINUTES: u64 = 30;
/// Accepted ids and answers are remembered for this long; before that memory grows by design, seconds.
const REMEMBERED: u64 = 660;
/// Most growth of a process after that, MiB per hour.
const SLOPE: f64 = 2.0;
/// So few that each has had as many answers as its gate remembers ids, 65,536, before that time is over.
const CALLERS: usize = 3;
/// The names of the processes, in the order in which they are measured.
const PARTS: [&str; 3] = ["server", "callers", "relay"];

/// Calls for a while, and prints what was seen as one line of JSON.
pub(crate) fn run(short: bool, minutes: Option<&str>) -> Outcome {
    let minutes = match minutes {
        Some(minutes) => minutes.parse().map_err(|error| vec![format!("--minutes {minutes}: {error}")])?,
        None => MINUTES,
    };
    let build = Build::of(short);
    build.build()?;
    let seconds = if short { 20 } else { minutes * 60 };
    // A run that is too short for the usual window has a shorter one.
    let window = if seconds > 2 * REMEMBERED { 600 } else { 10 };
    let load = Load {
        build,
        relays: 1,
        callers: CALLERS,
        per_second: if short { 60 } else { 300 },
        window,
        timeout: 60,
        plain: false,
    };
    let (mut members, errors) = hold(load, seconds)?;
    let is_judged = seconds > 2 * REMEMBERED;
    members.insert("slope_judged".to_owned(), is_judged.into());
    let document = Value::Object(members);
    let mut faults = Faults::default();
    faults.unless(errors == 0, || format!("{errors} calls went wrong or errors were logged: {document}"));
    if !short {
        let made = figure(&document, "/calls/calls")? as f64;
        faults.below("calls", made, (seconds * u64::from(load.per_second)) as f64 * 0.9);
    }
    for part in PARTS.iter().filter(|_| is_judged) {
        let name = format!("{part}_slope_mib_per_h");
        faults.above(&name, real(&document, &format!("/{name}"))?, SLOPE);
    }
    verdict(&document, faults.0)
}

fn hold(load: Load, seconds: u64) -> Result<(Map<String, Value>, u64), Vec<String>> {
    let mut steady = Steady::start(load)?;
    ask(&mut steady.callers, "go")?;
    let begun = Instant::now();
    let (mut samples, mut by_minute) = (Vec::new(), Vec::new());
    for second in 1..=seconds {
        let due = begun + Duration::from_secs(second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        samples.push((begun.elapsed().as_secs_f64(), steady.rss_mib()));
        if second % 60 == 0 || second == seconds {
            let seen = ask(&mut steady.callers, "figures")?;
            by_minute.push(real(&seen, "/lately/p99_ms")?);
            eprintln!("soak: {second} s, p99 {:?} ms, {:?} MiB", by_minute.last(), steady.rss_mib());
        }
    }
    let calls = ask(&mut steady.callers, "stop")?;
    let executed = ask(&mut steady.server, "figures")?;
    let warm = warm_up(seconds, load.window);
    let (made, answered) = (figure(&calls, "/calls")?, figure(&calls, "/answered")?);
    // A run without calls shows nothing.
    let errors = u64::from(made == 0)
        + made.abs_diff(answered)
        + figure(&calls, "/misdelivered")?
        + figure(&executed, "/executed")?.abs_diff(made)
        + figure(&executed, "/doubled")?
        + figure(&executed, "/doubled_reads")?
        + figure(&calls, "/error_logs/count")?
        + figure(&executed, "/error_logs/count")?;
    let mut document = Map::new();
    let mut put = |name: String, value: Value| drop(document.insert(name, value));
    put("job".to_owned(), "soak".into());
    put("per_second".to_owned(), load.per_second.into());
    put("seconds".to_owned(), seconds.into());
    put("warm_up_s".to_owned(), warm.into());
    put("errors".to_owned(), errors.into());
    put("calls".to_owned(), calls);
    put("executions".to_owned(), executed);
    put("p99_drift_percent".to_owned(), drift(&by_minute).into());
    put("p99_ms_by_minute".to_owned(), by_minute.into());
    for (at, name) in PARTS.iter().enumerate() {
        let of = |rss: &[f64; 3]| rss.get(at).copied().unwrap_or(0.0);
        let all: Vec<(f64, f64)> = samples.iter().map(|(time, rss)| (*time, of(rss))).collect();
        let late: Vec<(f64, f64)> = all.iter().copied().filter(|(time, _)| *time >= warm as f64).collect();
        let most = all.iter().map(|(_, rss)| *rss).fold(0.0, f64::max);
        put(format!("{name}_slope_mib_per_h"), rounded(slope(&late) * 3_600.0).into());
        put(format!("{name}_rss_mib"), rounded(late.last().map_or(0.0, |(_, rss)| *rss)).into());
        put(format!("{name}_rss_most_mib"), rounded(most).into());
    }
    Ok((document, errors))
}

/// Seconds until everything that is remembered for a while is as much as it will be.
fn warm_up(seconds: u64, window: u64) -> u64 {
    (window + 60 + 90).min(seconds / 2)
}

/// How much slower the last minutes were than the first ones after the first, percent; the medians of three are compared.
fn drift(by_minute: &[f64]) -> f64 {
    let median = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(0.0)
    };
    if by_minute.len() < 7 {
        return 0.0;
    }
    let first = median(by_minute.get(1..4).unwrap_or_default());
    let last = median(by_minute.get(by_minute.len() - 3..).unwrap_or_default());
    rounded((last / first.max(0.001) - 1.0) * 100.0)
}

/// The slope of the line that fits best, per second.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, value) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let across: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - value)).sum();
    let along: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    if along > 0.0 { across / along } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_of_two_mib_an_hour_is_seen_through_noise() {
        let noise = |second: u64| if second.is_multiple_of(7) { 0.5 } else { 0.0 };
        let sample = |second: u64| (second as f64, 60.0 + noise(second) + 2.0 * second as f64 / 3_600.0);
        let leak: Vec<_> = (800..1_800).map(sample).collect();
        assert!((slope(&leak) * 3_600.0 - 2.0).abs() < 0.1);
        let flat: Vec<_> = leak.iter().map(|(time, _)| (*time, 60.0)).collect();
        assert!(slope(&flat).abs() < 1e-9 && slope(&[]).abs() < 1e-9);
    }

    #[test]
    fn drift_compares_the_last_minutes_with_the_first_but_one() {
        assert_eq!(drift(&[90.0, 2.0, 2.0, 2.0, 5.0, 2.1, 2.2, 2.2]), 10.0);
        assert_eq!(drift(&[2.0, 4.0]), 0.0);
    }
}
