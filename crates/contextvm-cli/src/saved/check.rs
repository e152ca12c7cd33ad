//! The check of a saved server's tools while MCP hosts use it.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use contextvm::announce::{ToolPins, ToolsDiff};
use contextvm_bridge::{Judgement, ToolCheck, ToolsRefused};
use serde_json::value::RawValue;

use super::{SavedServer, pins};
use crate::output::Talk;

/// Lets pass what was pinned. The pins are read each time, so that `cvm server trust` counts at once.
#[derive(Debug)]
pub(crate) struct PinCheck {
    saved: SavedServer,
    talk: Talk,
    /// The complete list as it was last seen, or why it cannot be compared.
    latest: Mutex<Option<Result<ToolPins, String>>>,
    /// Something was pinned once: when it is gone, somebody has taken that back, and nothing is pinned anew.
    agreed: AtomicBool,
}

impl PinCheck {
    pub(crate) fn new(saved: SavedServer, talk: Talk) -> Self {
        Self { saved, talk, latest: Mutex::new(None), agreed: AtomicBool::new(false) }
    }

    fn latest(&self) -> MutexGuard<'_, Option<Result<ToolPins, String>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pinned(&self) -> Result<Option<ToolPins>, String> {
        let pinned = pins::load(&self.saved.server.key).map_err(|problem| problem.message().to_owned())?;
        if pinned.is_some() {
            self.agreed.store(true, Ordering::Relaxed);
        }
        Ok(pinned)
    }

    fn refuse_unpinned(&self) -> Judgement {
        self.refuse(format!("nothing is pinned of the tools of {}", self.saved.shown()), Vec::new())
    }

    fn refuse(&self, message: String, tools: Vec<String>) -> Judgement {
        let hint = format!("cvm server trust {}", self.saved.name);
        Judgement::Refused(ToolsRefused { message, tools, hint })
    }

    fn refuse_changed(&self, diff: &ToolsDiff, tools: Vec<String>) -> Judgement {
        let (name, summary) = (self.saved.shown(), pins::summary(diff));
        let message = format!("the tools of {name} are not those that were agreed to: {summary}");
        self.refuse(message, tools)
    }
}

impl ToolCheck for PinCheck {
    fn learn(&self, tools: &[&RawValue]) {
        let name = self.saved.shown();
        let now = ToolPins::of(tools.iter().copied());
        let now = now.map_err(|error| format!("the tools of {name} cannot be compared: {error}"));
        if let (Ok(now), Ok(None), false) = (&now, self.pinned(), self.agreed.load(Ordering::Relaxed)) {
            match pins::first(&self.saved.server.key, now) {
                // What another process has pinned meanwhile is what counts.
                Ok(false) => {}
                Ok(true) => self.talk.detail(&format!("cvm: the tools of {name} are pinned")),
                Err(problem) => self.talk.say(&format!("cvm: {}", problem.message())),
            }
        }
        *self.latest() = Some(now);
    }

    fn forget(&self) {
        *self.latest() = None;
    }

    fn judge_shown(&self, tools: &[&RawValue]) -> Judgement {
        let pinned = match self.pinned() {
            Ok(Some(pinned)) => pinned,
            Ok(None) if self.latest().is_none() => return Judgement::Unknown,
            Ok(None) => return self.refuse_unpinned(),
            Err(why) => return self.refuse(why, Vec::new()),
        };
        let shown = match ToolPins::of(tools.iter().copied()) {
            Ok(shown) => shown,
            Err(error) => {
                let why = format!("the tools of {} cannot be compared: {error}", self.saved.shown());
                return self.refuse(why, Vec::new());
            }
        };
        // What is missing may be on another page, and nobody can be misled by it.
        let diff = ToolsDiff { removed: Vec::new(), ..pinned.diff(&shown) };
        if diff.is_empty() {
            return Judgement::Fine;
        }
        let changed = diff.changed.iter().map(|change| change.name.clone());
        let tools = changed.chain(diff.added.iter().cloned()).collect();
        self.refuse_changed(&diff, tools)
    }

    fn judge_call(&self, tool: &str) -> Judgement {
        let latest = self.latest();
        let now = match latest.as_ref() {
            None => return Judgement::Unknown,
            Some(Ok(now)) => now,
            Some(Err(why)) => return self.refuse(why.clone(), Vec::new()),
        };
        match self.pinned() {
            Ok(Some(pinned)) if pinned.tool(tool) == now.tool(tool) => Judgement::Fine,
            // One that is gone is the server's to refuse.
            Ok(Some(_)) if now.tool(tool).is_none() => Judgement::Fine,
            Ok(Some(pinned)) => self.refuse_changed(&pinned.diff(now), vec![tool.to_owned()]),
            Ok(None) => self.refuse_unpinned(),
            Err(why) => self.refuse(why, Vec::new()),
        }
    }
}
