//! Requests that no relay takes as one event go out as transfers.
use contextvm_core::Limits;
use contextvm_engine::client::Lost;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientOutput, Direction, EncryptionMode, Outbound, Outcome,
};
use nostr::event::Tag;

use crate::pieces::{Server, WRAP, answer_ping, cause, delivered, meet, published, request, shapes};
use crate::rig::{Rig, config};

/// Relays take everything and pass it on at once; returns all outputs.
fn move_all(rig: &mut Rig, server: &mut Server, first: Vec<ClientOutput>) -> Vec<ClientOutput> {
    let mut all = first;
    let mut at = 0;
    while let Some(output) = all.get(at) {
        at += 1;
        if let ClientOutput::Publish(outbound) = output.clone() {
            all.extend(rig.handle(ClientInput::Published(outbound.ticket, Outcome::Accepted)));
            all.extend(server.hear(rig, &outbound));
        }
    }
    all
}

fn lost(outputs: &[ClientOutput]) -> Vec<Lost> {
    let each = outputs.iter().filter_map(|output| match output {
        ClientOutput::Lost(lost) => Some(*lost),
        _ => None,
    });
    each.collect()
}

#[test]
fn a_large_request_arrives_whole_and_its_end_frame_is_the_request() {
    for encryption in [EncryptionMode::Optional, EncryptionMode::Disabled] {
        for known in [true, false] {
            let request_tags = vec![Tag::parse(["pmi", "x"]).unwrap()];
            let mut rig = Rig::new(ClientConfig { encryption, request_tags, ..config() });
            if known {
                meet(&mut rig);
            }
            let mut server = Server::new();
            let text = request("7", Some("\"mine\""), 1_000_000);
            let first = rig.send(&text);
            assert_eq!(rig.machine.pending_calls(), 1);
            let outputs = move_all(&mut rig, &mut server, first);
            let frames = published(&outputs);
            let [(message, end)] = &server.got[..] else { panic!("{} messages", server.got.len()) };
            assert_eq!(*message, text);
            assert_eq!(*end, frames.last().unwrap().draft.id);
            // Flags and payment tags are on the first frame, payment tags on the last.
            let tags = |frame: &Outbound| frame.draft.tags.len();
            let flags = if encryption == EncryptionMode::Disabled { 2 } else { 4 };
            let frames = if known { &frames[..] } else { &frames[1..] };
            assert_eq!(tags(&frames[0]), 2 + flags);
            assert_eq!(tags(frames.last().unwrap()), 2);
            assert!(frames[1..frames.len() - 1].iter().all(|frame| tags(frame) == 1));
            // The server's answer names the end frame.
            let outputs = rig.say(WRAP, vec![Tag::event(*end)], r#"{"jsonrpc":"2.0","id":"x","result":{}}"#);
            assert_eq!(delivered(&outputs), [r#"{"jsonrpc":"2.0","id":7,"result":{}}"#]);
            assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None));
        }
    }
}

#[test]
fn every_piece_that_a_relay_took_is_news_and_is_forgotten() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let outputs = rig.send(&request("\"a\"", None, 300_000));
    let outputs = rig.take_all(outputs);
    let moved: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            ClientOutput::Moved(moved) => Some(moved),
            _ => None,
        })
        .collect();
    assert!(moved.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    assert!(moved.iter().all(|moved| moved.id.get() == "\"a\"" && moved.direction == Direction::Sent));
    let last = moved.last().unwrap();
    assert_eq!(last.bytes, last.total);
    let forgotten = outputs.iter().filter(|output| matches!(output, ClientOutput::Forget(_))).count();
    // All but the end frame, which is kept as every request is.
    assert_eq!(forgotten, published(&outputs).len() - 1);
    assert_eq!(moved.len(), forgotten);
}

#[test]
fn a_server_that_was_never_heard_is_greeted_and_then_known() {
    let flag = |name: &str| Tag::parse([name]).unwrap();
    for (flags, first) in [
        (vec![flag("support_oversized_transfer")], Some(("chunk", 2))),
        (vec![flag("support_encryption")], None),
        (vec![], Some(("chunk", 3))),
    ] {
        let mut rig = Rig::new(config());
        let outputs = rig.send(&request("1", None, 100_000));
        let [ping] = published(&outputs).try_into().unwrap();
        assert_eq!(ping.draft.tags.len(), 5, "it says who we are");
        let outputs = answer_ping(&mut rig, &ping, flags);
        let Some(first) = first else {
            assert_eq!(lost(&outputs), [Lost::TooLarge]);
            assert_eq!(rig.machine.pending_calls(), 0);
            continue;
        };
        let mut outputs = rig.take_all(outputs);
        if first.1 == 3 {
            let waited = rig.wait(3_100);
            outputs.extend(rig.take_all(waited));
        }
        assert_eq!(shapes(&published(&outputs))[..2], [("start", 1), first]);
        assert!(
            rig.say(WRAP, vec![Tag::event(ping.draft.id)], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
                .is_empty()
        );
    }
}

#[test]
fn a_server_that_takes_no_transfers_gets_one_event_if_that_is_not_too_large() {
    let mut rig = Rig::new(config());
    let text = request("1", Some("5"), 40_000);
    let [ping] = published(&rig.send(&text)).try_into().unwrap();
    let outputs = answer_ping(&mut rig, &ping, vec![Tag::parse(["support_encryption"]).unwrap()]);
    let asked = published(&outputs).pop().unwrap();
    assert_eq!(asked.draft.content, text);
    let outputs = rig.say(WRAP, vec![Tag::event(asked.draft.id)], r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    assert_eq!(delivered(&outputs).len(), 1);
}

#[test]
fn a_peer_that_never_says_anything_gets_everything_after_a_while() {
    let mut rig = Rig::new(config());
    let outputs = rig.send(&request("1", None, 100_000));
    let pings = rig.take_all(outputs);
    assert_eq!((published(&pings).len(), published(&rig.wait(8_900)).len()), (1, 2), "three pings");
    let outputs = rig.wait(200);
    let outputs = rig.take_all(outputs);
    assert_eq!(shapes(&published(&outputs)), [("start", 1)]);
    assert!(published(&rig.wait(2_800)).is_empty());
    let outputs = rig.wait(200);
    let outputs = rig.take_all(outputs);
    let shapes = shapes(&published(&outputs));
    // Few chunks leave the number behind the start free for an accept.
    assert_eq!(shapes[0], ("chunk", 3));
    assert_eq!(shapes.last(), Some(&("end", shapes.len() as u64 + 2)));
}

#[test]
fn a_server_that_may_have_forgotten_us_is_greeted_first() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let outputs = rig.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let [ping] = published(&outputs).try_into().unwrap();
    let _answered = rig.say(WRAP, vec![Tag::event(ping.draft.id)], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let _quiet = rig.wait(900_000);
    let outputs = rig.send(&request("1", None, 100_000));
    let [greeting] = published(&outputs).try_into().unwrap();
    assert!(greeting.draft.content.contains("\"ping\""));
    assert_eq!(greeting.draft.tags.len(), 5, "it says who we are");
    let flag = Tag::parse(["support_oversized_transfer"]).unwrap();
    let outputs = answer_ping(&mut rig, &greeting, vec![flag]);
    assert!(published(&rig.take_all(outputs)).len() > 2, "and then come the frames");
}

#[test]
fn a_server_that_has_forgotten_us_is_greeted_and_gets_it_once_more() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let text = request("1", Some("5"), 100_000);
    let refusal = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"5","progress":2,"cvm":{"type":"oversized-transfer","frameType":"abort","reason":"transfers need an established session"}}}"#;
    let outputs = rig.send(&text);
    assert_eq!(published(&outputs).len(), 1);
    let [ping] = published(&rig.say(WRAP, vec![], refusal)).try_into().unwrap();
    let outputs = answer_ping(&mut rig, &ping, vec![]);
    let [start] = published(&outputs).try_into().unwrap();
    assert!(start.draft.tags.len() > 1, "with our flags");
    let mut server = Server::new();
    let outputs = move_all(&mut rig, &mut server, outputs);
    assert_eq!((server.got.len(), &server.got[0].0), (1, &text));
    assert!(delivered(&outputs).is_empty());
    // Only once.
    let mut rig = Rig::new(config());
    meet(&mut rig);
    rig.send(&text);
    let [ping] = published(&rig.say(WRAP, vec![], refusal)).try_into().unwrap();
    answer_ping(&mut rig, &ping, vec![]);
    let outputs = rig.say(WRAP, vec![Tag::parse(["x"]).unwrap()], refusal);
    assert!(cause(&outputs).ends_with("transfers need an established session"));
    assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None));
}

#[test]
fn no_more_than_48_pieces_are_on_their_way_and_all_requests_get_their_turn() {
    let limits = Limits { in_flight_bytes: 64 * 1024 * 1024, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    meet(&mut rig);
    let mut flying = std::collections::VecDeque::new();
    for id in 0..12 {
        flying.extend(published(&rig.send(&request(&id.to_string(), None, 900_000))));
    }
    let (mut most, mut ends) = (0, 0);
    let mut shares = std::collections::BTreeMap::new();
    while let Some(outbound) = flying.pop_front() {
        let is_end = |outbound: &Outbound| outbound.draft.content.contains(r#""frameType":"end""#);
        most = most.max(flying.iter().chain([&outbound]).filter(|outbound| !is_end(outbound)).count());
        let token = outbound.draft.content.split('"').nth(11).unwrap_or_default().to_owned();
        *shares.entry(token).or_insert(0_usize) += 1;
        ends += usize::from(is_end(&outbound));
        flying.extend(published(&rig.handle(ClientInput::Published(outbound.ticket, Outcome::Accepted))));
        let (least, largest) = (shares.values().min().unwrap(), shares.values().max().unwrap());
        assert!(shares.len() < 12 || ends > 0 || largest - least <= 20, "{least} {largest}");
    }
    assert_eq!(most, 48);
    assert_eq!((ends, rig.machine.pending_calls()), (12, 12));
}

#[test]
fn a_piece_of_which_nothing_is_known_is_published_twice_and_then_taken_for_sent() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let [start] = published(&rig.send(&request("1", None, 100_000))).try_into().unwrap();
    let outputs = rig.handle(ClientInput::Published(start.ticket, Outcome::Unknown));
    let [again] = published(&outputs).try_into().unwrap();
    assert_eq!(again.draft, start.draft);
    assert_ne!(again.ticket, start.ticket);
    let outputs = rig.handle(ClientInput::Published(again.ticket, Outcome::Unknown));
    assert_eq!(shapes(&published(&outputs)), [("chunk", 2)]);
}

#[test]
fn a_relay_that_refuses_for_the_size_makes_pieces_smaller_once() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let too_large = || Outcome::Refused("invalid: event too large".to_owned());
    let mut server = Server::new();
    let text = request("1", None, 200_000);
    let [start] = published(&rig.send(&text)).try_into().unwrap();
    let outputs = rig.handle(ClientInput::Published(start.ticket, Outcome::Accepted));
    server.hear(&mut rig, &start);
    let [chunk] = published(&outputs).try_into().unwrap();
    let outputs = rig.handle(ClientInput::Published(chunk.ticket, too_large()));
    assert_eq!(shapes(&published(&outputs)), [("abort", 3)]);
    let outputs = move_all(&mut rig, &mut server, outputs);
    let frames = published(&outputs);
    let largest = frames.iter().map(|frame| frame.draft.content.len()).max().unwrap();
    assert!(largest * 2 < chunk.draft.content.len() + 4_096, "{largest}");
    assert_eq!(server.got.len(), 1);
    assert!(server.got[0].0.starts_with(text.trim_end_matches('}')), "the token comes at the end");
    // The next one is cut so from the beginning.
    let outputs = rig.send(&request("2", None, 200_000));
    let outputs = rig.take_all(outputs);
    let next = published(&outputs).iter().map(|frame| frame.draft.content.len()).max().unwrap();
    assert!(next <= largest + 64, "{next} {largest}");
    // A second refusal ends the call.
    let [start] = published(&rig.send(&request("3", None, 200_000))).try_into().unwrap();
    let taken = |rig: &mut Rig, outputs: &[ClientOutput]| {
        let ticket = published(outputs).pop().unwrap().ticket;
        rig.handle(ClientInput::Published(ticket, Outcome::Accepted))
    };
    let chunk = rig.handle(ClientInput::Published(start.ticket, Outcome::Accepted));
    let refused = ClientInput::Published(published(&chunk)[0].ticket, too_large());
    let abort = rig.handle(refused);
    let start = taken(&mut rig, &abort);
    let chunk = taken(&mut rig, &start);
    let refused = ClientInput::Published(published(&chunk)[0].ticket, too_large());
    assert_eq!(cause(&rig.handle(refused)), "relays take no frame of this size");
}

#[test]
fn what_every_relay_refuses_is_given_up_after_half_a_minute() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let mut outputs = rig.send(&request("1", None, 100_000));
    let started = rig.now.mono.0;
    loop {
        let [frame] = published(&outputs).try_into().unwrap();
        let refused = Outcome::Refused("blocked: no".to_owned());
        outputs = rig.handle(ClientInput::Published(frame.ticket, refused));
        if !delivered(&outputs).is_empty() {
            break;
        }
        while published(&outputs).is_empty() {
            outputs.extend(rig.wait(100));
        }
        outputs.retain(|output| matches!(output, ClientOutput::Publish(_)));
    }
    assert_eq!((cause(&outputs).as_str(), lost(&outputs)), ("no relay took a frame", vec![Lost::Transfer]));
    assert!((30_000..40_000).contains(&(rig.now.mono.0 - started)));
    assert_eq!(rig.machine.pending_calls(), 0);
}

#[test]
fn a_request_can_be_taken_back_at_every_stage() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for stage in 0..6 {
        let mut rig = Rig::new(config());
        meet(&mut rig);
        let mut outputs = rig.send(&request("1", None, 100_000));
        for _ in 0..stage {
            let flying = published(&outputs);
            outputs = Vec::new();
            for frame in flying {
                outputs.extend(rig.handle(ClientInput::Published(frame.ticket, Outcome::Accepted)));
            }
        }
        let is_asked = shapes(&published(&outputs)).contains(&("end", 6)) || outputs.is_empty();
        let outputs = rig.send(cancel);
        let sent = published(&outputs);
        assert_eq!(sent.len(), 1, "stage {stage}: {outputs:?}");
        let is_abort = sent[0].draft.content.contains(r#""frameType":"abort""#);
        assert_eq!((is_abort, sent[0].draft.content == cancel), (!is_asked, is_asked), "stage {stage}");
        assert_eq!(rig.machine.pending_calls(), 0);
        assert!(delivered(&outputs).is_empty());
        // What was on its way reports its outcome to nobody.
        let outputs = rig.take_all(sent.into_iter().map(ClientOutput::Publish).collect());
        assert!(published(&outputs).len() == 1 && delivered(&outputs).is_empty());
        assert_eq!(rig.machine.poll_timeout(), None);
    }
}

#[test]
fn an_abort_of_the_server_ends_the_call_in_its_words_before_and_after_the_end() {
    for after_end in [false, true] {
        let mut rig = Rig::new(config());
        meet(&mut rig);
        let text = request("1", Some("5"), 100_000);
        let mut outputs = rig.send(&text);
        if after_end {
            outputs = rig.take_all(outputs);
        }
        assert_eq!(shapes(&published(&outputs)).iter().any(|shape| shape.0 == "end"), after_end);
        let abort = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"5","progress":9,"cvm":{"type":"oversized-transfer","frameType":"abort","reason":"no room\u001b[2J"}}}"#;
        let outputs = rig.say(WRAP, vec![], abort);
        let cause = cause(&outputs);
        assert!(cause.starts_with("aborted by the peer: no room") && !cause.contains('\u{1b}'), "{cause}");
        assert!(published(&outputs).is_empty(), "it knows");
        let retryable = delivered(&outputs)[0].contains(r#""retryable":true"#);
        assert_eq!(retryable, !after_end, "before its end nothing of it was executed");
        assert_eq!((rig.machine.pending_calls(), lost(&outputs)), (0, vec![Lost::Transfer]));
        assert_eq!(rig.machine.poll_timeout(), None);
    }
}

#[test]
fn an_end_frame_goes_again_as_any_request_does() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let outputs = rig.send(&request("1", None, 100_000));
    let end = published(&rig.take_all(outputs)).pop().unwrap();
    // The server keeps the promise of repeats, so a new wrap of the same event follows.
    let outputs = rig.wait(3_000);
    assert!(
        matches!(outputs[..], [ClientOutput::Republish { ticket, rewrap: true }] if ticket == end.ticket),
        "{outputs:?}"
    );
    let outputs = rig.wait(120_000);
    assert_eq!(lost(&outputs), [Lost::NoReply]);
}

#[test]
fn requests_on_their_way_count_as_calls_and_in_bytes() {
    let limits = Limits { pending: 2, in_flight_bytes: 250_000, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    meet(&mut rig);
    assert_eq!(lost(&rig.send(&request("1", None, 200_000))), []);
    assert_eq!(lost(&rig.send(&request("2", None, 100_000))), [Lost::Busy]);
    assert_eq!(lost(&rig.send(&request("3", None, 1_000))), []);
    assert_eq!(lost(&rig.send(&request("4", None, 10))), [Lost::Busy]);
    let outputs = rig.handle(ClientInput::Close);
    assert_eq!(lost(&outputs), [Lost::Closed, Lost::Closed]);
    assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None));
}

#[test]
fn requests_that_turn_into_events_were_counted_as_such() {
    let (one, other) = (request("1", Some("5"), 40_000), request("2", Some("6"), 40_000));
    let in_flight_bytes = one.len() + other.len() + 1_000;
    let limits = Limits { in_flight_bytes, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, ..config() });
    let [ping] = published(&rig.send(&one)).try_into().unwrap();
    assert_eq!(lost(&rig.send(&other)), [Lost::Busy]);
    let outputs = answer_ping(&mut rig, &ping, vec![Tag::parse(["support_encryption"]).unwrap()]);
    assert_eq!(published(&outputs).len(), 1);
    assert!((one.len()..=in_flight_bytes).contains(&rig.machine.load().pending_bytes));
}

#[test]
fn a_request_that_is_not_moved_on_ends_in_time() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let outputs = rig.send(&request("1", None, 100_000));
    assert_eq!(published(&outputs).len(), 1);
    let outputs = rig.wait(61_000);
    assert_eq!((cause(&outputs).as_str(), lost(&outputs)), ("transfer took too long", vec![Lost::Transfer]));
    assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None));
}

#[test]
fn what_relays_take_decides_between_one_event_and_many() {
    for (limit, in_pieces) in [(40_000, true), (131_072, false)] {
        let mut rig = Rig::new(ClientConfig { encryption: EncryptionMode::Disabled, ..config() });
        meet(&mut rig);
        rig.handle(ClientInput::RelayLimit(limit));
        let outputs = rig.send(&request("1", None, 45_000));
        assert_eq!(shapes(&published(&outputs)).is_empty(), !in_pieces, "{limit}");
    }
}

#[test]
fn an_accept_that_comes_late_says_nothing_about_the_end_frame() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let mut server = Server::new();
    let mut all = rig.send(&request("7", None, 80_000));
    let mut at = 0;
    let (mut start, mut end) = (None, None);
    while let Some(output) = all.get(at).cloned() {
        at += 1;
        let ClientOutput::Publish(outbound) = output else { continue };
        match shapes(std::slice::from_ref(&outbound))[..] {
            [("end", _)] => end = Some(outbound.ticket),
            [(name, _)] => {
                if name == "start" {
                    start = Some(outbound.clone());
                }
                all.extend(rig.handle(ClientInput::Published(outbound.ticket, Outcome::Accepted)));
            }
            _ => {}
        }
    }
    let (start, end) = (start.unwrap(), end.unwrap());
    server.hear(&mut rig, &start);
    rig.handle(ClientInput::Published(end, Outcome::Refused("no relay could be reached".into())));
    let again = rig.wait(5_000);
    let is_end =
        |output: &ClientOutput| matches!(output, ClientOutput::Republish { ticket, .. } if *ticket == end);
    assert!(again.iter().any(is_end), "{again:?}");
}
