//! What a run of the suite found, and what a second run found less of.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Checks that need not be made in a tunnel, because it hides what they look at.
const HIDDEN: [(&str, &str); 1] = [(
    "server-sse-disconnect-resume",
    "the gateway resumes a stream that the server breaks off, so the caller's does not break",
)];

/// The checks of one run, by scenario.
pub(super) struct Run(BTreeMap<String, BTreeMap<Key, Check>>);

/// The id and name of a check, and which occurrence of them in its scenario.
type Key = (String, String, usize);

#[derive(Deserialize)]
struct Check {
    id: String,
    name: String,
    status: Status,
    #[serde(rename = "errorMessage")]
    error: Option<String>,
}

/// From worst to best; a check that was not made is as good as a skipped one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Failure,
    Warning,
    #[serde(alias = "INFO")]
    Skipped,
    Success,
}

impl Run {
    /// Reads `PREFIX-SCENARIO-TIMESTAMP/checks.json` of every scenario below a directory.
    pub(super) fn read(directory: &Path, prefix: &str) -> Result<Self, Vec<String>> {
        let wrong = |error: &dyn std::fmt::Display| vec![format!("{}: {error}", directory.display())];
        let mut scenarios = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(|error| wrong(&error))? {
            let entry = entry.map_err(|error| wrong(&error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = name.strip_prefix(prefix).unwrap_or(&name);
            // -2026-07-28T10-00-00-000Z
            let scenario = name.get(..name.len().saturating_sub(25)).unwrap_or(name);
            let text = fs::read_to_string(entry.path().join("checks.json")).map_err(|error| wrong(&error))?;
            let checks: Vec<Check> = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
            scenarios.insert(scenario.to_owned(), keyed(checks));
        }
        if scenarios.is_empty() { Err(wrong(&"no results")) } else { Ok(Self(scenarios)) }
    }

    /// How many scenarios ran, and how many of their checks passed.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().map(passed).sum())
    }

    /// The checks that this run fails.
    pub(super) fn failures(&self) -> Vec<String> {
        let failed = |(scenario, checks): (&String, &BTreeMap<Key, Check>)| {
            let failed = checks.values().filter(|check| check.status == Status::Failure);
            failed.map(|check| check.describe(scenario, None)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(failed).collect()
    }

    /// The checks that come out worse in `other`.
    pub(super) fn lost_in(&self, other: &Self) -> Vec<String> {
        let none = BTreeMap::new();
        let mut lost = Vec::new();
        for scenario in self.0.keys().chain(other.0.keys().filter(|name| !self.0.contains_key(*name))) {
            let [ours, theirs] = [self, other].map(|run| run.0.get(scenario).unwrap_or(&none));
            for (key, check) in theirs {
                let was = ours.get(key).map_or(Status::Skipped, |check| check.status);
                if check.status < was && !(check.status == Status::Skipped && hidden(&check.id).is_some()) {
                    lost.push(check.describe(scenario, Some(was)));
                }
            }
            let missing = ours
                .iter()
                .filter(|(key, check)| check.status == Status::Success && !theirs.contains_key(*key));
            lost.extend(missing.map(|(_, check)| format!("{scenario}: {}: not made", check.id)));
        }
        lost
    }

    /// How many checks each scenario passed in both runs.
    pub(super) fn table(&self, other: &Self) -> String {
        let mut table = String::new();
        for (scenario, checks) in &self.0 {
            let theirs = other.0.get(scenario).map_or(0, passed);
            // Writing to a string cannot fail.
            let _written = writeln!(table, "  {scenario:<48} {:>6} {theirs:>6}", passed(checks));
            for check in checks.values().filter(|check| check.status == Status::Success) {
                let _written = hidden(&check.id).map(|why| writeln!(table, "    {}: {why}", check.id));
            }
        }
        table
    }
}

impl Check {
    fn describe(&self, scenario: &str, was: Option<Status>) -> String {
        let error = self.error.as_deref().unwrap_or("");
        let was = was.map_or_else(String::new, |was| format!("{was:?} -> "));
        format!("{scenario}: {} ({}): {was}{:?} {error}", self.id, self.name, self.status)
    }
}

fn keyed(checks: Vec<Check>) -> BTreeMap<Key, Check> {
    let mut keyed = BTreeMap::new();
    for check in checks {
        let (id, name) = (check.id.clone(), check.name.clone());
        let same = |(key, _): &(&Key, &Check)| key.0 == id && key.1 == name;
        let nth = keyed.iter().filter(same).count();
        keyed.insert((id, name, nth), check);
    }
    keyed
}

fn hidden(id: &str) -> Option<&'static str> {
    HIDDEN.iter().find(|(hidden, _)| *hidden == id).map(|(_, why)| *why)
}

fn passed(checks: &BTreeMap<Key, Check>) -> usize {
    checks.values().filter(|check| check.status == Status::Success).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(checks: &str) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let scenario = directory.path().join("server-ping-2026-07-28T10-00-00-000Z");
        fs::create_dir(&scenario).unwrap();
        fs::write(scenario.join("checks.json"), checks).unwrap();
        Run::read(directory.path(), "server-").unwrap()
    }

    #[test]
    fn a_check_that_fails_or_is_not_made_is_lost() {
        let direct =
            run(r#"[{"id":"a","name":"A","status":"SUCCESS"},{"id":"a","name":"A","status":"SUCCESS"},
            {"id":"b","name":"B","status":"INFO"}]"#);
        let tunnel = run(r#"[{"id":"a","name":"A","status":"FAILURE","errorMessage":"why"}]"#);
        assert_eq!(direct.count(), (1, 2));
        assert_eq!(direct.lost_in(&tunnel), ["ping: a (A): Success -> Failure why", "ping: a: not made"]);
        assert!(direct.lost_in(&direct).is_empty());
        assert!(tunnel.lost_in(&direct).is_empty());
    }

    #[test]
    fn a_check_of_something_hidden_may_be_left_out_but_not_fail() {
        let [passes, left_out, fails] = ["SUCCESS", "INFO", "FAILURE"].map(|status| {
            run(&format!(r#"[{{"id":"server-sse-disconnect-resume","name":"R","status":"{status}"}}]"#))
        });
        assert!(passes.lost_in(&left_out).is_empty());
        assert_eq!(passes.lost_in(&fails).len(), 1);
    }

    #[test]
    fn a_warning_that_the_direct_run_does_not_have_is_lost() {
        let direct = run(r#"[{"id":"b","name":"B","status":"SKIPPED"}]"#);
        let tunnel =
            run(r#"[{"id":"b","name":"B","status":"INFO"},{"id":"c","name":"C","status":"WARNING"}]"#);
        assert_eq!(direct.lost_in(&tunnel), ["ping: c (C): Skipped -> Warning "]);
    }
}
