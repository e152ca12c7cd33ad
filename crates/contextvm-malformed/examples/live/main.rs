//! Malformed inputs against real endpoints, said by a relay that says anything.
//!
//! `live server LOG allowed|stranger EVERY` prints the address of its relay as one line of JSON, waits for a server with the key
//! `11` x 32 whose log goes to a file, and prints what became of every EVERY-th input. `live client EVERY` does the same with a
//! client of its own.
#![expect(clippy::print_stdout, reason = "the figures go to standard output")]
mod calling;
mod relay;
mod serving;

use std::time::{SystemTime, UNIX_EPOCH};

use contextvm_malformed::world::World;
use serde_json::json;

use relay::Relay;

fn main() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let relay = Relay::start().map_err(|error| error.to_string())?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    let figures = match words.as_slice() {
        ["server", log, who, every] => {
            let (world, is_stranger) = (World::new(unix()), *who == "stranger");
            let allowed = if is_stranger { &world.other } else { &world.caller };
            println!("{}", json!({"url": relay.url, "allow": allowed.public_key().to_hex()}));
            serving::run(&relay, log, is_stranger, number(every)?)?
        }
        ["client", every] => calling::run(relay, number(every)?)?,
        _ => return Err("usage: live server LOG allowed|stranger EVERY | live client EVERY".to_owned()),
    };
    println!("{figures}");
    Ok(())
}

pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
