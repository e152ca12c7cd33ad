//! C8: whoever speaks encrypted only is never spoken to in plaintext, and never speaks so.
use super::known::Known;
use super::{Check, Checker, Verdict};
use crate::trace::{Entry, What};

/// Looks at every event that an honest host signs.
#[derive(Debug, Default)]
pub(super) struct Protections;

impl Checker for Protections {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        let What::Signed { id, to, encrypted: false, .. } = &entry.what else { return };
        let Some(speaker) = known.person(entry.host).filter(|person| person.honest) else { return };
        let peer = known.host(to);
        if speaker.encrypted {
            verdict.broken(
                Check::C8,
                entry,
                format!("{id} leaves in plaintext, and its author never does so"),
            );
        } else if peer.and_then(|peer| known.person(peer)).is_some_and(|peer| peer.encrypted) {
            verdict.broken(
                Check::C8,
                entry,
                format!("{id} goes in plaintext to {peer:?}, which never does so"),
            );
        }
    }
}
