//! Events that the TypeScript SDK published: ids, signatures, contents and tags are read alike.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic, and not all of their functions are marked as tests"
)]

use contextvm_core::{
    Capability, Draft, Envelope, Limits, MessageKind, Object, Opened, PeerTags, Protection, Refusal, event,
    rewrite, tags,
};
use nostr::event::Event;
use serde_json::Value;

struct Vector {
    label: String,
    event: Event,
    rpc: Value,
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(include_str!("vectors/events_25910.json")).unwrap();
    let list = file["events"].as_array().unwrap().iter().map(|vector| Vector {
        label: vector["label"].as_str().unwrap().to_owned(),
        event: Event::from_json(vector["event"].to_string()).unwrap(),
        rpc: vector["rpc"].clone(),
    });
    list.collect()
}

fn labelled(label: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.label.starts_with(label)).unwrap()
}

#[test]
fn ids_are_recomputed_and_signatures_verify() {
    assert_eq!(vectors().len(), 22);
    for Vector { label, event, .. } in vectors() {
        let draft =
            Draft::new(event.pubkey, event.created_at.as_secs(), event.tags.clone(), event.content.clone());
        assert_eq!(draft.id, event.id, "{label}");
        assert!(event.verify_signature(), "{label}");
        assert_eq!(event::print(&event), event.as_json(), "{label}");
        assert_eq!(event::read(&event.as_json()), Some(event), "{label}");
    }
}

#[test]
fn contents_parse_to_their_messages() {
    for Vector { label, event, rpc } in vectors() {
        let message = Envelope::parse(&event.content, &Limits::default()).expect(&label);
        assert_eq!(message.extra, 0, "{label}");
        assert_eq!(serde_json::from_str::<Value>(&message.to_text()).unwrap(), rpc, "{label}");
        let kind = match (rpc.get("method"), rpc.get("id"), rpc.get("error")) {
            (Some(_), Some(_), _) => MessageKind::Request,
            (Some(_), None, _) => MessageKind::Notification,
            (None, _, None) => MessageKind::Response,
            (None, _, Some(_)) => MessageKind::Error,
        };
        assert_eq!(message.kind, kind, "{label}");
        assert_eq!(Object::parse(&event.content).unwrap().to_text(), event.content, "{label}");
    }
}

#[test]
fn every_event_opens_for_its_recipient_and_for_nobody_else() {
    for Vector { label, event, .. } in vectors() {
        let to = event.tags.iter().find(|tag| tag.kind() == "p").unwrap().content().unwrap();
        let me = nostr::key::PublicKey::from_hex(to).unwrap();
        let (author, id, now) = (event.pubkey, event.id, event.created_at.as_secs());
        let check =
            |event: &Event, me, now| Opened::check(event.clone(), Protection::Plain, id, me, now, 600);

        let opened = check(&event, &me, now + 600).expect(&label);
        assert_eq!((opened.event().id, opened.outer(), opened.protection()), (id, id, Protection::Plain));
        assert_eq!(check(&event, &author, now), Err(Refusal::Audience), "{label}");
        let age = Refusal::Age { created_at: now, now: now + 601, window: 600 };
        assert_eq!(check(&event, &me, now + 601), Err(age), "{label}");
        let mut changed = event.clone();
        changed.content.push(' ');
        assert_eq!(check(&changed, &me, now), Err(Refusal::Id), "{label}");
        let mut forged = event.clone();
        forged.kind = nostr::event::Kind::from_u16(1);
        assert_eq!(check(&forged, &me, now), Err(Refusal::Kind(1)), "{label}");
        let mut borrowed = event.clone();
        borrowed.sig = vectors().into_iter().find(|other| other.event.id != id).unwrap().event.sig;
        assert_eq!(check(&borrowed, &me, now), Err(Refusal::Signature), "{label}");
    }
}

#[test]
fn the_first_server_message_says_who_it_is() {
    let request = labelled("initialize request").event;
    let response = labelled("initialize response").event;
    let mut peer = PeerTags::default();
    assert!(peer.learn(&response.tags));
    assert_eq!(peer.name.as_deref(), Some("Demo"));
    assert_eq!(peer.picture.as_deref(), Some("https://example.com/p.png"));
    assert!(peer.oversized && !peer.encryption);
    assert_eq!(peer.raw.len(), response.tags.len() - 2);
    assert_eq!(tags::answered_id(&response.tags), Some(request.id));
}

#[test]
fn tokens_and_names_are_found() {
    let call = labelled("tools/call request with progressToken").event;
    let message = Envelope::parse(&call.content, &Limits::default()).unwrap();
    assert_eq!(message.progress_token().map(|token| token.get()), Some("3"));
    let capability = Capability::of(&message).unwrap();
    assert_eq!((capability.method.as_str(), capability.name.as_deref()), ("tools/call", Some("work")));
    let progress = labelled("notifications/progress").event;
    let message = Envelope::parse(&progress.content, &Limits::default()).unwrap();
    assert_eq!(rewrite::notified_token(message.params).map(|token| token.get()), Some("3"));
}
