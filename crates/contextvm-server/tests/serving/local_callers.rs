//! A caller inside the process meets the same application as everybody, and is nobody on the wire.
use std::collections::BTreeSet;
use std::time::Duration;

use contextvm_crypto::Keys;
use contextvm_server::{
    Delivery, Error, Inbound, Listener, LocalError, Server, ServerBuilder, ServerHandle, Session, StreamError,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;

pub(crate) fn builder() -> ServerBuilder {
    Server::builder(Keys::from_secret_bytes([7; 32]).unwrap())
}

pub(crate) fn offline() -> (Listener, ServerHandle) {
    let listener = Server::offline(builder().build());
    let handle = listener.handle();
    (listener, handle)
}

pub(crate) fn params(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("it takes too long"))
}

async fn request(session: &mut Session) -> (Inbound, Value) {
    let inbound = soon(session.recv()).await.unwrap();
    let message = serde_json::from_str(&inbound.message).unwrap();
    (inbound, message)
}

type Say = fn(&Value) -> String;

fn result(message: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()
}

#[tokio::test]
async fn requests_have_ids_like_those_of_the_wire_and_answers_find_back() {
    let (mut listener, handle) = offline();
    let caller = handle.open_local().unwrap();
    let mut session = soon(listener.accept()).await.unwrap();
    assert!(session.is_local());
    assert_ne!(session.caller(), handle.public_key());
    let answering = async {
        let mut ids = BTreeSet::new();
        let mut open = Vec::new();
        for _ in 0..3 {
            let (inbound, message) = request(&mut session).await;
            let Delivery::Request { key, method, streams } = &inbound.delivery else { panic!("{inbound:?}") };
            let mut writer = session.sender().stream(*key);
            assert!(!streams && !writer.is_open());
            assert_eq!(writer.write("x").await, Err(StreamError::Ended));
            assert_eq!((key.caller, method.as_str()), (session.caller(), "tools/call"));
            assert_eq!(message["id"], json!(key.id.to_hex()));
            assert!(inbound.event.is_none(), "nobody signed it");
            assert!(ids.insert(key.id));
            open.push(message);
        }
        for message in open.into_iter().rev() {
            let n = &message["params"]["n"];
            session.sender().send(result(&message, &json!({ "n": n }))).await.unwrap();
        }
    };
    let asking = async {
        let of = |n: u64| {
            let caller = caller.sender();
            async move { caller.request("tools/call", Some(&params(&json!({ "n": n })))).await }
        };
        let (one, two, three) = tokio::join!(of(1), of(2), of(3));
        for (n, answer) in [(1, one), (2, two), (3, three)] {
            assert_eq!(answer.unwrap().get(), format!(r#"{{"n":{n}}}"#));
        }
    };
    soon(async { tokio::join!(answering, asking) }).await;
}

#[tokio::test]
async fn two_sessions_are_two_callers() {
    let (mut listener, handle) = offline();
    let (one, two) = (handle.open_local().unwrap(), handle.open_local().unwrap());
    let (mut first, mut second) = (listener.accept().await.unwrap(), listener.accept().await.unwrap());
    assert_ne!(first.caller(), second.caller());
    drop(one);
    assert!(soon(first.recv()).await.is_none());
    two.notify("notifications/initialized", None).unwrap();
    assert!(soon(second.recv()).await.is_some());
}

#[tokio::test]
async fn errors_nonsense_and_silence_are_told_apart() {
    let (mut listener, handle) = offline();
    let caller = handle.open_local().unwrap();
    let mut session = listener.accept().await.unwrap();
    let refused = LocalError::Refused { code: -32601, message: "no".to_owned() };
    let answers: [(Say, LocalError); 3] = [
        (|id| json!({"jsonrpc":"2.0","id":id,"error":{"code":-32601,"message":"no"}}).to_string(), refused),
        (|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":7,"error":8}}"#), LocalError::Unreadable),
        (
            |id| {
                let params = json!({ "requestId": id });
                json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":params}).to_string()
            },
            LocalError::Cancelled,
        ),
    ];
    for (say, expected) in answers {
        let application = async {
            let (_, message) = request(&mut session).await;
            session.sender().send(say(&message["id"])).await.unwrap();
        };
        let (answer, ()) = soon(async { tokio::join!(caller.request("x", None), application) }).await;
        assert_eq!(answer.unwrap_err(), expected);
    }
    let wait = Duration::from_millis(20);
    assert_eq!(caller.request_within("x", None, Some(wait)).await.unwrap_err(), LocalError::TimedOut(wait));
    let asked = request(&mut session).await.1;
    let (inbound, cancelled) = request(&mut session).await;
    assert_eq!(inbound.delivery, Delivery::Notification { method: "notifications/cancelled".to_owned() });
    assert_eq!(cancelled["params"]["requestId"], asked["id"]);
    assert_eq!(caller.request("x", Some(&params(&json!([])))).await.unwrap_err(), LocalError::Invalid);
}

#[tokio::test]
async fn an_application_that_reads_nothing_is_left_alone_in_the_end() {
    let (_listener, handle) = offline();
    let caller = handle.open_local().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let caller = caller.sender();
        waiting.push(tokio::spawn(async move { caller.request("x", None).await }));
    }
    tokio::task::yield_now().await;
    while tokio::time::timeout(Duration::from_millis(5), caller.request("x", None)).await.is_err() {}
    assert_eq!(caller.request("x", None).await.unwrap_err(), LocalError::Busy);
    let mut sent = 0;
    while caller.notify("n", None).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "unbounded");
    }
    drop(caller);
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap_err(), LocalError::Closed);
    }
}

#[tokio::test]
async fn questions_of_the_application_are_answered_in_its_stead() {
    let (mut listener, handle) = offline();
    let mut caller = handle.open_local().unwrap();
    let mut session = listener.accept().await.unwrap();
    for (method, code) in [("sampling/createMessage", Some(-32601)), ("ping", None)] {
        let question = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": {}});
        session.sender().send(question.to_string()).await.unwrap();
        let (inbound, answer) = request(&mut session).await;
        assert_eq!(inbound.delivery, Delivery::Response);
        assert_eq!(answer["id"], "q");
        assert_eq!(answer["error"]["code"].as_i64(), code);
    }
    let note = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#;
    session.sender().send(note.to_owned()).await.unwrap();
    assert_eq!(soon(caller.recv()).await.unwrap(), note, "and nothing came before it");
}

#[tokio::test]
async fn progress_and_subscriptions_reach_their_request_alone() {
    let (mut listener, handle) = offline();
    let (mut caller, mut other) = (handle.open_local().unwrap(), handle.open_local().unwrap());
    let mut session = listener.accept().await.unwrap();
    let asking = caller.sender();
    let asked = tokio::spawn(async move {
        let with_token = params(&json!({"_meta": {"progressToken": 5}}));
        asking.request_within("subscriptions/listen", Some(&with_token), None).await
    });
    let (_, message) = request(&mut session).await;
    let id = message["id"].clone();
    assert_eq!(message["params"]["_meta"]["progressToken"], id);
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress",
        "params": {"progressToken": id, "progress": 1}});
    handle.broadcast(progress.to_string()).await.unwrap();
    let heard: Value = serde_json::from_str(&soon(caller.recv()).await.unwrap()).unwrap();
    assert_eq!(heard["params"]["progressToken"], 5, "the token that was given");
    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
    let change =
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}});
    handle.broadcast(change.to_string()).await.unwrap();
    assert!(soon(caller.recv()).await.unwrap().contains("tools/list_changed"));
    let foreign = progress.to_string().replace(id.as_str().unwrap(), &"0".repeat(64));
    session.sender().send(foreign).await.unwrap();
    handle.broadcast(r#"{"jsonrpc":"2.0","method":"notifications/end"}"#.to_owned()).await.unwrap();
    for caller in [&mut caller, &mut other] {
        assert!(soon(caller.recv()).await.unwrap().contains("notifications/end"));
    }
    session.sender().send(result(&message, &json!({}))).await.unwrap();
    assert!(soon(asked).await.unwrap().is_ok());
}

#[tokio::test]
async fn dropping_either_side_ends_the_session_for_the_other() {
    let (mut listener, handle) = offline();
    let mut caller = handle.open_local().unwrap();
    let session = listener.accept().await.unwrap();
    let sender = caller.sender();
    let asked = tokio::spawn(async move { sender.request("x", None).await });
    tokio::task::yield_now().await;
    drop(session);
    assert_eq!(soon(asked).await.unwrap().unwrap_err(), LocalError::Closed);
    assert!(soon(caller.recv()).await.is_none());
    soon(caller.sender().closed()).await;
    assert_eq!(caller.notify("x", None).unwrap_err(), LocalError::Closed);

    let caller = handle.open_local().unwrap();
    let mut session = listener.accept().await.unwrap();
    caller.notify("last/words", None).unwrap();
    drop(caller);
    assert!(soon(session.recv()).await.is_some(), "what waits is still read");
    assert!(soon(session.recv()).await.is_none());
    session.sender().send("{}".to_owned()).await.unwrap();
}

#[tokio::test]
async fn the_shutdown_ends_local_sessions() {
    let (mut listener, handle) = offline();
    let mut caller = handle.open_local().unwrap();
    let mut session = listener.accept().await.unwrap();
    soon(handle.shutdown()).await;
    assert!(soon(session.recv()).await.is_none());
    assert!(soon(caller.recv()).await.is_none());
    assert!(soon(listener.accept()).await.is_none());
    assert_eq!(handle.open_local().unwrap_err(), Error::Closed);
}

#[tokio::test]
async fn what_callers_are_sent_beside_their_message_reaches_local_requests_too() {
    let options = builder().inject_client_pubkey(true).inject_request_event_id(true).build();
    let mut listener = Server::offline(options);
    let caller = listener.handle().open_local().unwrap();
    let mut session = listener.accept().await.unwrap();
    let _asked = tokio::spawn(async move { caller.request("x", None).await });
    let (_, message) = request(&mut session).await;
    assert_eq!(message["params"]["_meta"]["clientPubkey"], session.caller().to_hex());
    assert_eq!(message["params"]["_meta"]["requestEventId"], message["id"]);
}
