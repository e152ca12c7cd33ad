//! Rust sources as lists of lines, with tests told apart from the rest.
use std::path::{Path, PathBuf};

use crate::shell::root;

/// One source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root of the workspace.
    pub(crate) path: String,
    /// The crate it belongs to.
    pub(crate) krate: String,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    /// Whether the file is library or binary code, not a test, bench or example.
    pub(crate) fn is_product(&self) -> bool {
        self.path.contains("/src/") && !self.path.ends_with("/tests.rs") && !self.path.contains("/tests/")
    }

    /// Returns the lines before the unit tests, without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .map(|(index, line)| (index + 1, strip_comment(line)))
    }
}

/// Cuts a line comment off, as long as the slashes are not inside a string.
fn strip_comment(line: &str) -> &str {
    let mut quoted = false;
    let mut previous = ' ';
    for (at, letter) in line.char_indices() {
        match letter {
            '"' if previous != '\\' => quoted = !quoted,
            '/' if previous == '/' && !quoted => return line.get(..at.saturating_sub(1)).unwrap_or(""),
            _ => {}
        }
        previous = letter;
    }
    line
}

/// Reads every Rust file of the workspace's crates.
pub(crate) fn all() -> Result<Vec<Source>, Vec<String>> {
    let mut sources = Vec::new();
    let crates = root().join("crates");
    for entry in read_dir(&crates)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        collect(&entry, &name, &mut sources)?;
    }
    collect(&root().join("xtask"), "xtask", &mut sources)?;
    Ok(sources)
}

fn collect(folder: &Path, krate: &str, into: &mut Vec<Source>) -> Result<(), Vec<String>> {
    for path in read_dir(folder)? {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, krate, into)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| vec![format!("{}: {error}", path.display())])?;
            let relative = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            into.push(Source { path: relative, krate: krate.to_owned(), text });
        }
    }
    Ok(())
}

fn read_dir(folder: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let listing =
        std::fs::read_dir(folder).map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    let mut paths: Vec<PathBuf> = listing.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_cut_and_strings_are_not() {
        assert_eq!(strip_comment("let a = 1; // HashMap"), "let a = 1; ");
        assert_eq!(strip_comment("let a = \"ws://x\";"), "let a = \"ws://x\";");
    }

    #[test]
    fn unit_tests_do_not_count_as_code() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }\n";
        let source = Source { path: "crates/a/src/lib.rs".into(), krate: "a".into(), text: text.into() };
        assert_eq!(source.code().count(), 1);
    }
}
