//! T16: somebody else ends, aborts or fills a transfer or a stream, and nothing comes of it.
use contextvm_engine::{ClientConfig, ClientInput, ClientOutput, DropReason};
use contextvm_stream::StreamBody;
use nostr::event::Tag;

use crate::pieces::{
    WRAP, answer, answer_ping, ask, chunk, cut, delivered, meet, published, request, say_all, stream_frame,
    token_of,
};
use crate::rig::{Rig, config, keys};

/// A stranger who knows everything says something.
fn stranger(rig: &mut Rig, tags: Vec<Tag>, content: &str) -> Vec<ClientOutput> {
    let event = rig.event(&keys(0x33), tags, content);
    let opened = rig.opened(event, WRAP);
    rig.handle(ClientInput::Opened(Box::new(opened)))
}

fn assert_unheard(outputs: &[ClientOutput]) {
    assert!(matches!(outputs, [ClientOutput::Drop(DropReason::WrongAuthor)]), "{outputs:?}");
}

#[test]
fn the_end_comes_from_someone_else() {
    let mut rig = Rig::new(config());
    let asked = ask(&mut rig, &request("1", None, 10));
    let answer = answer(30_000);
    let mut frames = cut(&token_of(&asked), &answer, 9_000);
    let end = frames.pop().unwrap();
    say_all(&mut rig, asked.draft.id, &frames);
    let e = vec![Tag::event(asked.draft.id)];
    assert_unheard(&stranger(&mut rig, e.clone(), &end));
    let forged = cut(&token_of(&asked), &answer.replacen("line", "lies", 1), 9_000);
    for frame in &forged {
        assert_unheard(&stranger(&mut rig, e.clone(), frame));
    }
    let outputs = rig.say(WRAP, e, &end);
    assert_eq!(delivered(&outputs).len(), 1);
    assert!(!delivered(&outputs)[0].contains("lies"));
}

#[test]
fn an_accept_or_an_abort_of_somebody_else_moves_no_upload() {
    let mut rig = Rig::new(config());
    let outputs = rig.send(&request("1", Some("5"), 100_000));
    let outputs = answer_ping(&mut rig, &published(&outputs)[0], vec![]);
    let outputs = rig.take_all(outputs);
    assert_eq!(published(&outputs).len(), 1, "it waits for an accept");
    for body in [r#""accept""#, r#""abort","reason":"no""#] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"5","progress":2,"cvm":{{"type":"oversized-transfer","frameType":{body}}}}}}}"#
        );
        assert_unheard(&stranger(&mut rig, vec![], &text));
    }
    assert_eq!(rig.machine.pending_calls(), 1);
}

#[test]
fn nobody_else_writes_into_a_stream_or_closes_it() {
    let mut rig = Rig::new(ClientConfig { open_streams: true, ..config() });
    meet(&mut rig);
    rig.handle(ClientInput::SendReading(request("1", Some("5"), 10)));
    let start = stream_frame("5", 1, StreamBody::Start(None));
    assert!(rig.say(WRAP, vec![], &start).is_empty());
    for frame in [chunk("5", 0, "lies"), stream_frame("5", 2, StreamBody::Close(None))] {
        assert_unheard(&stranger(&mut rig, vec![], &frame));
    }
    let outputs = rig.say(WRAP, vec![], &chunk("5", 0, "truth"));
    assert_eq!(rig.show(&outputs[0]), "stream 1 chunk 0 truth");
}
