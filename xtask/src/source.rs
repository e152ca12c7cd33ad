//! Rust sources as lists of lines, with tests told apart from the rest.
use std::path::{Path, PathBuf};

use crate::shell::root;

/// Folders whose programs stand outside the workspace but follow its manners.
pub(crate) const OUTSIDE: [&str; 2] = ["fuzz", "interop"];

/// One source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root of the workspace.
    pub(crate) path: String,
    /// The crate, or folder outside the workspace, that it belongs to.
    pub(crate) krate: String,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    /// Whether the file is library or binary code, not a test, bench or example.
    pub(crate) fn is_product(&self) -> bool {
        self.path.contains("/src/") && !self.path.ends_with("tests.rs") && !self.path.contains("/tests/")
    }

    /// Returns the lines that are built without tests, comments cut off.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut test = None;
        let numbered = self.text.lines().enumerate();
        numbered.filter_map(move |(index, line)| {
            let here = test.take().map_or_else(|| Test::begins(line), Some);
            test = here.and_then(|here| here.goes_on(line));
            here.is_none().then(|| (index + 1, strip_comment(line)))
        })
    }

    /// Returns the same as statements as far as `use` goes: one path for each name that is imported.
    pub(crate) fn statements(&self) -> Vec<(usize, String)> {
        let mut statements = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in self.code() {
            let word = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let (first, text) = match open.take() {
                Some((first, text)) => (first, format!("{text} {}", line.trim())),
                None if word.starts_with("use ") => (number, word.to_owned()),
                None => {
                    statements.push((number, line.to_owned()));
                    continue;
                }
            };
            if text.ends_with(';') {
                statements.extend(imported(text.trim_end_matches(';')).into_iter().map(|path| (first, path)));
            } else {
                open = Some((first, text));
            }
        }
        statements
    }
}

/// What is left out because it is built for tests only: a line of it, as deep as its attribute stands.
#[derive(Clone, Copy)]
struct Test {
    depth: usize,
    begun: bool,
}

impl Test {
    fn begins(line: &str) -> Option<Self> {
        let depth = line.len() - line.trim_start().len();
        (line.trim() == "#[cfg(test)]").then_some(Self { depth, begun: false })
    }

    /// Whether the item goes on after this line.
    fn goes_on(mut self, line: &str) -> Option<Self> {
        if line.trim_start().starts_with("#[") && !self.begun {
            return Some(self);
        }
        let closes = line.trim_end() == format!("{:depth$}}}", "", depth = self.depth);
        let is_short = !self.begun && line.trim_end().ends_with(';');
        self.begun = true;
        (!closes && !is_short).then_some(self)
    }
}

/// Spells out what a `use` imports: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn imported(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let inside = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut from, mut parts) = (0_usize, 0, Vec::new());
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.extend(inside.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(inside.get(from..));
    let named = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    named.flat_map(imported).map(|part| format!("{}{part}", before.trim_start())).collect()
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

/// Reads every Rust file of the repository.
pub(crate) fn all() -> Result<Vec<Source>, Vec<String>> {
    let mut sources = Vec::new();
    let crates = root().join("crates");
    for entry in read_dir(&crates)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        collect(&entry, &name, &mut sources)?;
    }
    collect(&root().join("xtask"), "xtask", &mut sources)?;
    for folder in OUTSIDE {
        collect(&root().join(folder), folder, &mut sources)?;
    }
    Ok(sources)
}

fn collect(folder: &Path, krate: &str, into: &mut Vec<Source>) -> Result<(), Vec<String>> {
    for path in read_dir(folder)? {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "node_modules") {
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

    fn source(text: &str) -> Source {
        Source { path: "crates/a/src/lib.rs".into(), krate: "a".into(), text: text.into() }
    }

    #[test]
    fn comments_are_cut_and_strings_are_not() {
        assert_eq!(strip_comment("let a = 1; // HashMap"), "let a = 1; ");
        assert_eq!(strip_comment("let a = \"ws://x\";"), "let a = \"ws://x\";");
    }

    #[test]
    fn what_is_built_for_tests_alone_does_not_count_and_what_follows_it_does() {
        let text = "fn a() {}\n#[cfg(test)]\nuse std::collections::HashMap;\nfn b() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n    fn c() {\n    }\n}\nfn d() {}\n";
        let source = source(text);
        let lines: Vec<_> = source.code().collect();
        assert_eq!(lines, [(1, "fn a() {}"), (4, "fn b() {}"), (11, "fn d() {}")]);
    }

    #[test]
    fn a_use_is_spelled_out_over_lines_and_braces() {
        let text = "pub use std::{\n    process::{Child, Command},\n    io,\n};\nlet x = 1;\n";
        let paths: Vec<_> = source(text).statements();
        let expected = [
            (1, "use std::process::Child"),
            (1, "use std::process::Command"),
            (1, "use std::io"),
            (5, "let x = 1;"),
        ];
        assert_eq!(paths, expected.map(|(number, text)| (number, text.to_owned())));
    }
}
