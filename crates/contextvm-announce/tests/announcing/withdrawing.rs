//! What is deleted, and how a deletion is written and read.
use contextvm_announce::{AnnouncerInput, Deletion, Signed, Withdrawal};
use contextvm_crypto::Keys;
use nostr::event::{EventId, Tag, Tags};

use crate::stage::{App, BEGIN, Stage, announcing, kinds, me, tags};

fn app() -> App {
    App::legacy(r#"{"tools":{},"prompts":{}}"#)
        .with("tools/list", &[r#"{"tools":[]}"#])
        .with("prompts/list", &[r#"{"prompts":[]}"#])
}

#[test]
fn a_list_that_is_no_more_is_deleted_and_comes_back_with_a_later_stamp() {
    let (mut stage, first) = Stage::started(announcing(), app());
    let prompts = crate::stage::of_kind(&first, 11320).clone();
    stage.app = app().refusing("prompts/list", -32601);
    stage.heard("prompts");
    stage.now.unix = BEGIN;
    let deletion = stage.wait_secs(2);
    assert_eq!(kinds(&deletion), [5]);
    let address = format!("11320:{}:", me().to_hex());
    let id = prompts.id(&me()).to_hex();
    assert_eq!(tags(&deletion[0]), [["e", &id], ["a", &address], ["k", "11320"]]);
    assert!(deletion[0].created_at > prompts.created_at);
    stage.heard("prompts");
    assert!(stage.wait_secs(60).is_empty(), "once is enough");
    stage.app = app();
    stage.now.unix = BEGIN;
    stage.heard("prompts");
    let again = stage.wait_secs(2);
    assert_eq!(kinds(&again), [11320]);
    assert!(again[0].created_at > deletion[0].created_at);
    assert_eq!(again[0].content, prompts.content);
}

#[test]
fn what_an_earlier_run_published_is_deleted_when_the_list_is_no_more() {
    let id = EventId::from_byte_array([9; 32]);
    let known = |kind| AnnouncerInput::Known { kind, created_at: BEGIN - 9, id: Some(id) };
    let mut stage = Stage::new(announcing(), app());
    for kind in [0, 10002, 11316, 11317, 11318] {
        stage.tell(known(kind));
    }
    let published = stage.tell(AnnouncerInput::Start);
    assert_eq!(
        kinds(&published),
        [11316, 5, 11317, 11320],
        "a profile and a relay list may be somebody else's"
    );
    let deletion = crate::stage::of_kind(&published, 5);
    let address = format!("11318:{}:", me().to_hex());
    assert_eq!(tags(deletion), [["e", &id.to_hex()], ["a", &address], ["k", "11318"]]);
}

#[test]
fn a_deletion_that_no_relay_takes_goes_out_again() {
    let (mut stage, _) = Stage::started(announcing(), app());
    stage.app = app().refusing("prompts/list", -32601);
    stage.taken = false;
    stage.heard("prompts");
    let first = stage.wait_secs(2);
    assert_eq!(stage.wait_secs(5), first);
}

#[test]
fn what_was_drafted_is_read_and_addresses_of_others_are_not() {
    let keys = Keys::from_secret_bytes([0x11; 32]).unwrap();
    let author = keys.public_key();
    let ids = vec![EventId::from_byte_array([1; 32]), EventId::from_byte_array([2; 32])];
    let deletion = Deletion { author, kind: 11317, ids: ids.clone(), reason: "moved".to_owned() };
    let draft = deletion.draft(BEGIN);
    let mut list = draft.tags.clone().to_vec();
    for address in
        [format!("11318:{}:", me().to_hex()), format!("30000:{}:d", author.to_hex()), "x".to_owned()]
    {
        list.push(Tag::custom("a", [address]));
    }
    list.push(Tag::custom("a", [format!("11320:{}", author.to_hex())]));
    list.push(Tag::custom("e", ["zz"]));
    let event = keys.sign_event(5, BEGIN, Tags::from_list(list), "x".repeat(2_000), [3; 32]);
    let read = Withdrawal::read(&Signed::verify(event).unwrap()).unwrap();
    assert_eq!((read.created_at, read.ids), (BEGIN, ids.into_iter().collect()));
    assert_eq!(read.kinds, [11317, 11320].into());
    let other = keys.sign_event(1, BEGIN, draft.tags, String::new(), [3; 32]);
    assert_eq!(Withdrawal::read(&Signed::verify(other).unwrap()), None);
}

#[test]
fn a_deletion_names_a_bounded_number_of_events() {
    let ids = (0..=255).map(|n| EventId::from_byte_array([n; 32])).collect();
    let deletion = Deletion { author: me(), kind: 11316, ids, reason: String::new() };
    assert_eq!(deletion.draft(BEGIN).tags.len(), contextvm_announce::deletion::MOST_IDS + 2);
}
