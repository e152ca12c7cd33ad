//! Checks the workspace against architecture.rules.toml.
use serde::Deserialize;

use crate::rules::Rules;
use crate::shell::{Outcome, command};
use crate::source::{self, Source};

/// What cargo knows of the workspace.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
    path: Option<String>,
}

impl Dependency {
    /// The name that this workspace uses for it.
    fn known_as(&self) -> &str {
        self.rename.as_deref().unwrap_or(&self.name)
    }
}

/// Runs every check.
pub(crate) fn run() -> Outcome {
    let rules = Rules::load()?;
    let metadata = metadata()?;
    let sources = source::all()?;
    let mut faults = check_crates(&rules, &metadata);
    faults.extend(check_edges(&rules, &metadata));
    faults.extend(check_externals(&rules, &metadata));
    faults.extend(check_purity(&rules, &sources));
    faults.extend(check_words(&rules, &sources));
    if faults.is_empty() {
        println!("arch: {} crates, {} files, no violation", metadata.packages.len(), sources.len());
        Ok(())
    } else {
        Err(faults)
    }
}

fn metadata() -> Result<Metadata, Vec<String>> {
    let output = command("cargo", &["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .map_err(|error| vec![format!("cargo metadata: {error}")])?;
    serde_json::from_slice(&output.stdout).map_err(|error| vec![format!("cargo metadata: {error}")])
}

/// Every crate is listed, and nothing else is.
fn check_crates(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        if !rules.crates.contains_key(&package.name) {
            faults.push(format!("{}: not listed in architecture.rules.toml", package.name));
        }
    }
    for (name, rule) in &rules.crates {
        if !metadata.packages.iter().any(|package| package.name == *name) {
            faults.push(format!("{name}: listed, but not in the workspace"));
        }
        if rules.height(&rule.layer).is_none() {
            faults.push(format!("{name}: unknown layer {}", rule.layer));
        }
    }
    faults
}

/// Every edge inside the workspace is listed, and none points upward.
fn check_edges(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for (package, rule) in listed(rules, metadata) {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            if dependency.kind.as_deref() == Some("dev") {
                continue;
            }
            if !rule.uses.contains(&dependency.name) {
                faults.push(format!("{} -> {}: edge not listed", package.name, dependency.name));
            }
            let upward = rules.crates.get(&dependency.name).is_some_and(|other| {
                rules.height(&other.layer).unwrap_or(usize::MAX) > rules.height(&rule.layer).unwrap_or(0)
            });
            if upward {
                faults.push(format!("{} -> {}: edge points upward", package.name, dependency.name));
            }
        }
    }
    faults
}

/// Every dependency outside the workspace is listed with a reason, confined ones stay home, layers hold.
fn check_externals(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for (package, rule) in listed(rules, metadata) {
        let external = package.dependencies.iter().filter(|dependency| dependency.path.is_none());
        for dependency in external.filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
            let name = dependency.known_as();
            match rule.external.get(name) {
                None => faults.push(format!("{} -> {name}: dependency not listed", package.name)),
                Some(reason) if reason.trim().is_empty() => {
                    faults.push(format!("{} -> {name}: no reason given", package.name));
                }
                Some(_) => {}
            }
            if rules.confined.get(name).is_some_and(|home| !home.contains(&package.name)) {
                faults.push(format!("{} -> {name}: confined to other crates", package.name));
            }
            let floor = rules.from_layer.get(name).and_then(|layer| rules.height(layer)).unwrap_or(0);
            if rules.height(&rule.layer).unwrap_or(0) < floor {
                faults.push(format!("{} -> {name}: not allowed below its layer", package.name));
            }
        }
    }
    faults
}

fn listed<'a>(
    rules: &'a Rules,
    metadata: &'a Metadata,
) -> impl Iterator<Item = (&'a Package, &'a crate::rules::CrateRule)> {
    metadata.packages.iter().filter_map(|package| rules.crates.get(&package.name).map(|rule| (package, rule)))
}

/// Pure crates say `no_std`.
fn check_purity(rules: &Rules, sources: &[Source]) -> Vec<String> {
    let pure = rules.crates.iter().filter(|(_, rule)| rule.pure);
    pure.filter_map(|(name, _)| {
        let root =
            sources.iter().find(|source| source.krate == *name && source.path.ends_with("/src/lib.rs"))?;
        let says = root.text.lines().any(|line| line.trim() == "#![no_std]");
        (!says).then(|| format!("{}: a pure crate must be no_std", root.path))
    })
    .collect()
}

/// Forbidden and confined words.
fn check_words(rules: &Rules, sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.is_product() && source.krate != "xtask") {
        let pure = rules.crates.get(&source.krate).is_some_and(|rule| rule.pure);
        for (number, line) in source.code() {
            let mut words: Vec<&String> = rules.forbidden.everywhere.iter().collect();
            if pure {
                words.extend(&rules.forbidden.pure);
            }
            for word in words.into_iter().filter(|word| speaks(line, word)) {
                faults.push(format!("{}:{number}: {word} is forbidden here", source.path));
            }
            for (word, homes) in &rules.confined_words {
                if speaks(line, word) && !homes.contains(&source.krate) {
                    faults.push(format!("{}:{number}: {word} belongs to {}", source.path, homes.join(", ")));
                }
            }
        }
    }
    faults
}

/// Whether a line uses a word, not merely a longer one that begins with it.
fn speaks(line: &str, word: &str) -> bool {
    let open = word.ends_with(|last: char| !last.is_alphanumeric());
    line.match_indices(word).any(|(at, _)| {
        let next = line.get(at + word.len()..).and_then(|rest| rest.chars().next());
        open || !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str(
            r#"
            layers = ["words", "machine", "driver"]
            [crates.low]
            layer = "words"
            pure = true
            uses = []
            external = { serde = "parsing" }
            [crates.high]
            layer = "driver"
            uses = ["low"]
            external = { pool = "sockets", tokio = "" }
            [confined]
            pool = ["high"]
            [from_layer]
            tokio = "driver"
            [forbidden]
            everywhere = ["unbounded_channel"]
            pure = ["HashMap"]
            [confined_words]
            "process::Command" = ["high"]
            "#,
        )
        .unwrap()
    }

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, inside)| Dependency {
                name: (*name).to_owned(),
                rename: None,
                kind: None,
                path: inside.then(|| "somewhere".to_owned()),
            })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    fn file(krate: &str, text: &str) -> Vec<Source> {
        vec![Source {
            path: format!("crates/{krate}/src/lib.rs"),
            krate: krate.to_owned(),
            text: text.to_owned(),
        }]
    }

    #[test]
    fn the_workspace_itself_keeps_its_rules() {
        run().unwrap();
    }

    #[test]
    fn an_unlisted_crate_is_caught() {
        let metadata =
            Metadata { packages: vec![package("low", &[]), package("high", &[]), package("new", &[])] };
        assert_eq!(check_crates(&rules(), &metadata), ["new: not listed in architecture.rules.toml"]);
    }

    #[test]
    fn a_listed_crate_that_does_not_exist_is_caught() {
        let metadata = Metadata { packages: vec![package("low", &[])] };
        assert_eq!(check_crates(&rules(), &metadata), ["high: listed, but not in the workspace"]);
    }

    #[test]
    fn an_edge_upward_is_caught() {
        let metadata = Metadata { packages: vec![package("low", &[("high", true)])] };
        let faults = check_edges(&rules(), &metadata);
        assert_eq!(faults, ["low -> high: edge not listed", "low -> high: edge points upward"]);
    }

    #[test]
    fn a_dependency_without_a_line_is_caught() {
        let metadata = Metadata { packages: vec![package("high", &[("left-pad", false)])] };
        assert_eq!(check_externals(&rules(), &metadata), ["high -> left-pad: dependency not listed"]);
    }

    #[test]
    fn a_dependency_without_a_reason_is_caught() {
        let metadata = Metadata { packages: vec![package("high", &[("tokio", false)])] };
        assert_eq!(check_externals(&rules(), &metadata), ["high -> tokio: no reason given"]);
    }

    #[test]
    fn a_confined_dependency_elsewhere_and_a_low_tokio_are_caught() {
        let metadata = Metadata { packages: vec![package("low", &[("pool", false), ("tokio", false)])] };
        let faults = check_externals(&rules(), &metadata);
        assert!(faults.contains(&"low -> pool: confined to other crates".to_owned()), "{faults:?}");
        assert!(faults.contains(&"low -> tokio: not allowed below its layer".to_owned()), "{faults:?}");
    }

    #[test]
    fn a_pure_crate_with_std_is_caught() {
        let faults = check_purity(&rules(), &file("low", "//! Low.\nextern crate alloc;\n"));
        assert_eq!(faults, ["crates/low/src/lib.rs: a pure crate must be no_std"]);
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert!(speaks("x.await;", ".await"));
        assert!(!speaks("x.awaiting;", ".await"));
        assert!(speaks("a.await.awaiting", ".await"));
    }

    #[test]
    fn forbidden_and_confined_words_are_caught_with_their_line() {
        let text = "//! Low.\nuse std::collections::HashMap;\nlet a = unbounded_channel();\nprocess::Command::new(a);\n";
        let faults = check_words(&rules(), &file("low", text));
        assert_eq!(
            faults,
            [
                "crates/low/src/lib.rs:2: HashMap is forbidden here",
                "crates/low/src/lib.rs:3: unbounded_channel is forbidden here",
                "crates/low/src/lib.rs:4: process::Command belongs to high",
            ]
        );
    }
}
