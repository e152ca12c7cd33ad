//! The subscription of an endpoint: everything addressed to its key (wire protocol, subscriptions).
use std::time::Duration;

use contextvm_core::kind;
use contextvm_engine::GiftWrapMode;
use contextvm_relay::{Filter, RelayError};
use nostr::key::PublicKey;

/// Makes the filter for events addressed to `me`, which looks back as far as an event may be old: `age_window` seconds.
///
/// Relays hold live events to the filter's `since` too, so that an endpoint whose clock is fast would be deaf to honest
/// peers if it looked back less. The price is small: what relays kept comes again after each reconnection, and the gate
/// drops what was opened before. Plaintext is always subscribed: refusing it is the gate's decision, and a decision is
/// counted.
///
/// # Errors
/// As [`Filter::new`].
pub fn filter(me: &PublicKey, gift_wrap: GiftWrapMode, age_window: u64) -> Result<Filter, RelayError> {
    Filter::new(&text(me, gift_wrap), Duration::from_secs(age_window))
}

fn text(me: &PublicKey, gift_wrap: GiftWrapMode) -> String {
    let message = kind::MESSAGE;
    let (persistent, ephemeral) = (kind::GIFT_WRAP, kind::EPHEMERAL_GIFT_WRAP);
    let kinds = match gift_wrap {
        GiftWrapMode::Optional => format!("{message},{persistent},{ephemeral}"),
        GiftWrapMode::Ephemeral => format!("{message},{ephemeral}"),
        GiftWrapMode::Persistent => format!("{message},{persistent}"),
    };
    format!(r##"{{"kinds":[{kinds}],"#p":["{}"]}}"##, me.to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> PublicKey {
        PublicKey::parse("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").expect("a key")
    }

    #[test]
    fn the_filter_names_the_admitted_kinds_and_the_key() {
        let hex = me().to_hex();
        assert_eq!(
            text(&me(), GiftWrapMode::Optional),
            format!(r##"{{"kinds":[25910,1059,21059],"#p":["{hex}"]}}"##)
        );
        assert!(text(&me(), GiftWrapMode::Ephemeral).contains("[25910,21059]"));
        assert!(text(&me(), GiftWrapMode::Persistent).contains("[25910,1059]"));
    }

    #[test]
    fn every_mode_gives_a_filter_that_relays_understand() {
        for mode in [GiftWrapMode::Optional, GiftWrapMode::Ephemeral, GiftWrapMode::Persistent] {
            assert!(filter(&me(), mode, 600).is_ok());
        }
    }
}
