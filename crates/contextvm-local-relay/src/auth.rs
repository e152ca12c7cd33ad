//! Authentication of clients to the relay (NIP-42).
use nostr::event::Event;
use std::net::SocketAddr;

/// How far the answer's `created_at` may be from now, seconds.
const WINDOW: u64 = 600;
/// The kind of the event that answers a challenge.
const KIND: u16 = 22_242;

/// Checks an answer to the challenge; the error is the text of `OK false`.
pub(crate) fn check(event: &Event, challenge: &str, addr: SocketAddr, now: u64) -> Result<(), &'static str> {
    if event.kind.as_u16() != KIND {
        return Err("invalid: not an authentication event");
    }
    if event.created_at.as_secs().abs_diff(now) > WINDOW {
        return Err("invalid: created_at is too far from now");
    }
    let tag = |name: &str| event.tags.iter().find(|tag| tag.kind() == name).and_then(|tag| tag.content());
    if tag("challenge") != Some(challenge) {
        return Err("invalid: wrong challenge");
    }
    if !tag("relay").is_some_and(|url| names(url, addr)) {
        return Err("invalid: wrong relay");
    }
    if event.verify().is_err() {
        return Err("invalid: bad id or signature");
    }
    Ok(())
}

/// Says whether a relay URL means the address that the client reached; the local host may be called by any of its names.
fn names(url: &str, addr: SocketAddr) -> bool {
    let url = url.trim().to_ascii_lowercase();
    let Some(rest) = url.strip_prefix("ws://") else {
        return false;
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let Some((host, port)) = rest.rsplit_once(':') else {
        return false;
    };
    let local = addr.ip().is_loopback();
    let host_fits =
        rest == addr.to_string() || (local && ["127.0.0.1", "localhost", "[::1]"].contains(&host));
    host_fits && port.parse() == Ok(addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, keys};

    fn addr() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7777))
    }

    #[test]
    fn an_answer_must_name_this_relay_and_this_challenge_now() {
        let answer = |kind, at, url: &str, challenge: &str| {
            let event = event(&keys(1), kind, at, &[&["relay", url], &["challenge", challenge]], "");
            check(&event, "c", addr(), 1_000)
        };
        assert_eq!(answer(22_242, 1_000, "ws://127.0.0.1:7777/", "c"), Ok(()));
        assert_eq!(answer(22_242, 400, "ws://LOCALHOST:7777", "c"), Ok(()));
        assert_eq!(answer(1, 1_000, "ws://127.0.0.1:7777", "c"), Err("invalid: not an authentication event"));
        assert_eq!(
            answer(22_242, 399, "ws://127.0.0.1:7777", "c"),
            Err("invalid: created_at is too far from now")
        );
        assert_eq!(answer(22_242, 1_000, "ws://127.0.0.1:7777", "d"), Err("invalid: wrong challenge"));
        for url in
            ["ws://127.0.0.1:7778", "wss://127.0.0.1:7777", "ws://relay.example:7777", "", "ws://127.0.0.1"]
        {
            assert_eq!(answer(22_242, 1_000, url, "c"), Err("invalid: wrong relay"), "{url}");
        }
    }

    #[test]
    fn a_broken_signature_is_refused() {
        let mut answer =
            event(&keys(1), 22_242, 1_000, &[&["relay", "ws://127.0.0.1:7777"], &["challenge", "c"]], "");
        answer.sig = event(&keys(1), 1, 1, &[], "").sig;
        assert_eq!(check(&answer, "c", addr(), 1_000), Err("invalid: bad id or signature"));
    }
}
