//! Checks the workspace against architecture.rules.toml.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::rules::Rules;
use crate::shell::{Outcome, command, root};
use crate::source::{self, Source};

/// Lints that must be on everywhere.
const WARNED: [(&str, &str); 4] = [
    ("rust", "missing_docs"),
    ("clippy", "too_many_lines"),
    ("clippy", "allow_attributes"),
    ("clippy", "allow_attributes_without_reason"),
];
/// A function may have this many lines.
const MOST_LINES: i64 = 70;

/// What cargo knows of the workspace.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    req: String,
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
    faults.extend(check_versions(&metadata));
    faults.extend(check_lints(&manifests(&metadata)?));
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
    for name in rules.crates.keys() {
        if !metadata.packages.iter().any(|package| package.name == *name) {
            faults.push(format!("{name}: listed, but not in the workspace"));
        }
    }
    let layers = rules.crates.values().map(|rule| &rule.layer).chain(rules.from_layer.values());
    for layer in layers.filter(|layer| rules.height(layer).is_none()) {
        faults.push(format!("{layer}: no such layer"));
    }
    for home in rules.confined.values().chain(rules.confined_words.values()).flatten() {
        if !rules.crates.contains_key(home) && !source::OUTSIDE.contains(&home.as_str()) {
            faults.push(format!("{home}: something is confined to it, but it is not listed"));
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

/// One version of each: an older one beside it is for its own dependants alone.
fn check_versions(metadata: &Metadata) -> Vec<String> {
    let mut wanted = BTreeMap::new();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        for Dependency { name, req, .. } in &package.dependencies {
            let first = wanted.entry(name).or_insert(req);
            if *first != req {
                faults.push(format!("{} -> {name}: {req} here and {first} elsewhere", package.name));
            }
        }
    }
    faults
}

/// Settings that other programs check, by name.
struct Manifests {
    workspace: toml::Table,
    clippy: toml::Table,
    crates: BTreeMap<String, toml::Table>,
}

fn manifests(metadata: &Metadata) -> Result<Manifests, Vec<String>> {
    let read = |path: &Path| -> Result<toml::Table, Vec<String>> {
        let fault = |error: String| vec![format!("{}: {error}", path.display())];
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        text.parse().map_err(|error: toml::de::Error| fault(error.to_string()))
    };
    let crates = metadata.packages.iter();
    Ok(Manifests {
        workspace: read(&root().join("Cargo.toml"))?,
        clippy: read(&root().join("clippy.toml"))?,
        crates: crates
            .map(|package| Ok((package.name.clone(), read(&package.manifest_path)?)))
            .collect::<Result<_, Vec<String>>>()?,
    })
}

/// The lints that `cargo xtask lint` turns into errors are on, in every crate.
fn check_lints(manifests: &Manifests) -> Vec<String> {
    let mut faults = Vec::new();
    let set = |group: &str, lint: &str| {
        let lints = manifests.workspace.get("workspace")?.get("lints")?;
        lints.get(group)?.get(lint)?.as_str()
    };
    if set("rust", "unsafe_code") != Some("forbid") {
        faults.push("Cargo.toml: unsafe_code must be forbidden".to_owned());
    }
    for (group, lint) in WARNED {
        if !matches!(set(group, lint), Some("warn" | "deny" | "forbid")) {
            faults.push(format!("Cargo.toml: the lint {lint} must be on"));
        }
    }
    let lines = manifests.clippy.get("too-many-lines-threshold").and_then(toml::Value::as_integer);
    if lines.is_none_or(|lines| lines > MOST_LINES) {
        faults.push(format!("clippy.toml: a function may have at most {MOST_LINES} lines"));
    }
    for (name, manifest) in &manifests.crates {
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if inherits.and_then(toml::Value::as_bool) != Some(true) {
            faults.push(format!("{name}: does not take the lints of the workspace"));
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
    pure.filter(|(name, _)| {
        let is_root = |source: &&Source| source.krate == **name && source.path.ends_with("/src/lib.rs");
        let says = |root: &Source| root.text.lines().any(|line| line.trim_end() == "#![no_std]");
        !sources.iter().find(is_root).is_some_and(says)
    })
    .map(|(name, _)| format!("{name}: a pure crate must be no_std"))
    .collect()
}

/// Forbidden and confined words.
fn check_words(rules: &Rules, sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.is_product() && source.krate != "xtask") {
        let pure = rules.crates.get(&source.krate).is_some_and(|rule| rule.pure);
        for (number, line) in source.statements() {
            let line = line.as_str();
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
    let imports_all = word.rsplit_once("::").is_some_and(|(module, _)| {
        line.strip_suffix("::*").is_some_and(|path| path.starts_with("use ") && path.ends_with(module))
    });
    imports_all
        || line.match_indices(word).any(|(at, _)| {
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
                req: "^1".to_owned(),
                kind: None,
                path: inside.then(|| "somewhere".to_owned()),
            })
            .collect();
        Package { name: name.to_owned(), manifest_path: PathBuf::new(), dependencies }
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
    fn a_pure_crate_with_std_or_without_a_root_is_caught() {
        let caught = ["low: a pure crate must be no_std"];
        assert_eq!(check_purity(&rules(), &file("low", "//! Low.\n// #![no_std]\n")), caught);
        assert_eq!(check_purity(&rules(), &[]), caught);
        assert!(check_purity(&rules(), &file("low", "//! Low.\n#![no_std]\n")).is_empty());
    }

    #[test]
    fn a_rule_about_a_layer_or_a_crate_that_is_not_there_is_caught() {
        let mut rules = rules();
        rules.from_layer.insert("getrandom".to_owned(), "drivers".to_owned());
        rules.confined.insert("rmcp".to_owned(), vec!["hihg".to_owned()]);
        let metadata = Metadata { packages: vec![package("low", &[]), package("high", &[])] };
        assert_eq!(
            check_crates(&rules, &metadata),
            ["drivers: no such layer", "hihg: something is confined to it, but it is not listed"]
        );
    }

    #[test]
    fn a_second_version_of_a_dependency_is_caught() {
        let mut high = package("high", &[("nostr", false)]);
        high.dependencies[0].req = "^0.44".to_owned();
        let metadata = Metadata { packages: vec![package("low", &[("nostr", false)]), high] };
        assert_eq!(check_versions(&metadata), ["high -> nostr: ^0.44 here and ^1 elsewhere"]);
    }

    #[test]
    fn lints_that_are_off_or_not_inherited_are_caught() {
        let strict = "[workspace.lints.rust]\nunsafe_code = 'forbid'\nmissing_docs = 'warn'\n[workspace.lints.clippy]\ntoo_many_lines = 'warn'\nallow_attributes = 'warn'\nallow_attributes_without_reason = 'warn'\n";
        let check = |workspace: &str, clippy: &str, krate: &str| {
            let crates = [("low".to_owned(), krate.parse().unwrap())].into();
            let workspace = workspace.parse().unwrap();
            check_lints(&Manifests { workspace, clippy: clippy.parse().unwrap(), crates })
        };
        let (short, inherits) = ("too-many-lines-threshold = 70", "lints.workspace = true");
        assert!(check(strict, short, inherits).is_empty());
        assert_eq!(check(strict, short, "").len(), 1);
        assert_eq!(check(strict, "too-many-lines-threshold = 200", inherits).len(), 1);
        assert_eq!(check(strict, "", inherits).len(), 1);
        for lint in ["unsafe_code = 'forbid'", "missing_docs = 'warn'", "too_many_lines = 'warn'"] {
            assert_eq!(check(&strict.replace(lint, ""), short, inherits).len(), 1, "{lint}");
        }
        assert_eq!(check(&strict.replace("forbid", "deny"), short, inherits).len(), 1);
    }

    /// The rules file itself says what the house rules say, so that a line lost there is noticed.
    #[test]
    fn the_real_rules_catch_each_violation_of_the_house_rules() {
        let rules = Rules::load().unwrap();
        for (krate, line) in [
            ("contextvm-core", "async fn a() {}"),
            ("contextvm-core", "a.await;"),
            ("contextvm-crypto", "Instant::now();"),
            ("contextvm-crypto", "use std::time::SystemTime;"),
            ("contextvm-engine", "HashMap::new();"),
            ("contextvm-engine", "Mutex::new(());"),
            ("contextvm-engine", "println!();"),
            ("contextvm-engine", "eprintln!();"),
            ("contextvm-cli", "todo!();"),
            ("contextvm-cli", "dbg!(1);"),
            ("contextvm-relay", "tokio::sync::mpsc::unbounded_channel();"),
            ("contextvm-client", "use tokio::process::{Child, Command};"),
            ("contextvm-client", "use std::process::*;"),
        ] {
            let sources = file(krate, &format!("//! A file.\n{line}\n"));
            assert!(!check_words(&rules, &sources).is_empty(), "{krate}: {line}");
        }
        for (krate, dependency) in [
            ("contextvm-core", "tokio"),
            ("contextvm-engine", "tokio"),
            ("contextvm-runtime", "nostr-relay-pool"),
            ("contextvm-runtime", "rmcp"),
            ("contextvm-relay", "rmcp"),
            ("contextvm", "rmcp"),
        ] {
            let metadata = Metadata { packages: vec![package(krate, &[(dependency, false)])] };
            let faults = check_externals(&rules, &metadata);
            let named = ["confined to other crates", "not allowed below its layer"];
            assert!(
                faults.iter().any(|fault| named.iter().any(|name| fault.contains(name))),
                "{krate} -> {dependency}: {faults:?}"
            );
        }
        for (low, high) in [
            ("contextvm-core", "contextvm-crypto"),
            ("contextvm-engine", "contextvm-runtime"),
            ("contextvm-relay", "contextvm-runtime"),
            ("contextvm-runtime", "contextvm-server"),
            ("contextvm-server", "contextvm-client"),
            ("contextvm", "contextvm-cli"),
        ] {
            let metadata = Metadata { packages: vec![package(low, &[(high, true)])] };
            assert!(!check_edges(&rules, &metadata).is_empty(), "{low} -> {high}");
        }
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
