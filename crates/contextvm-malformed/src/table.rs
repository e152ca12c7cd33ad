//! The tables: one line per input, its name and its verdict in each role.
use std::path::PathBuf;

use crate::Family;
use crate::world::World;

/// The time at which the inputs of the tables are made, Unix seconds.
pub const NOW: u64 = 1_700_000_000;

/// Returns where the table of a family stands.
#[must_use]
pub fn path(family: Family) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tables").join(format!("{}.tsv", family.name()))
}

/// Prints the table of a family: name, verdict of a server, verdict of a client; one verdict where the role means nothing.
#[must_use]
pub fn print(family: Family) -> String {
    let world = World::new(NOW);
    let columns: Vec<_> = family.roles().iter().map(|role| family.cases(&world, *role)).collect();
    let mut out = String::new();
    for (row, case) in columns[0].iter().enumerate() {
        out.push_str(&case.name);
        for column in &columns {
            assert_eq!(column[row].name, case.name, "both roles meet the same inputs");
            out.push('\t');
            out.push_str(&column[row].want);
        }
        out.push('\n');
    }
    out
}
