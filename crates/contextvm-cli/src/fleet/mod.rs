//! Many servers from one file: each entry is a supervised unit under an identity of its own.
//!
//! A unit that fails stops no other one. A changed file starts, stops and restarts only what changed in it.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use contextvm::core::Printable;
use contextvm_bridge::{CancellationToken, Notice, Reporter};
use serde::Serialize;
use tokio::task::JoinSet;

pub(crate) mod board;
pub(crate) mod control;
pub(crate) mod file;
pub(crate) mod look;
pub(crate) mod plan;
mod store;
pub(crate) mod target;
mod unit;

use crate::keys::npub;
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::publication;
use board::{Board, State};
use file::Entry;
use look::Look;
use plan::Plan;
use unit::Unit;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The servers of one file.
pub(crate) struct Fleet {
    plan: Arc<Plan>,
    path: PathBuf,
    board: Board,
    talk: Talk,
    stop: CancellationToken,
    running: BTreeMap<String, Running>,
    /// The latest unit of each name, until it is gone: its successor has the same identity and waits for that.
    leaving: BTreeMap<String, CancellationToken>,
    units: JoinSet<()>,
}

/// One running unit: its entry as it was started, and how to stop it.
struct Running {
    entry: Entry,
    stop: CancellationToken,
}

/// When the file was last changed, as far as its system says.
type Stamp = Option<(SystemTime, u64)>;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    file: &'a str,
    servers: Vec<Server<'a>>,
    relays: &'a [String],
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    server: String,
}

impl Fleet {
    pub(crate) fn new(plan: Plan, path: &Path, board: Board, talk: Talk, stop: CancellationToken) -> Self {
        Self {
            plan: Arc::new(plan),
            path: path.to_owned(),
            board,
            talk,
            stop,
            running: BTreeMap::new(),
            leaving: BTreeMap::new(),
            units: JoinSet::new(),
        }
    }

    /// Runs until it is stopped; returns once every unit is gone.
    pub(crate) async fn run(mut self, out: &mut Out) -> Result<(), Problem> {
        self.check_names()?;
        let mut stamp = self.stamp();
        let entries = self.read()?;
        if entries.is_empty() {
            let problem = Problem::new(Code::ConfigInvalid, "no server of the file is left to run");
            return Err(problem.hint("look at --only and --except"));
        }
        self.warn_if_others_can_read();
        self.introduce(&entries, out)?;
        for entry in entries {
            self.start(entry);
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(_ended) = self.units.join_next(), if !self.units.is_empty() => {
                    self.leaving.retain(|_, gone| !gone.is_cancelled());
                }
                _now = look.tick() => {
                    let now = self.stamp();
                    if now != stamp {
                        stamp = now;
                        self.take_changes();
                    }
                }
            }
        }
        while self.units.join_next().await.is_some() {}
        Ok(())
    }

    /// Shows what the servers would publish, one after another; one that cannot be started does not hide the others.
    pub(crate) async fn preview(self, out: &mut Out) -> Result<(), Problem> {
        self.check_names()?;
        let (mut worst, mut outgoing) = (Ok(()), Vec::new());
        for Entry { name, target } in self.read()? {
            let before = Printable::short(&name, 60).to_string();
            let target = match target.as_ref().map(|target| self.plan.entry_target(target)) {
                Ok(Ok(Some(target))) => target,
                Ok(Ok(None)) => continue,
                Ok(Err(problem)) => {
                    self.talk.say(&format!("{before}: {}", problem.message()));
                    worst = Err(problem);
                    continue;
                }
                Err(why) => {
                    let why = format!("{before}: {}", Printable::short(why, 300));
                    worst = Err(Problem::new(Code::ConfigInvalid, why));
                    continue;
                }
            };
            let look = Look { target, keys: self.plan.identity(&name)?, unit: Some(name) };
            match Box::pin(look.events(&self.plan, self.talk, &self.stop)).await {
                Ok(events) => outgoing.extend(events),
                Err(problem) if problem.is(Code::Interrupted) => return Err(problem),
                Err(problem) => {
                    self.talk.say(&format!("{before}: {}", problem.message()));
                    worst = Err(problem);
                }
            }
        }
        publication::show(&outgoing, out)?;
        worst
    }

    /// Says which server has which key.
    fn introduce(&self, entries: &[Entry], out: &mut Out) -> Result<(), Problem> {
        let mut servers = Vec::new();
        for Entry { name, .. } in entries {
            let server = npub(&self.plan.identity(name)?.public_key());
            servers.push(Server { name, server });
        }
        let shown = self.path.to_string_lossy();
        self.talk.headline(&format!("{} servers of {}", servers.len(), Printable(&shown)));
        for Server { name, server } in &servers {
            self.talk.say(&format!("  {server}  {}", Printable::short(name, 60)));
        }
        let public = if self.plan.options.announce {
            "yes: each announces itself under its own key"
        } else {
            "no (add --announce to be found)"
        };
        self.talk.say(&format!("  public    {public}"));
        self.talk.say("  status    cvm ctl status");
        if !out.json {
            return Ok(());
        }
        let relays = &self.plan.global.relays;
        out.document(&Document { schema: "cvm.serve.from/1", file: &shown, servers, relays })
    }

    fn start(&mut self, entry: Entry) {
        let (stop, gone) = (self.stop.child_token(), CancellationToken::new());
        let before = self.leaving.insert(entry.name.clone(), gone.clone());
        self.running.insert(entry.name.clone(), Running { entry: entry.clone(), stop: stop.clone() });
        let unit =
            Unit { plan: Arc::clone(&self.plan), entry, board: self.board.clone(), talk: self.talk, stop };
        let gone = gone.drop_guard();
        self.units.spawn(async move {
            let _gone = gone;
            if let Some(before) = before {
                before.cancelled().await;
            }
            unit.run().await;
        });
    }

    fn stamp(&self) -> Stamp {
        let data = std::fs::metadata(&self.path).ok()?;
        Some((data.modified().ok()?, data.len()))
    }

    /// Reads the entries that are to run.
    fn read(&self) -> Result<Vec<Entry>, Problem> {
        let mut entries = file::read(&self.path, &|name| std::env::var(name).ok())?;
        let options = &self.plan.options;
        entries.retain(|entry| {
            (options.only.is_empty() || options.only.contains(&entry.name))
                && !options.except.contains(&entry.name)
        });
        Ok(entries)
    }

    /// Refuses names on the command line that the file does not have: a typing error would run what was to be left out.
    fn check_names(&self) -> Result<(), Problem> {
        let entries = file::read(&self.path, &|_| None)?;
        let options = &self.plan.options;
        let known = |name: &&String| entries.iter().any(|entry| entry.name == **name);
        match options.only.iter().chain(&options.except).find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let shown = Printable::short(name, 60);
                let problem =
                    Problem::new(Code::InvalidValue, format!("the file names no server \"{shown}\""));
                Err(problem.hint("look at --only and --except"))
            }
        }
    }

    /// Starts and stops what the file says anew; a file that cannot be read changes nothing.
    fn take_changes(&mut self) {
        let entries = match self.read() {
            Ok(entries) => entries,
            Err(problem) => {
                return self.talk.say(&format!("the changed file is not used: {}", problem.message()));
            }
        };
        self.running.retain(|name, unit| {
            let stays = entries.iter().any(|entry| entry.name == *name);
            if !stays {
                self.talk.say(&format!("{}: removed from the file", Printable::short(name, 60)));
                unit.stop.cancel();
            }
            stays
        });
        for entry in entries {
            let what = match self.running.get(&entry.name) {
                Some(unit) if unit.entry == entry => continue,
                Some(unit) => {
                    unit.stop.cancel();
                    "changed in the file"
                }
                None => "new in the file",
            };
            self.talk.say(&format!("{}: {what}", Printable::short(&entry.name, 60)));
            self.start(entry);
        }
    }

    #[cfg(unix)]
    fn warn_if_others_can_read(&self) {
        use std::os::unix::fs::MetadataExt as _;
        let open = std::fs::metadata(&self.path).is_ok_and(|data| data.mode() & 0o044 != 0);
        if open {
            let shown = self.path.to_string_lossy();
            self.talk
                .say(&format!("{} can be read by others and may hold secrets: chmod 600", Printable(&shown)));
        }
    }

    #[cfg(not(unix))]
    fn warn_if_others_can_read(&self) {}
}

/// Returns who hears of a gateway's changes. `noted` is for a server that is one process: the name of its unit, whose
/// state is that of the process.
pub(crate) fn reporter(noted: Option<(Board, String)>, before: String, talk: Talk) -> Reporter {
    Reporter::new(move |notice| {
        if let Some((board, name)) = &noted {
            note(board, name, notice);
        }
        let line = format!("{before}{notice}");
        let usual = matches!(notice, Notice::ChildStarted { .. } | Notice::ChildReady);
        if usual { talk.detail(&line) } else { talk.say(&line) }
    })
}

/// Notes what a gateway reports of its one process.
fn note(board: &Board, name: &str, notice: &Notice) {
    board.change(name, |unit| {
        if let Notice::ChildStarted { pid } = notice {
            unit.pid = Some(*pid);
        } else if let Notice::ChildExited { how, restart, .. } = notice {
            unit.pid = None;
            unit.why = Some(how.clone());
            unit.restarts = restart.map_or(unit.restarts, |(_, count)| count);
            unit.state = if restart.is_some() { State::Backoff } else { State::Failed };
        } else if *notice == Notice::ChildReady && unit.state == State::Backoff {
            // The first time it is not on Nostr yet, and stays what it was.
            unit.state = State::Ready;
        }
    });
}
