//! Requests of the server that the application has not answered yet.
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use contextvm_core::Mono;
use nostr::event::EventId;
use serde_json::value::RawValue;

/// One request of the server.
#[derive(Debug)]
pub(super) struct Question {
    /// Inner id of the asking event: what the answer's `e` tag names.
    pub(super) event: EventId,
    /// The server's id, in its own JSON text.
    pub(super) id: Box<RawValue>,
    /// The server's id in comparable form.
    id_form: String,
    until: Mono,
}

/// Open requests of the server, keyed by the id that the application saw.
#[derive(Debug, Default)]
pub(super) struct Asked {
    open: BTreeMap<String, Question>,
}

impl Asked {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether an open request already uses this id.
    pub(super) fn has(&self, form: &str) -> bool {
        self.open.contains_key(form)
    }

    /// Registers a request; `shown` is the comparable form of the id that the application will see.
    pub(super) fn insert(
        &mut self,
        shown: String,
        event: EventId,
        id: Box<RawValue>,
        id_form: String,
        until: Mono,
    ) {
        self.open.insert(shown, Question { event, id, id_form, until });
    }

    /// Takes the request that the application answers.
    pub(super) fn take(&mut self, shown: &str) -> Option<Question> {
        self.open.remove(shown)
    }

    /// Takes the newest request with the server's own id; returns the form that the application saw.
    pub(super) fn take_by_server_id(&mut self, id_form: &str) -> Option<String> {
        let found = self.open.iter().filter(|(_, question)| question.id_form == id_form);
        let shown = found.max_by_key(|(_, question)| question.until).map(|(shown, _)| shown.clone())?;
        self.open.remove(&shown);
        Some(shown)
    }

    /// Forgets what the application did not answer in time.
    pub(super) fn expire(&mut self, now: Mono) {
        self.open.retain(|_, question| question.until > now);
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        self.open.values().map(|question| question.until).min()
    }
}
