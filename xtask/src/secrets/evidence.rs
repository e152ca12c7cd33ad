//! What is searched: files, and what the system shows of processes.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::canary::Canary;

/// What was searched, and what was found.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) places: u64,
    pub(super) bytes: u64,
    pub(super) processes: u64,
    /// Where the secret was found, and in which form.
    pub(super) hits: Vec<String>,
}

impl Evidence {
    pub(super) fn search(&mut self, place: &str, data: &[u8], canary: &Canary) {
        self.places += 1;
        self.bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
        let found = canary.found_in(data);
        self.hits.extend(found.into_iter().map(|form| format!("the secret is in {place} as {form}")));
    }

    /// Searches all files below a directory, and their names, but those below `except`.
    pub(super) fn search_files(
        &mut self,
        directory: &Path,
        except: &Path,
        canary: &Canary,
    ) -> Result<(), Vec<String>> {
        let failed = |error: std::io::Error| vec![format!("{}: {error}", directory.display())];
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path == except {
                continue;
            }
            let shown = path.display().to_string();
            self.search(&format!("the name {shown}"), shown.as_bytes(), canary);
            let data = fs::symlink_metadata(&path).map_err(failed)?;
            if data.is_dir() {
                self.search_files(&path, except, canary)?;
            } else if data.is_file() {
                self.search(&shown, &fs::read(&path).map_err(failed)?, canary);
            }
        }
        Ok(())
    }

    /// Searches what everybody may see of a process and of all that it started; `given` was started with the secret in its
    /// environment by whoever runs it.
    pub(super) fn search_processes(&mut self, root: u32, given: bool, canary: &Canary) {
        for process in with_descendants(root) {
            self.processes += 1;
            for what in ["cmdline", "environ", "comm", "maps"] {
                if given && process == root && what == "environ" {
                    continue;
                }
                // It may have ended meanwhile.
                let data = fs::read(format!("/proc/{process}/{what}")).unwrap_or_default();
                self.search(&format!("{what} of a process below {root}"), &data, canary);
            }
        }
    }
}

/// A process and everything that it started.
fn with_descendants(root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(id);
        }
    }
    let (mut found, mut left) = (BTreeSet::new(), vec![root]);
    while let Some(process) = left.pop() {
        if found.insert(process) {
            left.extend(children.get(&process).into_iter().flatten());
        }
    }
    found
}
