//! Answers that come as transfers, from peers that keep to the letter and from others.
use contextvm_core::Limits;
use contextvm_engine::client::Lost;
use contextvm_engine::{ClientConfig, ClientInput, ClientOutput, Direction, DropReason};
use nostr::event::{EventId, Tag};
use proptest::prelude::*;

use crate::pieces::{WRAP, answer, ask, cause, cut, delivered, meet, published, request, say_all, token_of};
use crate::rig::{Rig, config};

/// The answer as the application gets it.
fn restored(answer: &str, id: &str) -> String {
    answer.replacen("\"theirs\"", id, 1)
}

fn drops(outputs: &[ClientOutput]) -> Vec<DropReason> {
    let each = outputs.iter().filter_map(|output| match output {
        ClientOutput::Drop(reason) => Some(*reason),
        _ => None,
    });
    each.collect()
}

#[test]
fn a_large_answer_is_delivered_once_and_whole() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, &request("1", None, 10));
    let answer = answer(1_000_000);
    let frames = cut(&token_of(&asked), &answer, 40_000);
    let outputs = say_all(&mut rig, asked.draft.id, &frames);
    assert_eq!(delivered(&outputs), [restored(&answer, "1")]);
    let exchange = outputs.iter().find_map(|output| match output {
        ClientOutput::Deliver { exchange, .. } => *exchange,
        _ => None,
    });
    let exchange = exchange.unwrap();
    assert_eq!((exchange.request, exchange.response), (asked.draft.id, rig.last_said()));
    let moved: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            ClientOutput::Moved(moved) if moved.direction == Direction::Received => Some(moved.bytes),
            _ => None,
        })
        .collect();
    assert_eq!((moved.len(), moved[0], moved.last()), (frames.len(), 0, Some(&(answer.len() as u64))));
    assert!(moved.is_sorted());
    assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None));
    // Whatever comes once more is late.
    let outputs = say_all(&mut rig, asked.draft.id, &frames);
    assert_eq!(drops(&outputs), vec![DropReason::Uncorrelated; frames.len()]);
    assert_eq!(outputs.len(), frames.len());
}

#[test]
fn frames_are_found_by_their_token_whatever_e_tags_they_carry() {
    let nothing = || EventId::from_hex(&"ab".repeat(32)).unwrap();
    for tags in [vec![], vec![Tag::event(nothing())]] {
        let mut rig = Rig::new(config());
        let asked = ask(&mut rig, &request("1", Some("5"), 10));
        let answer = answer(100_000);
        let mut outputs = Vec::new();
        for frame in cut("5", &answer, 9_000) {
            outputs.extend(rig.say(WRAP, tags.clone(), &frame));
        }
        assert_eq!(delivered(&outputs), [restored(&answer, "1")]);
        let request = outputs.iter().find_map(|output| match output {
            ClientOutput::Deliver { exchange, .. } => exchange.map(|exchange| exchange.request),
            _ => None,
        });
        assert_eq!(request, Some(asked.draft.id));
    }
}

#[test]
fn frames_that_a_server_of_ours_sent_an_earlier_client_say_nothing_to_a_new_call_with_their_token() {
    let mut earlier = Rig::new(config());
    meet(&mut earlier);
    let old = ask(&mut earlier, &request("1", Some("5"), 10));
    let mut rig = Rig::new(config());
    meet(&mut rig);
    rig.wait(1_000);
    let asked = ask(&mut rig, &request("1", Some("5"), 10));
    assert_ne!(old.draft.id, asked.draft.id);
    let frames = cut("5", &answer(100_000), 9_000);
    let outputs = say_all(&mut rig, old.draft.id, &frames);
    assert_eq!(drops(&outputs), vec![DropReason::Uncorrelated; frames.len()]);
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":1}}"#;
    let outputs = rig.say(WRAP, vec![Tag::event(old.draft.id)], progress);
    assert_eq!((delivered(&outputs).len(), drops(&outputs).len()), (0, 1));
    let own = answer(90_000);
    let outputs = say_all(&mut rig, asked.draft.id, &cut("5", &own, 9_000));
    assert_eq!(delivered(&outputs), [restored(&own, "1")]);
}

#[test]
fn frames_with_the_token_of_one_call_and_the_name_of_another_belong_to_none() {
    let mut rig = Rig::new(config());
    let one = ask(&mut rig, &request("1", None, 10));
    let two = ask(&mut rig, &request("2", None, 10));
    let outputs = say_all(&mut rig, two.draft.id, &cut(&token_of(&one), &answer(10), 9_000));
    assert_eq!(drops(&outputs), [DropReason::UnknownRequest; 3]);
    assert_eq!(rig.machine.pending_calls(), 2);
}

#[test]
fn a_wrong_digest_ends_the_call_at_once_and_the_server_is_told() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, &request("1", None, 10));
    let mut frames = cut(&token_of(&asked), &answer(30_000), 9_000);
    frames[2] = frames[2].replacen("line", "lime", 1);
    let outputs = say_all(&mut rig, asked.draft.id, &frames);
    assert_eq!(cause(&outputs), "sha256 digest does not match");
    let [abort] = published(&outputs).try_into().unwrap();
    assert!(abort.draft.content.contains(r#""frameType":"abort","reason":"sha256 digest"#));
    assert!(outputs.iter().any(|output| matches!(output, ClientOutput::Lost(Lost::Transfer))));
    // What it sends all the same is late.
    let outputs = say_all(&mut rig, asked.draft.id, &frames);
    assert!(delivered(&outputs).is_empty() && published(&outputs).is_empty());
    let outputs = rig.say(WRAP, vec![Tag::event(asked.draft.id)], &answer(10));
    assert!(delivered(&outputs).is_empty());
}

#[test]
fn a_transferred_text_that_is_no_answer_ends_the_call() {
    for text in [
        r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        "no json",
        r#"{"jsonrpc":"2.0","id":1,"result":7}"#,
    ] {
        let mut rig = Rig::new(config());
        let asked = ask(&mut rig, &request("1", None, 10));
        let outputs = say_all(&mut rig, asked.draft.id, &cut(&token_of(&asked), text, 9_000));
        assert_eq!(cause(&outputs), "the assembled message is no answer");
        assert_eq!(rig.machine.pending_calls(), 0);
    }
}

#[test]
fn an_error_comes_in_pieces_too() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, &request("1", None, 10));
    let error = format!(
        r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"{}"}}}}"#,
        "no ".repeat(20_000)
    );
    let outputs = say_all(&mut rig, asked.draft.id, &cut(&token_of(&asked), &error, 9_000));
    assert_eq!(delivered(&outputs), [error]);
}

#[test]
fn a_call_that_ends_otherwise_stops_its_transfer() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for way in ["cancel", "answer", "close", "time"] {
        let mut rig = Rig::new(config());
        let asked = ask(&mut rig, &request("1", None, 10));
        let frames = cut(&token_of(&asked), &answer(50_000), 9_000);
        assert!(delivered(&say_all(&mut rig, asked.draft.id, &frames[..3])).is_empty());
        let outputs = match way {
            "cancel" => rig.send(cancel),
            "answer" => rig.say(WRAP, vec![Tag::event(asked.draft.id)], &answer(10)),
            "close" => rig.handle(ClientInput::Close),
            _ => rig.wait(70_000),
        };
        let sent = published(&outputs);
        let aborts = sent.iter().filter(|sent| sent.draft.content.contains("oversized-transfer")).count();
        assert_eq!(aborts, 1, "{way}: {outputs:?}");
        assert_eq!(delivered(&outputs).len(), usize::from(way != "cancel"), "{way}");
        let outputs = say_all(&mut rig, asked.draft.id, &frames);
        assert!(delivered(&outputs).is_empty(), "{way}");
        assert_eq!(drops(&outputs).len(), frames.len(), "{way}");
    }
}

#[test]
fn frames_keep_a_call_alive_and_silence_ends_it() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, &request("1", None, 10));
    let frames = cut(&token_of(&asked), &answer(50_000), 9_000);
    for frame in &frames[..5] {
        assert!(delivered(&rig.wait(50_000)).is_empty());
        say_all(&mut rig, asked.draft.id, std::slice::from_ref(frame));
    }
    let outputs = rig.wait(60_000);
    assert_eq!(cause(&outputs), "transfer stood still for too long");
    assert_eq!(rig.machine.pending_calls(), 0);
}

#[test]
fn frames_are_shown_to_an_application_that_asks_for_them() {
    let mut rig = Rig::new(ClientConfig { show_frames: true, ..config() });
    let asked = ask(&mut rig, &request("1", Some("5"), 10));
    let frames = cut("5", &answer(20_000), 9_000);
    let mut outputs = say_all(&mut rig, asked.draft.id, &frames);
    outputs.extend(say_all(&mut rig, asked.draft.id, &frames));
    let delivered = delivered(&outputs);
    assert_eq!(delivered.len(), frames.len() + 1);
    for (shown, frame) in delivered.iter().zip(&frames) {
        assert_eq!(*shown, frame.replacen(r#""progressToken":"5""#, r#""progressToken":5"#, 1));
    }
}

#[test]
fn calls_with_equal_tokens_get_their_own_answers() {
    let mut rig = Rig::new(ClientConfig { limits: Limits { pending: 64, ..Limits::default() }, ..config() });
    let asked: Vec<_> = (0..64).map(|id| ask(&mut rig, &request(&id.to_string(), Some("7"), 10))).collect();
    let frames: Vec<Vec<String>> = asked
        .iter()
        .enumerate()
        .map(|(id, asked)| cut(&token_of(asked), &answer(10_000 + id * 100), 4_000))
        .collect();
    let mut answers = Vec::new();
    // All at once: a frame of each in turn, and none of them says which request it is about.
    for at in 0..frames[0].len().max(frames[63].len()) {
        for frame in frames.iter().filter_map(|frames| frames.get(at)) {
            let outputs = rig.say(WRAP, vec![], frame);
            answers.extend(delivered(&outputs).into_iter().map(str::to_owned));
        }
    }
    answers.sort_by_key(String::len);
    let mut wanted: Vec<_> =
        (0..64).map(|id| restored(&answer(10_000 + id * 100), &id.to_string())).collect();
    wanted.sort_by_key(String::len);
    assert_eq!((answers.len(), rig.machine.pending_calls()), (64, 0));
    answers.sort();
    wanted.sort();
    assert_eq!(answers, wanted);
}

#[test]
fn what_an_answer_in_pieces_says_is_remembered_with_its_end_frame() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let tools = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"add","description":"{}"}}]}}}}"#,
        "x".repeat(50_000)
    );
    let mut frames = cut(&token_of(&asked), &tools, 9_000);
    let end = frames.pop().unwrap();
    say_all(&mut rig, asked.draft.id, &frames);
    let tags = vec![Tag::event(asked.draft.id), Tag::parse(["cap", "tool:add", "1", "sats"]).unwrap()];
    let outputs = rig.say(WRAP, tags, &end);
    assert_eq!(delivered(&outputs), [tools]);
    let kept = rig.machine.tools_list_event().unwrap();
    assert!(kept.tags.iter().any(|tag| tag.kind() == "cap"));
}

#[test]
fn a_server_that_answers_in_pieces_is_known_after_its_first_one() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, &request("1", None, 10));
    let frames = cut(&token_of(&asked), &answer(20_000), 9_000);
    meet(&mut rig);
    assert!(rig.machine.server_tags().oversized);
    assert_eq!(delivered(&say_all(&mut rig, asked.draft.id, &frames)).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_come_in_any_order_and_more_than_once(
        order in prop::collection::vec(any::<prop::sample::Index>(), 30),
        seed in any::<u64>(),
    ) {
        let mut rig = Rig::new(config());
        let asked = ask(&mut rig, &request("1", None, 10));
        let answer = answer(usize::try_from(seed % 60_000).unwrap());
        let frames = cut(&token_of(&asked), &answer, 5_000);
        let mut outputs = Vec::new();
        // Some come early and often, then all of them come.
        let early = order.iter().map(|index| index.get(&frames));
        let rest = frames.iter().enumerate().map(|(at, _)| &frames[(at * 7 + 3) % frames.len()]);
        for frame in early.chain(rest).chain(&frames) {
            outputs.extend(rig.say(WRAP, vec![], frame));
        }
        prop_assert_eq!(delivered(&outputs), [restored(&answer, "1")]);
        prop_assert_eq!(rig.machine.pending_calls(), 0);
        prop_assert!(published(&outputs).is_empty());
        prop_assert_eq!(rig.machine.poll_timeout(), None);
    }
}
