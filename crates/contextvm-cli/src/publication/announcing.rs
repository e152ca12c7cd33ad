//! A server that announces itself: begun, watched, previewed and taken back.
use std::time::Duration;

use contextvm::announce::SchemaNote;
use contextvm::core::Printable;
use contextvm::server::announce::{
    AnnounceTargets, Announced, AnnouncingError, DeleteReport, Failure, Preview,
};
use contextvm::server::{AnnounceOptions, AnnounceStatus, Announcing, ServerHandle};

use nostr::event::EventId;
use tokio::time::timeout;

use super::{Outgoing, Told, options, what};
use crate::args::{Global, Publication};
use crate::finding::words::count;
use crate::problem::{Code, Problem};

/// How long the end of a server may take for its announcements to be deleted.
const FAREWELL: Duration = Duration::from_secs(10);

/// Returns what the library is told; `relays` are those that callers are to be told about.
pub(crate) fn announce_options(
    publication: &Publication,
    global: &Global,
    relays: Option<&[String]>,
) -> Result<AnnounceOptions, Problem> {
    let mut options = AnnounceOptions {
        relay_list: publication.no_relay_list.then_some(false),
        relays: relays.map(<[String]>::to_vec),
        bootstrap: options::bootstrap(&publication.bootstrap)?,
        profile: options::profile(publication),
        ..AnnounceOptions::default()
    };
    if let Some(timeout) = global.timeout {
        options.deadline = timeout;
    }
    Ok(options)
}

/// Turns what the library found wrong into our form.
pub(crate) fn failed(error: &AnnouncingError) -> Problem {
    match error {
        AnnouncingError::NoRelays => Problem::new(Code::MissingArgument, error.to_string())
            .hint("name one: --relay wss://...   or --bootstrap default"),
        AnnouncingError::RelayUrl(_) => {
            Problem::new(Code::InvalidValue, error.to_string()).hint("--relay wss://...")
        }
        AnnouncingError::Relays(_) | AnnouncingError::Host(_) | AnnouncingError::Server(_) | _ => {
            Problem::internal(error.to_string())
        }
    }
}

/// Begins to announce a server that serves.
pub(crate) fn begin(handle: &ServerHandle, options: AnnounceOptions) -> Result<Announcing, Problem> {
    handle.announce(options).map_err(|error| failed(&error))
}

/// Signs what would be published, and sends nothing.
pub(crate) async fn preview(
    handle: &ServerHandle,
    options: AnnounceOptions,
) -> Result<(Vec<Outgoing>, Vec<String>), Problem> {
    let preview = handle.preview(options).await.map_err(|error| failed(&error))?;
    let Preview { events, targets, failures, notes, .. } = preview;
    let relays: Vec<String> = targets.all().iter().map(ToString::to_string).collect();
    let outgoing = events.into_iter().map(|event| Outgoing::new(event, relays.clone()));
    let failures = failures.iter().map(unannounced);
    let notes = notes.iter().map(super::note);
    Ok((outgoing.collect(), failures.chain(notes).collect()))
}

/// Says where a server is about to be announced.
pub(crate) fn intent(targets: &AnnounceTargets) -> String {
    let all = targets.all();
    let shown: Vec<String> = all.iter().take(3).map(|url| Printable(url.as_str()).to_string()).collect();
    let more = all.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join("  "))
}

/// What has been said of an announcing server so far, so that everything is said once.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    events: Vec<(EventId, bool)>,
    failure: Option<Failure>,
    note: Option<SchemaNote>,
}

impl Teller {
    /// Says what is new in a status, a line each.
    pub(crate) fn lines(&mut self, status: &AnnounceStatus) -> Vec<String> {
        let mut lines = Vec::new();
        for announced in status.events.iter().filter(|announced| announced.sent_at.is_some()) {
            let now = (announced.event.id, announced.is_taken());
            if !self.events.contains(&now) {
                self.events.retain(|(id, _)| *id != announced.event.id);
                self.events.push(now);
                lines.extend(told(announced));
            }
        }
        let known: Vec<_> = status.events.iter().map(|announced| announced.event.id).collect();
        self.events.retain(|(id, _)| known.contains(id));
        for failure in news(&status.failures, &mut self.failure) {
            lines.push(unannounced(failure));
        }
        lines.extend(news(&status.notes, &mut self.note).iter().map(super::note));
        lines
    }
}

/// Returns what a bounded list has behind the last entry that was told, and remembers its end.
fn news<'a, T: Clone + PartialEq>(list: &'a [T], told: &mut Option<T>) -> &'a [T] {
    let after = list.iter().rposition(|entry| Some(entry) == told.as_ref()).map_or(0, |at| at + 1);
    *told = list.last().cloned();
    list.get(after..).unwrap_or_default()
}

/// Says what cannot be announced, in words that are safe to print.
pub(crate) fn unannounced(failure: &Failure) -> String {
    format!("not announced: {}", Printable::short(&failure.error.to_string(), 300))
}

/// Says what relays made of one event.
fn told(announced: &Announced) -> Vec<String> {
    let all = announced.per_relay.len();
    let taken = announced.per_relay.iter().filter(|word| word.outcome.is_success()).count();
    let verb = if announced.is_deletion() { "deleted" } else { "announced" };
    let mut lines = vec![format!("{verb}: {} on {taken} of {}", what(announced.about), count(all, "relay"))];
    for word in announced.per_relay.iter().map(Told::from).filter(|word| !word.accepted) {
        let why = word.reason.as_deref().unwrap_or_default();
        lines.push(format!("  {}   {why}", Printable(&word.relay)));
    }
    lines
}

/// Says what a server has published and on how many relays, until the server ends.
pub(crate) async fn tell(announcing: &mut Announcing, say: impl Fn(&str)) {
    let mut teller = Teller::default();
    let mut status = announcing.status();
    loop {
        // Until it is settled relays are still being asked, and every line would be said twice.
        if status.settled {
            teller.lines(&status).iter().for_each(|line| say(line));
        }
        match announcing.changed().await {
            Ok(changed) => status = changed,
            Err(_over) => return,
        }
    }
}

/// Takes everything back that was published, and says how that went.
pub(crate) async fn withdraw(announcing: Announcing, say: impl Fn(&str)) {
    let withdrawn = match timeout(FAREWELL, announcing.withdraw("Service offline")).await {
        Ok(withdrawn) => withdrawn,
        Err(_late) => return say("the relays take too long; announcements may be left on them"),
    };
    match withdrawn {
        Ok(report) => deletion_lines(&report).iter().for_each(|line| say(line)),
        Err(error) => say(&format!("the announcements were not deleted: {error}")),
    }
}

/// Says what became of a deletion.
pub(crate) fn deletion_lines(report: &DeleteReport) -> Vec<String> {
    let mut lines = Vec::new();
    for deleted in &report.deleted {
        let all = deleted.per_relay.len();
        let taken = deleted.per_relay.iter().filter(|word| word.outcome.is_success()).count();
        lines.push(format!("deleted: {} on {taken} of {}", what(deleted.kind), count(all, "relay")));
    }
    if report.deleted.is_empty() {
        lines.push("nothing was found that could be deleted".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_in_a_bounded_list_is_found_also_when_its_beginning_is_lost() {
        let mut told = None;
        assert_eq!(news(&[1, 2], &mut told), [1, 2]);
        assert_eq!(news(&[1, 2], &mut told), [0; 0]);
        assert_eq!(news(&[2, 3, 4], &mut told), [3, 4]);
        assert_eq!(news(&[7, 8, 9], &mut told), [7, 8, 9], "nothing of before is left");
        assert_eq!(news(&[0; 0], &mut told), [0; 0]);
    }
}
