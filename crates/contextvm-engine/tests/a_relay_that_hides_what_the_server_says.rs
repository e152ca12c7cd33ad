//! Whichever of the server's flags a relay withholds, a client that encrypts sends nothing in clear (T14).
use contextvm_core::{Draft, Mono, Now, Opened, Protection, WrapKind, tags};
use contextvm_crypto::Keys;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, EncryptionMode, GiftWrapMode,
};
use nostr::event::{EventId, Tags};

const UNIX: u64 = 1_700_000_000;
const FLAGS: [&str; 4] =
    [tags::SUPPORT_ENCRYPTION, tags::SUPPORT_ENCRYPTION_EPHEMERAL, tags::SUPPORT_REPEATS, tags::NAME];

/// Sends one message and returns the inner ids that went out, none of them in clear.
fn wrapped(machine: &mut ClientMachine, input: ClientInput, config: &ClientConfig) -> Vec<EventId> {
    machine.handle(input, Now { mono: Mono(0), unix: UNIX });
    let outputs = std::iter::from_fn(|| machine.poll_output());
    let sent =
        outputs.filter_map(|output| if let ClientOutput::Publish(sent) = output { Some(sent) } else { None });
    sent.map(|sent| {
        let is_right = match sent.protection {
            Protection::Plain => false,
            Protection::Wrapped(WrapKind::Persistent) => config.gift_wrap != GiftWrapMode::Ephemeral,
            Protection::Wrapped(WrapKind::Ephemeral) => config.gift_wrap != GiftWrapMode::Persistent,
        };
        assert!(is_right, "{:?} {:?}: {:?}", config.encryption, config.gift_wrap, sent.protection);
        sent.draft.id
    })
    .collect()
}

#[test]
fn every_choice_of_withheld_flags_leaves_every_message_wrapped() {
    let (client, server) =
        (Keys::from_secret_bytes([1; 32]).unwrap(), Keys::from_secret_bytes([2; 32]).unwrap());
    let (me, wraps) =
        (client.public_key(), [WrapKind::Persistent, WrapKind::Ephemeral].map(Protection::Wrapped));
    for encryption in [EncryptionMode::Optional, EncryptionMode::Required] {
        for gift_wrap in [GiftWrapMode::Optional, GiftWrapMode::Persistent, GiftWrapMode::Ephemeral] {
            for shown in 0..1_usize << FLAGS.len() {
                for answer in [Some(Protection::Plain), Some(wraps[0]), Some(wraps[1]), None] {
                    let config =
                        ClientConfig { encryption, gift_wrap, ..ClientConfig::new(server.public_key()) };
                    let mut machine = ClientMachine::new(config.clone(), me, [7; 32]);
                    let send = |machine: &mut ClientMachine, text: &str| {
                        wrapped(machine, ClientInput::Send(text.to_owned()), &config)
                    };
                    let asked = send(&mut machine, r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#);
                    assert_eq!(asked.len(), 1);
                    if let Some(protection) = answer {
                        let flags = FLAGS.iter().enumerate().filter(|(n, _)| shown & (1 << n) != 0);
                        let mut all = vec![tags::recipient(&me), tags::answered(&asked[0])];
                        all.extend(flags.map(|(_, flag)| tags::flag(flag)));
                        let content = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned();
                        let draft = Draft::new(server.public_key(), UNIX, Tags::from_list(all), content);
                        let event = server.sign_draft(&draft, [3; 32]);
                        let opened = Opened::check(event, protection, draft.id, &me, UNIX, 600).unwrap();
                        wrapped(&mut machine, ClientInput::Opened(Box::new(opened)), &config);
                    }
                    for text in [
                        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x"}}"#,
                        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#,
                    ] {
                        assert_eq!(send(&mut machine, text).len(), 1, "{text}");
                    }
                }
            }
        }
    }
}
