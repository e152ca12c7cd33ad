//! Accessors: tags, the initialize event, list events, what the server supports.
use contextvm_core::{Protection, WrapKind};
use contextvm_engine::ClientOutput;
use contextvm_engine::client::Exchange;
use nostr::event::Tag;

use crate::rig::{check, config};

#[test]
fn what_is_remembered_of_the_server() {
    let rig = check(
        config(),
        r#"
        > server plain +name=Demo +support_encryption {"jsonrpc":"2.0","method":"notifications/a"}
        learned
        deliver {"jsonrpc":"2.0","method":"notifications/a"}
        "#,
    );
    assert!(rig.machine.server_supports_encryption());
    assert!(!rig.machine.server_supports_ephemeral_encryption());
    assert_eq!(rig.machine.server_tags().name.as_deref(), Some("Demo"));
    assert!(rig.machine.initialize_event().unwrap().content.contains("notifications/a"));
    assert!(rig.machine.initialize_result().is_none());

    let rig = check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}
        > server 21059 e1 +name=Demo +support_encryption +support_encryption_ephemeral {"jsonrpc":"2.0","id":0,"result":{"serverInfo":{ "name":"x" }}}
        learned
        forget 1
        deliver {"jsonrpc":"2.0","id":0,"result":{"serverInfo":{ "name":"x" }}}
        > app {"jsonrpc":"2.0","id":1,"method":"tools/list"}
        publish 2 21059 {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":"c-1"}}}
        > server 21059 e2 +cap=tool:x=100=sat {"jsonrpc":"2.0","id":1,"result":{"tools":[]}}
        forget 2
        deliver {"jsonrpc":"2.0","id":1,"result":{"tools":[]}}
        > app {"jsonrpc":"2.0","id":1,"method":"resources/list"}
        publish 3 21059 {"jsonrpc":"2.0","id":1,"method":"resources/list","params":{"_meta":{"progressToken":"c-2"}}}
        > server 21059 e3 {"jsonrpc":"2.0","error":{"code":-32601,"message":"no"},"id":1}
        forget 3
        deliver {"jsonrpc":"2.0","error":{"code":-32601,"message":"no"},"id":1}
        "#,
    );
    let machine = &rig.machine;
    assert!(machine.server_supports_encryption() && machine.server_supports_ephemeral_encryption());
    assert_eq!(machine.initialize_result().unwrap().get(), r#"{"serverInfo":{ "name":"x" }}"#);
    assert!(machine.initialize_event().unwrap().content.contains("serverInfo"));
    let tools = machine.tools_list_event().unwrap();
    assert!(tools.tags.iter().any(|tag| tag.as_slice() == ["cap", "tool:x", "100", "sat"]));
    assert!(machine.resources_list_event().is_none());
    assert!(machine.resource_templates_list_event().is_none());
    assert!(machine.prompts_list_event().is_none());
}

#[test]
fn an_answer_comes_with_the_events_that_asked_and_answered() {
    let mut rig = check(
        config(),
        r#"
        > app {"jsonrpc":"2.0","id":1,"method":"tools/list"}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_unordered_streams {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":"c-1"}}}
        "#,
    );
    let request = rig.id_of(1);
    let wrap = Protection::Wrapped(WrapKind::Ephemeral);
    let outputs =
        rig.say(wrap, vec![Tag::event(request)], r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
    let Some(ClientOutput::Deliver { exchange, .. }) = outputs.last() else { panic!("{outputs:?}") };
    let response = rig.machine.tools_list_event().unwrap().id;
    assert_eq!(*exchange, Some(Exchange { request, response, protection: wrap }));
}
