//! Answers to list requests carry what their server says about the list: once, last, and again with every repeat.
use contextvm_core::Limits;
use contextvm_engine::{Identity, RequestKey, ServerConfig, ServerInput};
use nostr::event::Tag;

use crate::world::{PLAIN, WRAP, World, call, public};

fn priced() -> Vec<Tag> {
    vec![Tag::custom("cap", ["tool:a", "100", "sats"]), Tag::custom("k", ["x"])]
}

fn answer(world: &mut World, nth: usize, tags: Vec<Tag>) -> Vec<String> {
    let (to, id) = (world.events[nth].pubkey, world.events[nth].id.to_hex());
    let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"tools":[]}}}}"#);
    world.handle(ServerInput::Answer { to, message, tags })
}

fn method_of(world: &World, nth: usize) -> Option<&'static str> {
    let event = &world.events[nth];
    world.machine.list_method(&RequestKey { caller: event.pubkey, id: event.id })
}

#[test]
fn the_tags_come_after_all_others() {
    let identity = Identity { name: Some("n".to_owned()), ..Identity::default() };
    let mut world = World::new(ServerConfig { identity, ..ServerConfig::default() });
    world.from(1, PLAIN, &call(1, "tools/list"));
    let first = answer(&mut world, 0, priced());
    let common = "name=n,support_encryption,support_encryption_ephemeral,support_oversized_transfer,support_open_stream,support_repeats";
    assert_eq!(
        first,
        [format!(
            r#"publish 25910 to c1 [e=$0,{common},cap=tool:a=100=sats,k=x] {{"jsonrpc":"2.0","id":1,"result":{{"tools":[]}}}}"#
        )]
    );
    world.from(1, PLAIN, &call(2, "tools/list"));
    let second = answer(&mut world, 1, priced());
    assert!(second[0].starts_with("publish 25910 to c1 [e=$1,cap=tool:a=100=sats,k=x] "), "{second:?}");
}

#[test]
fn repeats_say_the_same() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, WRAP, &call(1, "tools/list"));
    world.from(2, PLAIN, &call(1, "tools/list"));
    for nth in 0..2 {
        answer(&mut world, nth, priced());
    }
    world.again(0, WRAP);
    world.again(1, PLAIN);
    assert_eq!(world.drafts.len(), 4);
    assert_eq!(world.drafts[2].id, world.drafts[0].id, "the very same event in another wrap");
    assert_eq!(world.drafts[3].tags, world.drafts[1].tags);
    assert!(world.drafts[1].tags.iter().any(|tag| tag.as_slice()[0] == "cap"));
}

#[test]
fn only_open_list_requests_count_however_they_end() {
    let mut world = World::new(ServerConfig::default());
    let lists = ["tools/list", "resources/list", "resources/templates/list", "prompts/list"];
    for (nth, method) in (0..).zip(lists) {
        world.from(1, PLAIN, &call(nth, method));
    }
    world.from(1, PLAIN, &call(9, "tools/call"));
    assert_eq!(world.machine.open_lists(), 4);
    for (nth, method) in lists.into_iter().enumerate() {
        assert_eq!(method_of(&world, nth), Some(method));
    }
    assert_eq!(method_of(&world, 4), None);
    world.done(0);
    assert_eq!((world.machine.open_lists(), method_of(&world, 0)), (3, None));
    world.from(1, PLAIN, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    world.pass(61);
    assert_eq!(world.machine.open_lists(), 2);
    world.handle(ServerInput::SessionClosed(public(1)));
    assert_eq!(world.machine.open_lists(), 0);
}

#[test]
fn tags_that_do_not_fit_are_left_out_and_the_answer_goes() {
    let limits = Limits { inner_event: 800, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..ServerConfig::default() });
    world.from(1, WRAP, &call(1, "tools/list"));
    let tags = vec![Tag::custom("cap", ["tool:a".to_owned(), "1".repeat(700), "sats".to_owned()])];
    let lines = answer(&mut world, 0, tags);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("\"tools\":[]") && !lines[0].contains("cap="), "{lines:?}");
}

#[test]
fn notifications_carry_none() {
    let mut world = World::new(ServerConfig::default());
    world.from(1, PLAIN, &call(1, "ping"));
    world.done(0);
    let message = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#.to_owned();
    let lines = world.handle(ServerInput::Answer { to: public(1), message, tags: priced() });
    assert_eq!(lines, [r#"publish 25910 to c1 [] {"jsonrpc":"2.0","method":"notifications/message"}"#]);
}
