//! Pings and pongs of one stream, the same at both ends.
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use contextvm_core::{Limits, Mono};

use crate::{MAX_NONCE, StreamBody, StreamDrop, StreamError, StreamWake};

/// The least time between two pongs.
const PONG_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Keepalive {
    /// When a valid frame of the peer last came.
    heard: Mono,
    /// Until when the newest ping may be answered.
    probe: Option<Mono>,
    pings: u64,
    /// The nonce of a ping that came too soon after the last pong.
    owed: Option<Box<str>>,
    /// From when on a ping is answered at once.
    next_pong: Mono,
}

impl Keepalive {
    pub(crate) const fn new(now: Mono) -> Self {
        Self { heard: now, probe: None, pings: 0, owed: None, next_pong: Mono(0) }
    }

    /// Notes that a valid frame came. A probe goes on all the same: only its pong answers it.
    pub(crate) const fn hear(&mut self, now: Mono) {
        self.heard = now;
    }

    /// Takes a ping; `Ok` when it is to be answered at once.
    pub(crate) fn ping(&mut self, nonce: &str, now: Mono) -> Result<(), StreamDrop> {
        if nonce.len() > MAX_NONCE {
            return Err(StreamDrop::LongNonce);
        }
        self.hear(now);
        if now < self.next_pong {
            self.owed = Some(nonce.into());
            return Err(StreamDrop::PingFlood);
        }
        self.answer(now);
        Ok(())
    }

    /// Takes a pong.
    pub(crate) fn pong(&mut self, token: &str, nonce: &str, now: Mono) -> Result<(), StreamDrop> {
        if self.probe.is_none() || self::nonce(token, self.pings) != nonce {
            return Err(StreamDrop::UnknownPong);
        }
        self.probe = None;
        self.hear(now);
        Ok(())
    }

    /// Returns when there is something to do, and what.
    pub(crate) fn due(&self, limits: &Limits) -> (Mono, StreamWake) {
        let idle = self.heard.after(limits.stream_idle);
        let own = self.probe.map_or((idle, StreamWake::Idle), |until| (until, StreamWake::Probe));
        let owed = self.owed.as_ref().map(|_| (self.next_pong, StreamWake::Pong));
        owed.into_iter().fold(own, |own, owed| if owed.0 < own.0 { owed } else { own })
    }

    /// Does what is due.
    pub(crate) fn wake(
        &mut self,
        token: &str,
        limits: &Limits,
        now: Mono,
    ) -> Result<Option<StreamBody<'static>>, StreamError> {
        match self.due(limits) {
            (at, _) if at > now => Ok(None),
            (_, StreamWake::Probe) => Err(StreamError::Probe),
            (_, StreamWake::Pong) => {
                let nonce = self.owed.take();
                self.answer(now);
                Ok(nonce.map(|nonce| StreamBody::Pong(nonce.into_string().into())))
            }
            (_, StreamWake::Idle | StreamWake::Grace | StreamWake::Deadline) => {
                self.pings += 1;
                self.probe = Some(now.after(limits.stream_probe));
                Ok(Some(StreamBody::Ping(nonce(token, self.pings).into())))
            }
        }
    }

    fn answer(&mut self, now: Mono) {
        self.owed = None;
        self.next_pong = now.after(PONG_PAUSE);
    }
}

/// Returns `<token>:<counter>`, with as much of the token as there is room for.
fn nonce(token: &str, counter: u64) -> String {
    let end = format!(":{counter}");
    let room = MAX_NONCE - end.len();
    let mut nonce: String = token.get(..token.floor_char_boundary(room)).unwrap_or_default().into();
    nonce.push_str(&end);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_nonce_has_64_bytes_at_most() {
        assert_eq!(nonce("t", 7), "t:7");
        for token in ["t".repeat(1_024), "é".repeat(500), format!("a{}", "é".repeat(500))] {
            for counter in [1, u64::MAX] {
                let nonce = nonce(&token, counter);
                assert!((60..=MAX_NONCE).contains(&nonce.len()), "{nonce}");
                assert!(nonce.ends_with(&format!(":{counter}")));
            }
        }
    }

    #[test]
    fn only_the_newest_ping_of_ours_is_answered_and_once() {
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(at(0));
        assert_eq!(keepalive.pong("t", "t:0", at(1)), Err(StreamDrop::UnknownPong));
        assert_eq!(keepalive.due(&limits), (at(30), StreamWake::Idle));
        assert_eq!(keepalive.wake("t", &limits, at(29)), Ok(None));
        assert_eq!(keepalive.wake("t", &limits, at(30)), Ok(Some(StreamBody::Ping("t:1".into()))));
        assert_eq!(keepalive.due(&limits), (at(50), StreamWake::Probe));
        for nonce in ["t:2", "t:", "u:1", "t:1 "] {
            assert_eq!(keepalive.pong("t", nonce, at(31)), Err(StreamDrop::UnknownPong));
        }
        // Other frames do not stand for the pong.
        keepalive.hear(at(40));
        assert_eq!(keepalive.due(&limits), (at(50), StreamWake::Probe));
        assert_eq!(keepalive.pong("t", "t:1", at(41)), Ok(()));
        assert_eq!(keepalive.pong("t", "t:1", at(42)), Err(StreamDrop::UnknownPong));
        assert_eq!(keepalive.due(&limits), (at(71), StreamWake::Idle));
        assert_eq!(keepalive.wake("t", &limits, at(71)), Ok(Some(StreamBody::Ping("t:2".into()))));
        assert_eq!(keepalive.pong("t", "t:1", at(72)), Err(StreamDrop::UnknownPong));
        assert_eq!(keepalive.wake("t", &limits, at(91)), Err(StreamError::Probe));
    }

    #[test]
    fn a_second_has_one_pong_and_the_newest_ping_gets_it() {
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(at(0));
        assert_eq!(keepalive.ping("a", at(5)), Ok(()));
        for nonce in ["b", "c", "d"] {
            assert_eq!(keepalive.ping(nonce, at(5)), Err(StreamDrop::PingFlood));
        }
        assert_eq!(keepalive.due(&limits), (at(6), StreamWake::Pong));
        assert_eq!(keepalive.wake("t", &limits, at(6)), Ok(Some(StreamBody::Pong("d".into()))));
        assert_eq!(keepalive.wake("t", &limits, at(6)), Ok(None));
        assert_eq!(keepalive.ping("e", at(6)), Err(StreamDrop::PingFlood));
        // The pause is over and nobody woke it: one pong for both.
        assert_eq!(keepalive.ping("f", at(9)), Ok(()));
        assert_eq!(keepalive.wake("t", &limits, at(9)), Ok(None));
    }

    #[test]
    fn a_long_nonce_is_not_answered_and_is_no_sign_of_life() {
        let limits = Limits::default();
        let mut keepalive = Keepalive::new(at(0));
        assert_eq!(keepalive.ping(&"n".repeat(65), at(9)), Err(StreamDrop::LongNonce));
        assert_eq!(keepalive.due(&limits), (at(30), StreamWake::Idle));
        assert_eq!(keepalive.ping(&"n".repeat(64), at(9)), Ok(()));
        assert_eq!(keepalive.due(&limits), (at(39), StreamWake::Idle));
    }
}
