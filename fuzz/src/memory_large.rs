//! How much memory a message of 16 MiB takes while it arrives in pieces: at most three times its size.
use contextvm_core::{Draft, Envelope, Limits, Mono, Now, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, EncryptionMode, GiftWrapMode, Outbound, Outcome,
    ServerConfig, ServerInput, ServerMachine, ServerOutput,
};
use contextvm_transfer::{
    Handshake, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput, TransferFrame,
};
use nostr::event::{Event, EventId, Tag, Tags};
use nostr::key::PublicKey;

use crate::memory::peak;
use crate::people::keys;

/// The message.
const SIZE: usize = 16 * 1024 * 1024;
/// What a content may take in an event of 40,960 bytes, the largest whose gift wrap usual relays take.
const CONTENT: usize = 40_960 - 460;
const NOW: Now = Now { mono: Mono(0), unix: 1_700_000_000 };

/// An answer of this size with as many escapes as prose has.
fn answer(id: &str) -> String {
    let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#);
    filled(start, r#""}]}}"#)
}

/// A request of this size.
fn request(token: &str) -> String {
    let call = r#""jsonrpc":"2.0","id":1,"method":"tools/call""#;
    let start = format!(
        r#"{{{call},"params":{{"_meta":{{"progressToken":"{token}"}},"name":"a","arguments":{{"b":""#
    );
    filled(start, r#""}}}"#)
}

fn filled(mut text: String, end: &str) -> String {
    while text.len() + end.len() + 64 < SIZE {
        text.push_str("Some words of a \\\"document\\\", 漢字, and the next line.\\n");
    }
    text.extend(std::iter::repeat_n('x', SIZE - end.len() - text.len()));
    text + end
}

/// The contents of all frames.
fn frames(message: String, token: &str) -> Vec<String> {
    let limits = Limits::default();
    let mut sender = Sender::new(token, message, CONTENT, Handshake::Skip, &limits, NOW).expect("it is cut");
    let mut frames = Vec::new();
    sender.handle(SenderInput::Credit(usize::MAX), NOW);
    while let Some(SenderOutput::Frame { progress, content, .. }) = sender.poll_output() {
        frames.push(content);
        sender.handle(SenderInput::Published(progress), NOW);
    }
    frames
}

/// Hears one frame in memory of its own, as if an event had just been opened.
fn hear(receiver: &mut Receiver, content: &str) {
    let (peer, event) = (PublicKey::from_byte_array([7; 32]), EventId::from_byte_array([1; 32]));
    let content = content.to_owned();
    let message = Envelope::parse(&content, &Limits::default()).expect("a frame is a message");
    let frame = TransferFrame::read(&message).expect("it is a frame").expect("it is a frame");
    receiver.handle(ReceiverInput::Frame { peer, request: None, frame, event }, NOW);
}

#[test]
fn a_receiver_holds_at_most_three_times_what_it_receives() {
    let message = answer("1");
    let frames = frames(message.clone(), "t");
    for is_backward in [false, true] {
        let mut receiver = Receiver::for_responses(&Limits::default());
        let (most, received) = peak(|| {
            let mut order: Vec<&String> = frames.iter().collect();
            if is_backward {
                order.reverse();
            }
            for content in order {
                hear(&mut receiver, content);
                assert!(receiver.load().bytes < SIZE + SIZE / 64);
            }
            let Some(ReceiverOutput::Complete { message, .. }) = receiver.poll_output() else {
                panic!("it is not complete")
            };
            message
        });
        println!("receiver, 16 MiB: at most {most} bytes, {:.3} times", most as f64 / SIZE as f64);
        assert!(received == message);
        assert!(most <= 3 * SIZE, "{most}");
        assert_eq!(receiver.load().bytes, 0);
    }
}

#[test]
fn a_sender_holds_its_message_and_one_frame() {
    let message = answer("1");
    let (most, frames) = peak(|| {
        let limits = Limits::default();
        let mut sender =
            Sender::new("t", message, CONTENT, Handshake::Skip, &limits, NOW).expect("it is cut");
        sender.handle(SenderInput::Credit(usize::MAX), NOW);
        let mut frames = 0;
        while let Some(SenderOutput::Frame { progress, .. }) = sender.poll_output() {
            frames += 1;
            sender.handle(SenderInput::Published(progress), NOW);
        }
        frames
    });
    println!("sender, 16 MiB: at most {most} bytes beside the message, in {frames} frames");
    assert!(most <= 256 * 1024, "{most}");
}

/// Frames as events of one author.
fn events(author: &Keys, to: PublicKey, about: Option<EventId>, frames: Vec<String>) -> Vec<Event> {
    let event = |content| {
        let tags = [Tag::public_key(to)].into_iter().chain(about.map(Tag::event)).collect();
        author.sign_draft(&Draft::new(author.public_key(), NOW.unix, Tags::from_list(tags), content), [7; 32])
    };
    frames.into_iter().map(event).collect()
}

/// What a gift wrap around such an event opens to.
fn open(event: &Event, recipient: PublicKey) -> Opened {
    let wrap = Protection::Wrapped(WrapKind::Ephemeral);
    Opened::check(event.clone(), wrap, event.id, &recipient, NOW.unix, 600).expect("it is in order")
}

/// The token that the request has on the wire.
fn token(request: &Outbound) -> String {
    let request: serde_json::Value = serde_json::from_str(&request.draft.content).expect("it is JSON");
    request["params"]["_meta"]["progressToken"].as_str().expect("every call has a token").to_owned()
}

#[test]
fn a_client_holds_at_most_three_times_the_answer_that_it_receives() {
    let (server, client) = (keys(0x11), keys(0x22));
    let config = ClientConfig {
        server: server.public_key(),
        encryption: EncryptionMode::Optional,
        gift_wrap: GiftWrapMode::Ephemeral,
        stateless: true,
        answer_server_requests: false,
        limits: Limits::default(),
        open_streams: false,
        show_frames: false,
        request_tags: Vec::new(),
    };
    let mut machine = ClientMachine::new(config, client.public_key(), [1; 32]);
    let ask = r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"large"}}"#;
    machine.handle(ClientInput::Send(ask.to_owned()), NOW);
    let request = core::iter::from_fn(|| machine.poll_output()).find_map(|output| match output {
        ClientOutput::Publish(outbound) => Some(outbound),
        _ => None,
    });
    let request = request.expect("it is published");
    machine.handle(ClientInput::Published(request.ticket, Outcome::Accepted), NOW);
    let frames = frames(answer(&format!("\"{}\"", request.draft.id.to_hex())), &token(&request));
    let events = events(&server, client.public_key(), Some(request.draft.id), frames);
    let (most, delivered) = peak(|| {
        let mut delivered = None;
        for event in &events {
            machine.handle(ClientInput::Opened(Box::new(open(event, client.public_key()))), NOW);
            while let Some(output) = machine.poll_output() {
                if let ClientOutput::Deliver { message, .. } = output {
                    delivered = Some(message);
                }
            }
        }
        delivered
    });
    println!("client machine, 16 MiB: at most {most} bytes, {:.3} times", most as f64 / SIZE as f64);
    assert!(delivered.is_some_and(|message| message.len() > SIZE - 128 && message.contains("\"id\":17")));
    assert!(most <= 3 * SIZE, "{most}");
}

#[test]
fn a_server_holds_at_most_three_times_the_request_that_it_receives() {
    let (server, client) = (keys(0x11), keys(0x22));
    let config = ServerConfig { accept_from: NOW.unix - 300, ..ServerConfig::default() };
    let mut machine = ServerMachine::new(config, server.public_key(), [1; 32]);
    let mut contents = vec![r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#.to_owned()];
    contents.extend(frames(request("t"), "t"));
    let events = events(&client, server.public_key(), None, contents);
    let mut hear = |event: &Event| {
        let mut delivered = None;
        machine.handle(ServerInput::Opened(Box::new(open(event, server.public_key()))), NOW);
        while let Some(output) = machine.poll_output() {
            match output {
                ServerOutput::Publish(outbound) => {
                    machine.handle(ServerInput::Published(outbound.ticket, Outcome::Accepted), NOW);
                }
                ServerOutput::Deliver { message, .. } if message.contains("ping") => {
                    // Who had a request answered may send large ones.
                    let id = message.split('"').find(|part| part.len() == 64).unwrap_or_default();
                    let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{}}}}"#);
                    machine.handle(ServerInput::Send { to: client.public_key(), message }, NOW);
                }
                ServerOutput::Deliver { message, .. } => delivered = Some(message),
                _ => {}
            }
        }
        delivered
    };
    let (most, delivered) = peak(|| events.iter().fold(None, |before, event| hear(event).or(before)));
    println!("server machine, 16 MiB: at most {most} bytes, {:.3} times", most as f64 / SIZE as f64);
    assert!(delivered.is_some_and(|message| message.len() > SIZE - 128));
    assert!(most <= 3 * SIZE, "{most}");
}
