//! Every committed input goes through its target, and so does what is one mutation away from it.
use std::path::{Path, PathBuf};
use std::{fs, panic};

use crate::{TARGETS, Target, pack, seeds};

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Runs one input and says which it was when a promise is broken.
fn run(name: &str, target: Target, input: &[u8], what: &str) {
    let outcome = panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name}, {what}: {:?} = {input:?}", String::from_utf8_lossy(input));
}

#[test]
fn every_committed_input_keeps_every_promise() {
    for (name, target) in TARGETS {
        for file in corpus(name) {
            run(name, target, &fs::read(&file).unwrap(), &file.display().to_string());
        }
    }
}

#[test]
fn every_target_has_some_inputs_and_not_too_many() {
    for (name, _) in TARGETS {
        let count = corpus(name).len();
        assert!((5..=64).contains(&count), "{name} has {count} inputs");
    }
}

#[test]
fn every_packed_input_keeps_every_promise() {
    for (name, target) in TARGETS {
        for (nth, input) in pack::read(name).unwrap().iter().enumerate() {
            run(name, target, input, &format!("packed input {nth}"));
        }
    }
}

#[test]
fn a_pack_holds_each_input_once_and_gives_it_back() {
    for (name, _) in TARGETS {
        let inputs = pack::read(name).unwrap();
        let is_after = |pair: &[Vec<u8>]| (pair[0].len(), &pair[0]) < (pair[1].len(), &pair[1]);
        assert!(inputs.windows(2).all(is_after), "{name} is sorted");
    }
}

#[test]
fn the_seeds_are_the_committed_ones() {
    for (target, name, bytes) in seeds::all() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target).join(name);
        assert_eq!(fs::read(&file).ok(), Some(bytes), "{}: run `cargo run --bin seeds`", file.display());
    }
}

/// A fuzzer for everybody: no coverage, but every input cut short, and some thousand others with single bytes changed.
///
/// `FUZZ_ROUNDS` sets how many changed inputs each seed gives.
#[test]
fn mutated_inputs_keep_every_promise() {
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(40);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, target) in TARGETS {
        for file in corpus(name) {
            let seed = fs::read(&file).unwrap();
            for _ in 0..rounds {
                run(name, target, &random.mutated(&seed), "mutated");
            }
        }
    }
}

/// xorshift64: the same inputs on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn mutated(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut input = seed.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            let byte = u8::try_from(self.below(256)).unwrap();
            match self.below(6) {
                0 => input.truncate(at),
                1 => input.insert(at, byte),
                2 => input.insert(at, byte % 12),
                3 => {
                    // Some bytes again, in place.
                    let again: Vec<u8> = input[at..].iter().take(self.below(24)).copied().collect();
                    input.splice(at..at, again);
                }
                4 if at < input.len() => input[at] = byte,
                _ if at < input.len() => input[at] ^= 1 << (byte % 8),
                _ => input.extend((0..self.below(16)).map(|_| byte % 16)),
            }
        }
        input
    }
}
