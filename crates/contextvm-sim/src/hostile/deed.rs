//! What the hostile do, one name per behaviour: each is a knob of its own and is counted when it happens.
use std::collections::BTreeMap;

use crate::omit::Omit;
use crate::rng::Rng;

/// A chance in thousandths.
pub type PerMille = u16;

macro_rules! deeds {
    ($(#[$about:meta])* $list:ident, $name:ident { $($(#[$doc:meta])* $deed:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $deed,)* }

        impl $name {
            /// Returns a fixed name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$deed => $text,)* }
            }
        }

        #[doc = concat!("Every [`", stringify!($name), "`].")]
        pub const $list: &[$name] = &[$($name::$deed,)*];
    };
}

deeds! {
    /// One hostile or failing behaviour.
    ALL, Deed {
        /// A relay passes an event on again, at once.
        RelayRepeats = "relay_repeats",
        /// A relay sends an old event again, seconds to an hour later.
        RelayReplays = "relay_replays",
        /// A relay passes an event on late.
        RelayDelays = "relay_delays",
        /// A relay keeps an event to itself.
        RelayWithholds = "relay_withholds",
        /// A relay keeps every event of one kind to itself.
        RelayWithholdsKind = "relay_withholds_kind",
        /// A relay passes nothing on to one peer.
        RelayWithholdsPeer = "relay_withholds_peer",
        /// A relay changes the id.
        RelayAltersId = "relay_alters_id",
        /// A relay changes the author.
        RelayAltersAuthor = "relay_alters_author",
        /// A relay changes the stamp.
        RelayAltersStamp = "relay_alters_stamp",
        /// A relay changes the kind.
        RelayAltersKind = "relay_alters_kind",
        /// A relay changes the tags.
        RelayAltersTags = "relay_alters_tags",
        /// A relay changes the content.
        RelayAltersContent = "relay_alters_content",
        /// A relay changes the signature.
        RelayAltersSignature = "relay_alters_signature",
        /// A relay sends a forged copy under the true id before the true event.
        RelayPoisons = "relay_poisons",
        /// A relay makes a gift wrap of rubbish for a peer.
        RelayInjectsWrap = "relay_injects_wrap",
        /// A relay forges a message of a peer.
        RelayForges = "relay_forges",
        /// A relay sends a true message of a key of its own.
        RelayInjectsMessage = "relay_injects_message",
        /// A relay names a subscription that nobody made.
        RelayWrongSubscription = "relay_wrong_subscription",
        /// A relay says that it took what it throws away.
        RelayAcceptsLying = "relay_accepts_lying",
        /// A relay says that it refused what it passes on.
        RelayRefusesLying = "relay_refuses_lying",
        /// A relay says nothing about a publication.
        RelaySilent = "relay_silent",
        /// A relay speaks about publications that nobody made.
        RelayStrangeOk = "relay_strange_ok",
        /// A relay never says that the stored events are over.
        RelayNoEose = "relay_no_eose",
        /// A relay says again and again that the stored events are over.
        RelayManyEose = "relay_many_eose",
        /// A relay ends the subscription.
        RelayCloses = "relay_closes",
        /// A relay chatters: notices, challenges, and what is no frame.
        RelayChatters = "relay_chatters",

        /// A client makes an ordinary call, under ids and tokens that everybody uses.
        ClientCalls = "client_calls",
        /// A client begins its session again and again.
        ClientInitialises = "client_initialises",
        /// A client sends gift wraps of rubbish from fresh keys.
        ClientFloods = "client_floods",
        /// Fresh keys make one call each.
        ClientStrangers = "client_strangers",
        /// A client sends frames that break the grammar.
        ClientBadFrames = "client_bad_frames",
        /// A client sends frames under tokens of others.
        ClientSharedTokens = "client_shared_tokens",
        /// A client cancels what is not its own.
        ClientCancels = "client_cancels",
        /// A client sends JSON that grows when it is parsed.
        ClientBombs = "client_bombs",
        /// A client sends events that are too old, or from the future.
        ClientOldEvents = "client_old_events",
        /// A client wraps signed events of others.
        ClientRewraps = "client_rewraps",
        /// A client hands signed events on to servers that they are not for.
        ClientHandsOn = "client_hands_on",
        /// A client publishes gift wraps of others again.
        ClientRepublishes = "client_republishes",
        /// A client sends one event in many envelopes, and in clear.
        ClientRepeats = "client_repeats",
        /// A client declares large transfers and sends nothing of them.
        ClientStarts = "client_starts",
        /// A client sends parts of a transfer.
        ClientHalfTransfers = "client_half_transfers",
        /// A client transfers what its digest does not fit.
        ClientWrongDigests = "client_wrong_digests",
        /// A client transfers a whole call.
        ClientTransfers = "client_transfers",
        /// A client forges messages of others.
        ClientForges = "client_forges",
        /// A client signs requests as events of other kinds.
        ClientOtherKinds = "client_other_kinds",
        /// A client addresses a request to nobody, to two, or to somebody else.
        ClientOtherAudience = "client_other_audience",
        /// A client answers what nobody asked.
        ClientResponses = "client_responses",
        /// A client sends what is no single message.
        ClientBatches = "client_batches",
        /// A client says in `_meta` that it is somebody else.
        ClientClaims = "client_claims",
        /// A client floods a stream with pings and pongs.
        ClientPings = "client_pings",
        /// A client subscribes to many resources.
        ClientSubscribes = "client_subscribes",

        /// A server answers as it should.
        ServerAnswers = "server_answers",
        /// A server says nothing to a request.
        ServerSilent = "server_silent",
        /// A server answers twice, differently.
        ServerDoubleAnswers = "server_double_answers",
        /// A server names another event than the request.
        ServerWrongRequest = "server_wrong_request",
        /// A server names no event.
        ServerNoRequest = "server_no_request",
        /// A server answers those who asked nothing.
        ServerNobody = "server_nobody",
        /// A server answers with an error.
        ServerErrors = "server_errors",
        /// A server answers in clear what was asked encrypted.
        ServerDowngrades = "server_downgrades",
        /// A server sends endless progress.
        ServerProgress = "server_progress",
        /// A server uses tokens that were never given.
        ServerForeignTokens = "server_foreign_tokens",
        /// A server sends a notification that names the request before its answer.
        ServerEarlyNotes = "server_early_notes",
        /// A server asks its clients.
        ServerAsks = "server_asks",
        /// A server begins a stream and never ends it.
        ServerEndlessStreams = "server_endless_streams",
        /// A server streams chunks with gaps, twice, and with another text.
        ServerBrokenStreams = "server_broken_streams",
        /// A server transfers what its digest does not fit.
        ServerWrongDigests = "server_wrong_digests",
        /// A server declares a transfer and sends nothing of it.
        ServerStarts = "server_starts",
        /// A server sends frames that break the grammar.
        ServerBadFrames = "server_bad_frames",
        /// A server answers with JSON that grows when it is parsed.
        ServerBombs = "server_bombs",
        /// A server stamps its answer in another hour.
        ServerOldAnswers = "server_old_answers",
        /// Another key answers.
        ServerOtherKey = "server_other_key",
        /// A server hands a request on to other servers.
        ServerHandsOn = "server_hands_on",
        /// A server aborts uploads.
        ServerAborts = "server_aborts",
        /// A server claims every flag, and some that nobody knows.
        ServerClaims = "server_claims",

        /// An application takes long.
        AppSlow = "app_slow",
        /// An application takes longer than anybody waits.
        AppEndless = "app_endless",
        /// An application never answers.
        AppSilent = "app_silent",
        /// An application fails.
        AppFails = "app_fails",
        /// An application panics.
        AppPanics = "app_panics",
        /// An application answers twice.
        AppDouble = "app_double",
        /// An application answers what was not asked.
        AppStrange = "app_strange",
        /// An application's channel is full for a while.
        AppFull = "app_full",
        /// An application notifies without end.
        AppChatters = "app_chatters",

        /// A signer takes long.
        SignerSlow = "signer_slow",
        /// A signer refuses.
        SignerRefuses = "signer_refuses",
    }
}

impl Deed {
    /// Returns the deeds whose names begin so: `relay`, `client`, `server`, `app`, `signer`.
    pub fn of(actor: &str) -> impl Iterator<Item = Self> + '_ {
        ALL.iter().copied().filter(move |deed| deed.name().split('_').next() == Some(actor))
    }
}

/// How often each deed is done: nothing is done that is not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chances(BTreeMap<Deed, PerMille>);

impl Chances {
    /// Draws the deeds of the actor with this number: each is left out half of the time, otherwise it has a chance of up
    /// to `most`. A deed whose name is left out like a knob is not done, and no other draw changes.
    #[must_use]
    pub fn draw(seed: u64, actor: &str, index: u64, most: PerMille, omit: &Omit) -> Self {
        let mut rng = Rng::of(seed, actor, index);
        let drawn = Deed::of(actor).map(|deed| {
            let is_done = rng.chance(500);
            let chance = rng.between(1, u64::from(most.clamp(1, 1_000)));
            (deed, if is_done && !omit.knob(deed.name()) { chance as PerMille } else { 0 })
        });
        Self(drawn.filter(|(_, chance)| *chance > 0).collect())
    }

    /// Gives every deed of one actor the same chance.
    #[must_use]
    pub fn every(actor: &str, chance: PerMille) -> Self {
        Self(Deed::of(actor).map(|deed| (deed, chance)).collect())
    }

    /// Returns the same with another chance for one deed; zero takes it away.
    #[must_use]
    pub fn with(mut self, deed: Deed, chance: PerMille) -> Self {
        if chance == 0 {
            self.0.remove(&deed);
        } else {
            self.0.insert(deed, chance.min(1_000));
        }
        self
    }

    /// Returns the chance of one deed.
    #[must_use]
    pub fn get(&self, deed: Deed) -> PerMille {
        self.0.get(&deed).copied().unwrap_or_default()
    }

    /// Whether nothing is ever done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what may be done, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Deed, PerMille)> + '_ {
        self.0.iter().map(|(deed, chance)| (*deed, *chance))
    }
}

/// How often each deed was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deeds(BTreeMap<Deed, u64>);

impl Deeds {
    /// Counts one deed.
    pub fn add(&mut self, deed: Deed) {
        *self.0.entry(deed).or_default() += 1;
    }

    /// Counts what another actor did.
    pub fn merge(&mut self, other: &Self) {
        for (deed, count) in &other.0 {
            *self.0.entry(*deed).or_default() += count;
        }
    }

    /// Returns how often one deed was done.
    #[must_use]
    pub fn get(&self, deed: Deed) -> u64 {
        self.0.get(&deed).copied().unwrap_or_default()
    }

    /// Returns how many deeds were done in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns what was done, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Deed, u64)> + '_ {
        self.0.iter().map(|(deed, count)| (*deed, *count))
    }
}

/// The conscience of one actor: chances, dice and the tally.
#[derive(Clone, Debug)]
pub struct Mood {
    /// What may be done.
    pub chances: Chances,
    /// What was done.
    pub deeds: Deeds,
    /// The dice.
    pub rng: fastrand::Rng,
    seed: u64,
}

impl Mood {
    /// Makes the mood of one actor.
    #[must_use]
    pub fn new(chances: Chances, seed: u64) -> Self {
        Self { chances, deeds: Deeds::default(), rng: fastrand::Rng::with_seed(seed), seed }
    }

    /// Takes the dice that belong to one key, so that what is decided about it depends on nothing else.
    pub fn turn_to(&mut self, key: u64) {
        let key = key.wrapping_mul(0xA076_1D64_78BD_642F).rotate_left(31);
        self.rng = fastrand::Rng::with_seed(self.seed ^ key);
    }

    /// Whether a deed is done now; if so it is counted.
    pub fn does(&mut self, deed: Deed) -> bool {
        let does = self.wants(deed);
        if does {
            self.deeds.add(deed);
        }
        does
    }

    /// Whether the dice are for a deed; it is counted by whoever finds it possible.
    pub fn wants(&mut self, deed: Deed) -> bool {
        let chance = self.chances.get(deed);
        chance > 0 && self.rng.u16(..1_000) < chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_deed_has_its_own_name_and_one_actor() {
        let names: BTreeSet<_> = ALL.iter().map(|deed| deed.name()).collect();
        assert_eq!(names.len(), ALL.len());
        let actors = ["relay", "client", "server", "app", "signer"];
        let count: usize = actors.iter().map(|actor| Deed::of(actor).count()).sum();
        assert_eq!(count, ALL.len());
    }

    #[test]
    fn a_swarm_leaves_deeds_out_and_reaches_every_one() {
        let omit = Omit::default();
        let drawn: Vec<_> = (0..50).map(|seed| Chances::draw(seed, "relay", 0, 200, &omit)).collect();
        for deed in Deed::of("relay") {
            let some = drawn.iter().filter(|chances| chances.get(deed) > 0).count();
            assert!((5..45).contains(&some), "{}: {some}", deed.name());
            assert!(drawn.iter().all(|chances| chances.get(deed) <= 200));
        }
        assert!(drawn.iter().all(|chances| chances.get(Deed::ClientBombs) == 0));
    }

    #[test]
    fn what_is_left_out_changes_nothing_else() {
        let mut omit = Omit::default();
        let all = Chances::draw(7, "client", 1, 300, &omit);
        let (first, _) = all.iter().next().unwrap();
        omit.knobs.insert(first.name().to_owned());
        assert_eq!(Chances::draw(7, "client", 1, 300, &omit), all.with(first, 0));
    }

    #[test]
    fn what_has_no_chance_is_never_done_and_what_is_certain_always() {
        let chances = Chances::default().with(Deed::RelaySilent, 1_000);
        let mut mood = Mood::new(chances, 1);
        for _ in 0..100 {
            assert!(mood.does(Deed::RelaySilent) && !mood.does(Deed::RelayCloses));
        }
        assert_eq!((mood.deeds.get(Deed::RelaySilent), mood.deeds.total()), (100, 100));
    }
}
