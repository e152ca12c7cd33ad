//! Publications that hold up nobody and whose outcome is waited for, each on the account of a relay that decides it.
use core::pin::Pin;

use contextvm_engine::{Outcome, Ticket};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

/// One account for each bit of a set of relays, and one for what no relay in particular decides.
const ACCOUNTS: usize = 65;

/// A publication that ended.
struct Ended {
    ticket: Ticket,
    account: usize,
    bytes: usize,
    outcome: Outcome,
}

type Following = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What is waited for on the account of one relay.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    events: usize,
    bytes: usize,
}

/// All of them. A relay that says nothing fills its own account and no other.
pub(crate) struct Followed {
    all: FuturesUnordered<Following>,
    accounts: [Account; ACCOUNTS],
    most_events: usize,
    most_bytes: usize,
}

impl Followed {
    /// At most so many, and so many bytes, on each account.
    pub(crate) fn new(most_events: usize, most_bytes: usize) -> Self {
        Self {
            all: FuturesUnordered::new(),
            accounts: [Account::default(); ACCOUNTS],
            most_events,
            most_bytes,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Follows a publication that some relays decide (bit n: relay n modulo 64), and says whether there was room;
    /// `part` of the room is for its kind.
    pub(crate) fn push(
        &mut self,
        ticket: Ticket,
        deciding: u64,
        (bytes, part): (usize, usize),
        outcome: impl Future<Output = Outcome> + Send + 'static,
    ) -> bool {
        let is_theirs = |index: &usize| {
            if deciding == 0 { *index == 64 } else { *index < 64 && deciding >> index & 1 == 1 }
        };
        let has_room = |of_it: &Account| {
            of_it.events < self.most_events / part && of_it.bytes + bytes <= self.most_bytes / part
        };
        let theirs = self.accounts.iter_mut().enumerate().filter(|(index, _)| is_theirs(index));
        let with_room = theirs.filter(|(_, of_it)| has_room(of_it));
        let Some((account, of_it)) = with_room.min_by_key(|(_, of_it)| of_it.events) else { return false };
        (of_it.events, of_it.bytes) = (of_it.events + 1, of_it.bytes + bytes);
        self.all.push(Box::pin(async move { Ended { ticket, account, bytes, outcome: outcome.await } }));
        true
    }

    /// Waits for the next one that ends; `None` when there is none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(Ticket, Outcome)> {
        let Ended { ticket, account, bytes, outcome } = self.all.next().await?;
        if let Some(of_it) = self.accounts.get_mut(account) {
            of_it.events = of_it.events.saturating_sub(1);
            of_it.bytes = of_it.bytes.saturating_sub(bytes);
        }
        Some((ticket, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_says_nothing_fills_its_own_account_and_no_other() {
        let mut followed = Followed::new(8, 1_000);
        let silent = || core::future::pending();
        let pushed = (0..20).filter(|n| followed.push(Ticket(*n), 0b01, (10, 1), silent())).count();
        assert_eq!(pushed, 8);
        let pushed = (0..20).filter(|n| followed.push(Ticket(*n), 0b10, (10, 2), silent())).count();
        assert_eq!(pushed, 4, "half of it for strangers");
        assert!(followed.push(Ticket(50), 0b10, (10, 1), async { Outcome::Accepted }));
        assert!(followed.push(Ticket(51), 0b11, (10, 1), silent()), "one of two has room");
        assert!(followed.push(Ticket(52), 0, (10, 1), silent()));
        assert!(!followed.push(Ticket(53), 0b100, (1_001, 1), silent()));
        assert!(followed.push(Ticket(54), 0b100, (1_000, 1), silent()), "few and large");
        assert!(followed.push(Ticket(55), 0b110, (10, 1), silent()), "the other one has bytes left");
        assert_eq!(followed.next().await, Some((Ticket(50), Outcome::Accepted)));
        assert_eq!(followed.accounts[1].events, 6);
    }
}
