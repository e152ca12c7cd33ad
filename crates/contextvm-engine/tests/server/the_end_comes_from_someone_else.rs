//! Nobody adds to, ends or takes over what another caller sends or is sent, even under the same token (T16).
use contextvm_engine::ServerConfig;
use contextvm_stream::StreamBody;
use contextvm_transfer::{FrameBody, Handshake};

use crate::frames::{
    OVERSIZED, STREAMS, assembled, chunk, control, cut, frame, long_answer, long_call, met, start, types,
    upload,
};
use crate::world::{PLAIN, WRAP};

#[test]
fn a_start_and_a_chunk_of_mine_are_not_ended_by_you() {
    let mut world = met(ServerConfig::default(), [1, 2]);
    let (mine, yours) = (long_call(5, 5_000), long_call(6, 5_000));
    let (mine, yours) = (cut("t", &mine, Handshake::Skip), cut("t", &yours, Handshake::Skip));
    assert_eq!(mine.len(), yours.len());
    // The attacker begins, the victim ends: both go on alone.
    upload(&mut world, 1, &mine[..2]);
    let end = world.from(2, WRAP, yours.last().unwrap());
    assert!(end.is_empty(), "{end:?}");
    assert_eq!(world.machine.load().transfers_in, 2);
    let lines = upload(&mut world, 1, &mine[2..]);
    assert!(lines[0].starts_with("deliver c1") && lines[0].contains(r#""name":"echo""#), "{lines:?}");
    let lines: Vec<_> =
        yours[..yours.len() - 1].iter().flat_map(|frame| world.from(2, WRAP, frame)).collect();
    let last = lines.last().unwrap();
    assert!(last.starts_with("deliver c2"), "{last}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("deliver")).count(), 1);
}

#[test]
fn the_victim_begins_and_the_attacker_ends_aborts_or_overwrites() {
    let message = long_call(5, 5_000);
    let mine = cut("t", &message, Handshake::Skip);
    let mut world = met(ServerConfig::default(), [1, 2]);
    upload(&mut world, 1, &mine[..2]);
    for content in [
        frame("t", 3, FrameBody::Abort(None)),
        chunk("t", 3, "instead"),
        frame("t", 4, FrameBody::End),
        start("t", 7, 1),
    ] {
        let lines = world.from(2, PLAIN, &content);
        assert!(!lines.iter().any(|line| line.starts_with("deliver") || line.contains("to c1")), "{lines:?}");
    }
    let lines = upload(&mut world, 1, &mine[2..]);
    assert!(lines[0].starts_with("deliver c1"), "{lines:?}");
    assert!(lines[0].contains(&"x\u{e9}".repeat(1_600)));
}

#[test]
fn an_answer_under_way_is_stopped_by_its_caller_alone() {
    let mut world = met(ServerConfig::default(), [1, 2]);
    world.outcome = None;
    world.tagged(1, PLAIN, &long_call(5, 300), OVERSIZED);
    let answer = long_answer(&world, 2, 200_000);
    world.app(1, &answer);
    let abort = frame("t", 9, FrameBody::Abort(None));
    world.from(2, PLAIN, &abort);
    assert_eq!(world.machine.load().transfers_out, 1);
    world.from(1, PLAIN, &abort);
    assert_eq!(world.machine.load().transfers_out, 0);
    assert!(assembled(&world.drafts).is_none());
}

#[test]
fn a_stream_is_controlled_by_its_caller_alone() {
    let mut world = met(ServerConfig::default(), [2]);
    world.tagged(1, PLAIN, &long_call(5, 300), STREAMS);
    world.write(1, "some").0.unwrap();
    let ping = control("t", 1, StreamBody::Ping("n".into()));
    let abort = control("t", 2, StreamBody::Abort(None));
    for content in [&ping, &abort] {
        assert_eq!(world.from(2, PLAIN, content), ["drop UnknownRequest"]);
    }
    world.drafts.clear();
    assert!(world.from(1, PLAIN, &ping)[0].contains(r#""frameType":"pong","nonce":"n""#));
    assert_eq!(world.from(1, PLAIN, &abort).last().unwrap(), "failed $1 Aborted");
    assert_eq!(types(&world.drafts), ["pong", "abort"]);
}
