//! Replay files: a seed, what is left out of it and what it shows, in plain text.
use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::cheat::Cheat;
use crate::hostile::{ALL, Chances};
use crate::omit::Omit;
use crate::trace::Host;
use crate::world::{Scene, Setup};

/// A world to be seen again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Its seed.
    pub seed: u64,
    /// What it is made from, what is left out of it included.
    pub setup: Setup,
    /// What it showed when it was written, for people.
    pub shows: Vec<String>,
    /// What its cryptography was.
    pub crypto: Crypto,
    /// The hash over what was drawn for it, to notice that the code draws something else by now.
    pub draws: Option<u64>,
    /// The hash over its trace.
    pub trace: Option<u64>,
}

/// What the cryptography of a world is: keyed hashes, or BIP-340 and NIP-44 as they are. Traces differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crypto {
    /// Keyed hashes.
    Fake,
    /// As it is.
    Real,
}

impl Crypto {
    /// What this program was built with.
    pub const BUILT: Self = if cfg!(contextvm_fake_crypto) { Self::Fake } else { Self::Real };

    /// Returns a fixed name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fake => "fake",
            Self::Real => "real",
        }
    }
}

impl Default for Crypto {
    fn default() -> Self {
        Self::BUILT
    }
}

/// Why a replay file cannot be read: the line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Counted from one.
    pub line: usize,
    /// What it should have been.
    pub expected: &'static str,
}

impl Replay {
    /// Writes the file.
    #[must_use]
    pub fn print(&self) -> String {
        let Self { seed, setup, shows, crypto, draws, trace } = self;
        let mut text = "# A world of contextvm-sim; `cargo xtask replay FILE` shows it again.\n".to_owned();
        for line in shows {
            let _ = writeln!(text, "# {}", line.replace('\n', " "));
        }
        let scene = match setup.scene {
            Scene::Swarm => "swarm".to_owned(),
            Scene::Calm => "calm".to_owned(),
            Scene::HostileRelays => "hostile-relays".to_owned(),
            Scene::Days(days) => format!("days {days}"),
        };
        let _ = writeln!(text, "seed {seed}\nscene {scene}\ncalls {}", setup.calls);
        let _ = writeln!(text, "crypto {}", crypto.name());
        for (what, hash) in [("draws", draws), ("trace", trace)] {
            if let Some(hash) = hash {
                let _ = writeln!(text, "{what} {hash:016x}");
            }
        }
        if let Some(cheat) = setup.cheat {
            let _ = writeln!(text, "cheat {}", cheat.name());
        }
        if let Some(chances) = &setup.chances {
            let chances = chances.iter().map(|(deed, chance)| format!(" {}={chance}", deed.name()));
            let _ = writeln!(text, "chances{}", chances.collect::<String>());
        }
        let Omit { calls, events, hosts, knobs } = &setup.omit;
        for (what, numbers) in [("calls", calls), ("events", events)] {
            if !numbers.is_empty() {
                let _ = writeln!(text, "without {what} {}", ranges(numbers));
            }
        }
        let hosts: Vec<String> = hosts.iter().map(|host| host_name(*host)).collect();
        let knobs: Vec<String> = knobs.iter().cloned().collect();
        for (what, words) in [("hosts", hosts), ("knobs", knobs)] {
            if !words.is_empty() {
                let _ = writeln!(text, "without {what} {}", words.join(" "));
            }
        }
        text
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Fails at the first line that is none of those that [`Self::print`] writes.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut replay = Self::default();
        for (number, line) in text.lines().enumerate() {
            if let Some(words) = line.strip_prefix('#') {
                replay.shows.push(words.trim().to_owned());
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            replay.take(&words).map_err(|expected| Unreadable { line: number + 1, expected })?;
        }
        if !replay.shows.is_empty() {
            replay.shows.remove(0);
        }
        Ok(replay)
    }

    fn take(&mut self, words: &[&str]) -> Result<(), &'static str> {
        let setup = &mut self.setup;
        match words {
            [] => {}
            ["seed", seed] => self.seed = seed.parse().map_err(|_| "a number after `seed`")?,
            ["calls", calls] => setup.calls = calls.parse().map_err(|_| "a number after `calls`")?,
            ["crypto", "fake"] => self.crypto = Crypto::Fake,
            ["crypto", "real"] => self.crypto = Crypto::Real,
            ["draws", hash] => self.draws = Some(read_hash(hash)?),
            ["trace", hash] => self.trace = Some(read_hash(hash)?),
            ["cheat", name] => setup.cheat = Some(Cheat::parse(name).ok_or("the name of a cheat")?),
            ["chances", words @ ..] => setup.chances = Some(read_chances(words)?),
            ["scene", "swarm"] => setup.scene = Scene::Swarm,
            ["scene", "calm"] => setup.scene = Scene::Calm,
            ["scene", "hostile-relays"] => setup.scene = Scene::HostileRelays,
            ["scene", "days", days] => {
                setup.scene = Scene::Days(days.parse().map_err(|_| "a number after `days`")?);
            }
            ["without", "calls", words @ ..] => read_ranges(words, &mut setup.omit.calls)?,
            ["without", "events", words @ ..] => read_ranges(words, &mut setup.omit.events)?,
            ["without", "knobs", words @ ..] => {
                setup.omit.knobs.extend(words.iter().map(|&word| word.to_owned()));
            }
            ["without", "hosts", words @ ..] => {
                for word in words {
                    setup.omit.hosts.insert(read_host(word).ok_or("hosts like `client:2`")?);
                }
            }
            _ => return Err("seed, scene, calls, crypto, draws, trace, cheat, chances or without"),
        }
        Ok(())
    }
}

/// Writes numbers as `1-4 7 9-12`.
fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(*number) => *end = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let words = spans.iter().map(
        |(start, end)| {
            if start == end { start.to_string() } else { format!("{start}-{end}") }
        },
    );
    words.collect::<Vec<_>>().join(" ")
}

/// A span in a file may not be longer.
const LONGEST: u64 = 10_000_000;

fn read_ranges(words: &[&str], into: &mut BTreeSet<u64>) -> Result<(), &'static str> {
    let wrong = "numbers and spans like `1-4 7`";
    for word in words {
        let (start, end) = word.split_once('-').unwrap_or((word, word));
        let (start, end) = (start.parse().map_err(|_| wrong)?, end.parse::<u64>().map_err(|_| wrong)?);
        if end.saturating_sub(start) > LONGEST {
            return Err(wrong);
        }
        into.extend(start..=end);
    }
    Ok(())
}

fn read_hash(word: &str) -> Result<u64, &'static str> {
    u64::from_str_radix(word, 16).map_err(|_| "a hash in hexadecimal digits")
}

fn read_chances(words: &[&str]) -> Result<Chances, &'static str> {
    words.iter().try_fold(Chances::default(), |chances, word| {
        let wrong = "deeds and thousandths like `relay_poisons=1000`";
        let (name, chance) = word.split_once('=').ok_or(wrong)?;
        let deed = ALL.iter().copied().find(|deed| deed.name() == name).ok_or(wrong)?;
        Ok(chances.with(deed, chance.parse().map_err(|_| wrong)?))
    })
}

fn host_name(host: Host) -> String {
    match host {
        Host::Client(number) => format!("client:{number}"),
        Host::Server(number) => format!("server:{number}"),
        Host::Relay(number) => format!("relay:{number}"),
    }
}

fn read_host(word: &str) -> Option<Host> {
    let (kind, number) = word.split_once(':')?;
    let number = number.parse().ok()?;
    match kind {
        "client" => Some(Host::Client(number)),
        "server" => Some(Host::Server(number)),
        "relay" => Some(Host::Relay(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_read_as_it_was_written() {
        let omit = Omit {
            calls: (3..90).chain([100, 102, 103]).collect(),
            events: [1, 2].into(),
            hosts: [Host::Client(2), Host::Relay(0), Host::Server(1)].into(),
            knobs: ["lose_up".to_owned(), "delay".to_owned()].into(),
        };
        for scene in [Scene::Swarm, Scene::Calm, Scene::HostileRelays, Scene::Days(30)] {
            let chances = Chances::every("relay", 7).with(ALL[3], 1_000);
            for (cheat, chances) in [(None, None), (Some(Cheat::WrongCancel), Some(chances))] {
                let omit = omit.clone();
                let setup = Setup { calls: 120, scene, omit, cheat, chances, ..Setup::default() };
                let replay = Replay {
                    seed: u64::MAX,
                    setup,
                    shows: vec!["C2 at 3 s".to_owned()],
                    crypto: Crypto::Real,
                    draws: Some(u64::MAX),
                    trace: cheat.map(|_| 0),
                };
                assert_eq!(Replay::parse(&replay.print()), Ok(replay));
            }
        }
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10].into()), "1-3 7 9-10");
    }

    #[test]
    fn a_wrong_line_is_named() {
        for wrong in [
            "sead 3",
            "seed x",
            "without hosts moon:3",
            "without calls 0-99999999999",
            "scene",
            "cheat Nothing",
            "chances x=1",
        ] {
            let text = format!("seed 1\n{wrong}\n");
            assert_eq!(Replay::parse(&text).map_err(|unreadable| unreadable.line), Err(2), "{wrong}");
        }
    }
}
