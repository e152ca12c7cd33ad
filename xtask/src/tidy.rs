//! Checks what a reader trips over: first lines, file sizes, the glossary and the table of limits.
use std::collections::{BTreeMap, BTreeSet};

use crate::rules::Rules;
use crate::shell::{Outcome, root};
use crate::source::{self, Source};

/// A file may have this many lines without its unit tests.
const MOST_LINES: usize = 620;

/// Runs every check.
pub(crate) fn run() -> Outcome {
    let rules = Rules::load()?;
    let sources = source::all()?;
    let glossary = read("docs/GLOSSARY.md")?;
    let limits = read("docs/LIMITS.md")?;
    let table = read("crates/contextvm-core/src/limits.rs")?;
    let mut faults = check_first_lines(&sources);
    faults.extend(check_sizes(&sources));
    faults.extend(check_glossary(&rules, &sources, &glossary));
    faults.extend(check_limits(&table, &limits));
    if faults.is_empty() {
        println!("tidy: {} files, no fault", sources.len());
        Ok(())
    } else {
        Err(faults)
    }
}

fn read(path: &str) -> Result<String, Vec<String>> {
    std::fs::read_to_string(root().join(path)).map_err(|error| vec![format!("{path}: {error}")])
}

/// Every file says in its first line, in one sentence, what it is.
fn check_first_lines(sources: &[Source]) -> Vec<String> {
    let tells = |text: &str| {
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_some_and(|sentence| sentence.ends_with('.'))
    };
    let untold = sources.iter().filter(|source| !tells(&source.text));
    untold.map(|source| format!("{}: does not open with a sentence after `//! `", source.path)).collect()
}

/// No file outgrows its reader.
fn check_sizes(sources: &[Source]) -> Vec<String> {
    let product = sources.iter().filter(|source| source.is_product());
    product
        .map(|source| (source, source.code().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(source, lines)| format!("{}: {lines} lines without tests, at most {MOST_LINES}", source.path))
        .collect()
}

/// Every public type of a pure crate has a row in the glossary.
fn check_glossary(rules: &Rules, sources: &[Source], glossary: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let pure = |krate: &str| rules.crates.get(krate).is_some_and(|rule| rule.pure);
    let explained: BTreeSet<&str> = glossary.lines().flat_map(names).collect();
    for source in sources.iter().filter(|source| source.is_product() && pure(&source.krate)) {
        for (_, line) in source.code() {
            if let Some(name) = public_type(line)
                && !explained.contains(name)
            {
                faults.push(format!("{}: {name} has no row in docs/GLOSSARY.md", source.path));
            }
        }
    }
    faults
}

/// Returns the names in the first cell of a table's row, each of which stands between backquotes.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let cell = line.strip_prefix('|').and_then(|rest| rest.split('|').next()).unwrap_or_default();
    cell.split('`').skip(1).step_by(2)
}

/// Returns the name of the public type that a line declares.
fn public_type(line: &str) -> Option<&str> {
    let rest = ["pub struct ", "pub enum ", "pub trait ", "pub type "]
        .iter()
        .find_map(|word| line.strip_prefix(word))?;
    rest.split(|letter: char| !letter.is_alphanumeric()).next()
}

/// Every field of the table of limits has a row, with the same default in both.
fn check_limits(code: &str, page: &str) -> Vec<String> {
    let rows: BTreeMap<&str, String> = page.lines().filter_map(row).collect();
    let defaults: BTreeMap<&str, u64> = code.lines().filter_map(default).collect();
    let fields: BTreeSet<&str> = code.lines().filter_map(field).collect();
    let mut faults = Vec::new();
    for name in &fields {
        match (rows.get(name), defaults.get(name)) {
            (None, _) => faults.push(format!("docs/LIMITS.md: no row for {name}")),
            (_, None) => {
                faults.push(format!("docs/LIMITS.md: the default of {name} cannot be read in the code"))
            }
            (Some(text), Some(value)) if *text != value.to_string() => {
                faults.push(format!("docs/LIMITS.md: {name} is {text} there and {value} in the code"));
            }
            (Some(_), Some(_)) => {}
        }
    }
    for name in rows.keys().filter(|name| !fields.contains(*name)) {
        faults.push(format!("docs/LIMITS.md: {name} is not a field of Limits"));
    }
    faults
}

/// Reads "pub name: usize," as a name.
fn field(line: &str) -> Option<&str> {
    line.trim().strip_prefix("pub ")?.strip_suffix(',')?.split_once(": ").map(|(name, _)| name)
}

/// Reads "| `name` | 1,024 | ..." as a name and a plain number.
fn row(line: &str) -> Option<(&str, String)> {
    let mut cells = line.split('|').map(str::trim);
    let name = cells.nth(1)?.strip_prefix('`')?.strip_suffix('`')?;
    let digits: String = cells.next()?.chars().filter(char::is_ascii_digit).collect();
    Some((name, digits))
}

/// Reads "name: 256 * 1024," or "name: Duration::from_secs(60)," as a name and a number (seconds for durations).
fn default(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.trim().strip_suffix(',')?.split_once(": ")?;
    let value =
        value.strip_prefix("Duration::from_secs(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(value);
    let product = value.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>());
    let mut total = 1_u64;
    for factor in product {
        total = total.checked_mul(factor.ok()?)?;
    }
    Some((name, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<Source> {
        vec![Source { path: "crates/low/src/lib.rs".into(), krate: "low".into(), text: text.into() }]
    }

    fn rules() -> Rules {
        let mut rules = Rules::default();
        rules.crates.insert("low".into(), crate::rules::CrateRule { pure: true, ..Default::default() });
        rules
    }

    #[test]
    fn the_workspace_itself_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn a_file_without_a_first_line_is_caught() {
        assert_eq!(check_first_lines(&file("use a;\n")).len(), 1);
        assert_eq!(check_first_lines(&file("//! Says nothing\n")).len(), 1);
        assert!(check_first_lines(&file("//! Says it.\n")).is_empty());
    }

    #[test]
    fn a_file_that_is_too_long_is_caught_and_its_tests_do_not_count() {
        assert_eq!(check_sizes(&file(&"x;\n".repeat(MOST_LINES + 1))).len(), 1);
        let tested = format!("x;\n#[cfg(test)]\n{}", "y;\n".repeat(MOST_LINES));
        assert!(check_sizes(&file(&tested)).is_empty());
    }

    #[test]
    fn a_public_type_without_a_glossary_row_is_caught() {
        let sources = file("pub struct Widget<T> {\nstruct Hidden;\n");
        assert_eq!(check_glossary(&rules(), &sources, "").len(), 1);
        assert_eq!(
            check_glossary(&rules(), &sources, "A `Widget` in passing.\n| `Other` | `Widget` |").len(),
            1
        );
        assert!(check_glossary(&rules(), &sources, "| `Other`, `Widget` | two things |").is_empty());
    }

    #[test]
    fn a_limit_that_differs_is_missing_is_unknown_or_cannot_be_read_is_caught() {
        let code = "pub a: usize,\npub b: Duration,\na: 256 * 1024,\nb: Duration::from_secs(30 * 60),\n";
        assert!(check_limits(code, "| `a` | 262,144 |\n| `b` | 1,800 s |\n").is_empty());
        assert_eq!(check_limits(code, "| `a` | 1 |\n| `b` | 1,800 s |\n| `c` | 3 |\n").len(), 2);
        assert_eq!(check_limits(code, "| `a` | 262,144 |\n").len(), 1);
        let odd = "pub a: usize,\na: LARGEST,\n";
        assert_eq!(check_limits(odd, "| `a` | 1 |\n").len(), 1);
    }
}
