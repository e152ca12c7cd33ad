//! A progress bar on standard error for messages that take a while to move.
use std::io::Write as _;
use std::pin::pin;
use std::time::{Duration, Instant};

use contextvm::client::{Direction, Transferred};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::output::Talk;

/// How often the bar is drawn.
const EVERY: Duration = Duration::from_millis(100);
/// What moves for less time has no bar.
const BRIEF: Duration = Duration::from_millis(300);
/// The longest row of marks.
const LONGEST: usize = 40;
/// The shortest row of marks that says something.
const SHORTEST: usize = 8;

/// Waits for something, and shows meanwhile how far the message of the moment has moved.
pub(crate) async fn beside<T>(
    talk: &Talk,
    mut news: watch::Receiver<Option<Transferred>>,
    work: impl Future<Output = T>,
) -> T {
    if !talk.shows_bars() {
        return work.await;
    }
    // What was moved before belongs to another call.
    news.mark_unchanged();
    let (mut work, mut bar) = (pin!(work), Bar::default());
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tick.tick() => {
                let moved = news.has_changed().unwrap_or(false).then(|| news.borrow_and_update().clone());
                if let Some(drawn) = bar.look(moved.flatten(), Instant::now(), columns()) {
                    write(&drawn);
                }
            }
        }
    }
}

/// What is drawn, and how long it has been moving.
#[derive(Debug, Default)]
struct Bar {
    moving: Option<Moving>,
    /// Columns of the line that stands there.
    drawn: usize,
}

#[derive(Debug)]
struct Moving {
    news: Transferred,
    since: Instant,
    /// Bytes that had moved when it was first seen.
    before: u64,
}

impl Bar {
    /// Takes news, and returns what to write now, if anything.
    fn look(&mut self, news: Option<Transferred>, now: Instant, columns: usize) -> Option<String> {
        if let Some(news) = news {
            match &mut self.moving {
                Some(moving)
                    if moving.news.id.get() == news.id.get() && moving.news.direction == news.direction =>
                {
                    moving.news = news;
                }
                moving => *moving = Some(Moving { since: now, before: news.bytes, news }),
            }
        }
        let moving = self.moving.as_ref()?;
        if moving.news.total > 0 && moving.news.bytes >= moving.news.total {
            self.moving = None;
            return self.clear();
        }
        let elapsed = now.saturating_duration_since(moving.since);
        if elapsed < BRIEF {
            return self.clear();
        }
        let line = line(&moving.news, rate(moving, elapsed), columns);
        let rest = " ".repeat(self.drawn.saturating_sub(line.len()));
        self.drawn = line.len();
        Some(format!("\r{line}{rest}"))
    }

    /// Returns what takes the line away, if one stands there. Without escapes, so that every terminal knows how.
    fn clear(&mut self) -> Option<String> {
        let drawn = core::mem::take(&mut self.drawn);
        (drawn > 0).then(|| format!("\r{}\r", " ".repeat(drawn)))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(cleared) = self.clear() {
            write(&cleared);
        }
    }
}

/// Bytes a second since the message was first seen.
fn rate(moving: &Moving, elapsed: Duration) -> u64 {
    let bytes = u128::from(moving.news.bytes.saturating_sub(moving.before));
    u64::try_from(bytes * 1_000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
}

/// Lays one line out, shorter than the terminal is wide; what does not fit is left out. What is not known is not said.
fn line(news: &Transferred, rate: u64, columns: usize) -> String {
    let doing = match news.direction {
        Direction::Sent => "sending",
        Direction::Received => "receiving",
    };
    let (bytes, total) = (news.bytes, u128::from(news.total));
    let part = |of: u128| (total > 0).then(|| u128::from(bytes).min(total) * of / total);
    let percent = part(100).map_or_else(String::new, |percent| format!(" {percent:>3} %"));
    let amount = if total > 0 { format!("{} of {}", size(bytes), size(news.total)) } else { size(bytes) };
    let room = columns.saturating_sub(1);
    let mut line = format!("{doing}{percent}");
    for part in [format!("  {amount}"), format!("  {}/s", size(rate))] {
        if line.len() + part.len() <= room {
            line.push_str(&part);
        }
    }
    let marks = room.saturating_sub(line.len() + 4).min(LONGEST);
    let full = u128::try_from(marks).ok().and_then(part).and_then(|full| usize::try_from(full).ok());
    if let Some(full) = full.filter(|_| marks >= SHORTEST) {
        line.push_str(&format!("  [{}{}]", "#".repeat(full), "-".repeat(marks - full)));
    }
    line.truncate(room);
    line
}

/// Says a number of bytes in the unit that fits it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1_024;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for larger in units {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1_024, larger);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// How wide the terminal at standard error is, columns.
#[cfg(unix)]
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// How wide terminals usually are, columns.
#[cfg(not(unix))]
const fn columns() -> usize {
    80
}

fn write(text: &str) {
    let mut error = std::io::stderr().lock();
    // Nothing is lost with a bar.
    let _unwritten = error.write_all(text.as_bytes()).and_then(|()| error.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    const MIB: u64 = 1024 * 1024;

    fn news(bytes: u64, total: u64) -> Transferred {
        let id = RawValue::from_string("1".to_owned()).unwrap();
        Transferred { id, direction: Direction::Received, bytes, total }
    }

    #[test]
    fn a_line_is_never_wider_than_its_terminal() {
        let full = line(&news(4 * MIB, 16 * MIB), 3 * MIB, 100);
        let marks = format!("[{}{}]", "#".repeat(10), "-".repeat(30));
        assert_eq!(full, format!("receiving  25 %  4.0 MiB of 16.0 MiB  3.0 MiB/s  {marks}"));
        assert_eq!(line(&news(4 * MIB, 16 * MIB), 3 * MIB, 40), "receiving  25 %  4.0 MiB of 16.0 MiB");
        assert_eq!(line(&news(4 * MIB, 16 * MIB), 3 * MIB, 20), "receiving  25 %");
        assert_eq!(line(&news(4 * MIB, 0), 3 * MIB, 100), "receiving  4.0 MiB  3.0 MiB/s");
        for columns in 0..200 {
            for (bytes, total) in [(0, 0), (1, 0), (u64::MAX, u64::MAX), (5, 9), (MIB, 24 * MIB)] {
                let line = line(&news(bytes, total), u64::MAX, columns);
                assert!(line.len() <= columns.saturating_sub(1) && line.is_ascii(), "{columns} {line}");
            }
        }
    }

    #[test]
    fn what_is_brief_has_no_bar_and_what_is_over_leaves_none() {
        let (mut bar, begin) = (Bar::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(bar.look(None, at(0), 80), None);
        assert_eq!(bar.look(Some(news(MIB, 4 * MIB)), at(0), 80), None);
        assert_eq!(bar.look(Some(news(2 * MIB, 4 * MIB)), at(200), 80), None);
        let drawn = bar.look(Some(news(3 * MIB, 4 * MIB)), at(1_000), 80).unwrap();
        assert!(drawn.starts_with("\rreceiving  75 %  3.0 MiB of 4.0 MiB  2.0 MiB/s  [#"), "{drawn}");
        assert_eq!(bar.look(None, at(1_100), 80).unwrap().len(), drawn.len());
        let cleared = bar.look(Some(news(4 * MIB, 4 * MIB)), at(1_200), 80).unwrap();
        assert_eq!(cleared, format!("\r{}\r", " ".repeat(drawn.len() - 1)));
        assert_eq!(bar.look(None, at(9_000), 80), None, "it is over");
        assert_eq!(bar.look(Some(news(1, 4)), at(9_000), 80), None, "another one begins");
        assert_eq!(bar.drawn, 0);
    }

    #[test]
    fn sizes_are_said_in_fitting_units() {
        for (bytes, said) in [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_536, "1.5 KiB")] {
            assert_eq!(size(bytes), said);
        }
        assert_eq!((size(MIB), size(16 * MIB)), ("1.0 MiB".to_owned(), "16.0 MiB".to_owned()));
        assert_eq!(size(MIB - 1), "1023.9 KiB");
    }
}
