//! The host's session with all servers: opened at once, and later with those that were late or failed.
use std::collections::BTreeMap;

use contextvm_core::envelope::{self, Envelope};

use super::gather::{Found, What};
use super::listen::CHANGES;
use super::merger::{Act, Merger, RETRY, Session, Work};
use super::union;
use crate::proxy::conversation::{Heard, Said};

impl Merger {
    /// Opens the host's session with every server.
    pub(super) fn open_sessions(&mut self, number: u64, message: &Envelope<'_>) {
        let late: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| matches!(call.work, Work::Open))
            .map(|(late, _)| *late)
            .collect();
        for late in late {
            self.close(late);
        }
        self.opening = Some(message.text().to_owned());
        self.level = None;
        self.initialized = false;
        self.tells.clear();
        let mut servers = Vec::new();
        for (server, session) in self.sessions.iter_mut().enumerate() {
            if !matches!(session, Session::Gone) {
                *session = Session::Opening;
                servers.push(server);
            }
        }
        self.collect_of(number, What::Initialize, message.text().to_owned(), &servers);
    }

    /// The host does not want its session any more.
    pub(super) fn sessions_given_up(&mut self) {
        self.opening = None;
        for session in &mut self.sessions {
            if matches!(session, Session::Opening) {
                *session = Session::Fresh;
            }
        }
    }

    /// What each server said of itself, or why it said nothing.
    pub(super) fn introductions<'a>(
        &'a self,
        found: &'a BTreeMap<usize, Found>,
    ) -> Vec<union::Introduction<'a>> {
        let all = (0..self.sessions.len()).map(|server| {
            let one = found.get(&server);
            let said = match one.and_then(|found| found.results.first()) {
                Some(result) => Ok(&**result),
                None => Err(match one {
                    Some(found) => {
                        self.why_left_out(found).unwrap_or_else(|| "it does not know how".to_owned())
                    }
                    None => "its connection has ended".to_owned(),
                }),
            };
            (self.directory.name(server), said)
        });
        all.collect()
    }

    pub(super) fn sessions_opened(&mut self, number: u64, found: &BTreeMap<usize, Found>) {
        let again = self.now + RETRY;
        let introductions = self.introductions(found);
        let opened = introductions.iter().any(|(_, said)| said.is_ok());
        let mut sessions = Vec::new();
        for (server, (_, said)) in introductions.iter().enumerate() {
            let late = found.get(&server).is_some_and(|found| found.waits);
            let session = match said {
                _ if !opened => Session::Fresh,
                Ok(result) => {
                    self.directory.introduced(server, result);
                    Session::Open
                }
                Err(_) if late => Session::Late,
                Err(why) => Session::Out { why: why.clone(), again },
            };
            sessions.push(session);
        }
        let united = union::welcome(&introductions);
        for (old, new) in self.sessions.iter_mut().zip(sessions) {
            if !matches!(old, Session::Gone) {
                *old = new;
            }
        }
        if !opened {
            self.opening = None;
            return self.refuse_as_servers(number, found);
        }
        self.tells = CHANGES
            .iter()
            .filter(|(part, ..)| union::tells(&united, part))
            .map(|(.., method)| *method)
            .collect();
        self.result_for(number, &united.to_text());
    }

    /// A server that was late or failed before has answered `initialize`.
    pub(super) fn opened_late(&mut self, number: u64, server: usize, message: &Envelope<'_>) {
        self.close(number);
        let session = match message.result {
            Some(result) => {
                self.directory.introduced(server, result);
                if self.initialized {
                    let text = envelope::notification("notifications/initialized", None);
                    self.acts.push_back(Act::Server(server, Said::Message(text)));
                }
                if let Some(level) = self.level.clone()
                    && self.directory.offers(server, "logging") == Some(true)
                {
                    let errand = self.errand(Work::Straight);
                    self.ask_text(errand, server, &level);
                }
                for method in &self.tells {
                    let text = envelope::notification(method, None);
                    self.acts.push_back(Act::Host(Heard { text, about: None }));
                }
                Session::Open
            }
            None => {
                let found = Found::refused(message);
                let why = self.why_left_out(&found).unwrap_or_else(|| "it does not know how".to_owned());
                Session::Out { why, again: self.now + RETRY }
            }
        };
        if let Some(old) = self.sessions.get_mut(server)
            && !matches!(old, Session::Gone)
        {
            *old = session;
        }
    }
}
