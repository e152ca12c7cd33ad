//! What a subscription of 2026-07-28 wants to hear.
use std::collections::BTreeSet;

use contextvm_core::object::{self, Edit, quote};
use contextvm_core::rewrite;
use serde_json::value::RawValue;

use crate::revision::covers;

/// Resources of one subscription.
pub(super) const URIS: usize = 256;
/// Longest name of a resource that is listened to, bytes.
const NAME: usize = 2_048;

/// What one subscription wants to hear.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    pub(super) uris: BTreeSet<String>,
}

impl Filter {
    /// The changes of lists that a server tells of.
    pub(super) fn lists(server: &RawValue) -> Self {
        let told = |part: &str| offers(server, part, "listChanged");
        Self {
            tools: told("tools"),
            prompts: told("prompts"),
            resources: told("resources"),
            uris: BTreeSet::new(),
        }
    }

    /// What of a host's wishes this server can fulfil.
    pub(super) fn read(params: Option<&RawValue>, server: &RawValue) -> Self {
        let wanted = rewrite::param(params, "notifications");
        let wish = |name: &str| wanted.and_then(|wanted| object::member(wanted, name));
        let told = Self::lists(server);
        let uris = wish("resourceSubscriptions").filter(|_| offers(server, "resources", "subscribe"));
        let uris: Vec<String> =
            uris.and_then(|uris| serde_json::from_str(uris.get()).ok()).unwrap_or_default();
        Self {
            tools: told.tools && wish("toolsListChanged").is_some_and(is_true),
            prompts: told.prompts && wish("promptsListChanged").is_some_and(is_true),
            resources: told.resources && wish("resourcesListChanged").is_some_and(is_true),
            uris: uris.into_iter().filter(|uri| is_name(uri)).take(URIS).collect(),
        }
    }

    /// Wants what another wants, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.tools |= other.tools;
        self.prompts |= other.prompts;
        self.resources |= other.resources;
        self.uris.extend(other.uris.iter().cloned());
    }

    pub(super) fn to_text(&self) -> String {
        let mut filter = Edit::new();
        for (name, wanted) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if wanted {
                filter.set(name, "true");
            }
        }
        if !self.uris.is_empty() {
            let uris: Vec<String> = self.uris.iter().map(|uri| quote(uri)).collect();
            filter.set("resourceSubscriptions", format!("[{}]", uris.join(",")));
        }
        filter.to_text()
    }

    pub(super) fn wants(&self, method: &str, params: Option<&RawValue>) -> bool {
        match method {
            "notifications/tools/list_changed" => self.tools,
            "notifications/prompts/list_changed" => self.prompts,
            "notifications/resources/list_changed" => self.resources,
            "notifications/resources/updated" => {
                let uri = rewrite::param(params, "uri").and_then(object::string);
                uri.is_some_and(|uri| self.uris.iter().any(|wanted| covers(wanted, &uri)))
            }
            _ => false,
        }
    }
}

/// Whether a resource can be listened to by this name.
pub(super) fn is_name(uri: &str) -> bool {
    !uri.is_empty() && uri.len() <= NAME
}

/// Whether a server announces a flag of one of its capabilities.
fn offers(server: &RawValue, part: &str, flag: &str) -> bool {
    let part = object::member(server, "capabilities").and_then(|all| object::member(all, part));
    part.and_then(|part| object::member(part, flag)).is_some_and(is_true)
}

fn is_true(value: &RawValue) -> bool {
    value.get() == "true"
}
