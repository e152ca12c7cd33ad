//! Signed requests, and the ways in which somebody else sends them again.
use std::sync::Arc;

use contextvm::core::{Draft, event};
use contextvm::runtime::clock::unix_now;
use nostr::event::{Event, Tag};

use super::{Make, wrap};
use crate::{ALLOWED, Failure, SERVER, keys, public_key};

/// The allowed caller whose requests are replayed.
const VICTIM: u8 = 2;
/// Some other server, which hands requests on.
const ELSEWHERE: u8 = 101;

/// Requests as their author signs them: to be executed once each, or never.
pub(super) fn first(what: &str) -> Result<Make<Event>, Failure> {
    let (to, age, base) = match what {
        "first" => (SERVER, 0, 1),
        "stale" => (SERVER, 700, 2),
        "others" => (SERVER, 0, 4),
        _ => (ELSEWHERE, 0, 3),
    };
    let authors = if what == "others" { VICTIM + 1..=ALLOWED } else { VICTIM..=VICTIM };
    let (authors, to) = (authors.map(keys).collect::<Result<Vec<_>, _>>()?, public_key(to)?);
    let base: usize = base << 40;
    Ok(Arc::new(move |nth| {
        let keys = authors.get(nth % authors.len()).ok_or("there is an author")?;
        let content = format!(
            r#"{{"jsonrpc":"2.0","id":{nth},"method":"tools/call","params":{{"name":"echo","arguments":{{"number":{}}}}}}}"#,
            base + nth
        );
        let stamp = unix_now().saturating_sub(age);
        let draft =
            Draft::new(keys.public_key(), stamp, [Tag::public_key(to)].into_iter().collect(), content);
        Ok(keys.sign_draft(&draft, [7; 32]))
    }))
}

/// Sends requests again, in turn: in new gift wraps, or in clear.
pub(super) fn again(what: &str, firsts: Arc<Vec<Event>>) -> Result<Make, Failure> {
    let nth = move |nth: usize| firsts.get(nth % firsts.len().max(1)).cloned().ok_or("nothing was prepared");
    match what {
        "wrapped" => Ok(Arc::new(move |number| wrap(&nth(number)?))),
        "plain" => Ok(Arc::new(move |number| Ok(event::print(&nth(number)?)))),
        _ => Err(format!("nothing is known of {what}").into()),
    }
}
