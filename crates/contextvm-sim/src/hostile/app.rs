//! An application that is slow, silent, wrong or broken, and a signer that is slow or refuses.
use super::deed::{Chances, Deed, Mood};

const SECOND: u64 = 1_000_000;

/// What an application does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// Microseconds until it acts.
    pub after: u64,
    /// What it then does.
    pub does: Does,
    /// It answers so many times more, with other words, under the same id.
    pub again: u8,
    /// It answers a request that it never got.
    pub strange: bool,
    /// Notifications that it sends while it works.
    pub chatter: u8,
}

/// How an application ends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It answers as it should.
    Answers,
    /// It answers with an error.
    Fails,
    /// It panics, which its face answers with an error.
    Panics,
    /// It never answers.
    Nothing,
}

/// The mind of an application.
#[derive(Clone, Debug)]
pub struct App(Mood);

impl App {
    /// Makes an application.
    #[must_use]
    pub fn new(chances: Chances, seed: u64) -> Self {
        Self(Mood::new(chances, seed))
    }

    /// Returns chances and tally.
    #[must_use]
    pub const fn mood(&self) -> &Mood {
        &self.0
    }

    /// Decides about one request.
    pub fn handles(&mut self) -> Handling {
        let mood = &mut self.0;
        let mut after = mood.rng.u64(..5_000);
        if mood.does(Deed::AppSlow) {
            after += mood.rng.u64(SECOND / 10..20 * SECOND);
        }
        if mood.does(Deed::AppEndless) {
            after += mood.rng.u64(61 * SECOND..200 * SECOND);
        }
        let does = if mood.does(Deed::AppSilent) {
            Does::Nothing
        } else if mood.does(Deed::AppPanics) {
            Does::Panics
        } else if mood.does(Deed::AppFails) {
            Does::Fails
        } else {
            Does::Answers
        };
        let again = if mood.does(Deed::AppDouble) { mood.rng.u8(1..4) } else { 0 };
        let chatter = if mood.does(Deed::AppChatters) { mood.rng.u8(1..20) } else { 0 };
        Handling { after, does, again, strange: mood.does(Deed::AppStrange), chatter }
    }

    /// Decides, as a request comes, for how long the application takes nothing from its caller, microseconds; mostly not at all.
    pub fn fills(&mut self) -> Option<u64> {
        self.0.does(Deed::AppFull).then(|| self.0.rng.u64(SECOND / 10..10 * SECOND))
    }
}

/// What a signer does with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signing {
    /// Microseconds until it is done.
    pub after: u64,
    /// It does not sign: the publication is refused.
    pub refuses: bool,
}

/// The mind of a signer.
#[derive(Clone, Debug)]
pub struct Signer(Mood);

impl Signer {
    /// Makes a signer.
    #[must_use]
    pub fn new(chances: Chances, seed: u64) -> Self {
        Self(Mood::new(chances, seed))
    }

    /// Returns chances and tally.
    #[must_use]
    pub const fn mood(&self) -> &Mood {
        &self.0
    }

    /// Decides about one event.
    pub fn signs(&mut self) -> Signing {
        let mood = &mut self.0;
        let after = if mood.does(Deed::SignerSlow) { mood.rng.u64(SECOND / 100..8 * SECOND) } else { 0 };
        Signing { after, refuses: mood.does(Deed::SignerRefuses) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_knob_an_application_answers_soon_and_once_and_a_signer_signs() {
        let (mut app, mut signer) = (App::new(Chances::default(), 1), Signer::new(Chances::default(), 1));
        for _ in 0..100 {
            let Handling { after, does, again, strange, chatter } = app.handles();
            assert!(after < 5_000 && does == Does::Answers && again == 0 && !strange && chatter == 0);
            assert_eq!((app.fills(), signer.signs()), (None, Signing { after: 0, refuses: false }));
        }
    }

    #[test]
    fn every_deed_of_an_application_and_of_a_signer_happens() {
        let mut app = App::new(Chances::every("app", 100), 1);
        let mut signer = Signer::new(Chances::every("signer", 100), 1);
        for _ in 0..300 {
            app.handles();
            app.fills();
            signer.signs();
        }
        assert!(Deed::of("app").all(|deed| app.mood().deeds.get(deed) > 0));
        assert!(Deed::of("signer").all(|deed| signer.mood().deeds.get(deed) > 0));
    }
}
