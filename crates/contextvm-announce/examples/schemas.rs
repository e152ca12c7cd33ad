//! Makes tools that are hard to hash, or hashes the tools that it reads, one per line: to be compared with another program.
//!
//! ```sh
//! cargo run --example schemas -- make 15 10000 > tools        # seed, count
//! cargo run --example schemas -- hash < tools > ours
//! node interop/ts/schemas.mjs < tools | cmp - ours
//! ```
#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "the generator is shared with the tests"
)]
use std::error::Error;
use std::io::{BufRead, BufWriter, Write, stdin, stdout};

#[path = "../tests/schemas/generate.rs"]
mod generate;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = BufWriter::new(stdout().lock());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", seed, count] => {
            let mut generator = generate::Generator::new(seed.parse()?);
            for _ in 0..count.parse()? {
                writeln!(out, "{}", generator.tool())?;
            }
        }
        ["hash"] => {
            for line in stdin().lock().split(b'\n') {
                writeln!(out, "{}", generate::hash_line(&String::from_utf8(line?)?))?;
            }
        }
        _ => return Err("usage: schemas make SEED COUNT | schemas hash".into()),
    }
    Ok(out.flush()?)
}
