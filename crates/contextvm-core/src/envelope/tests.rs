//! Every refusal of the envelope by name, the four shapes, and the printers.
use super::*;
use alloc::boxed::Box;
use alloc::format;

fn parse(text: &str) -> Result<Envelope<'_>, EnvelopeError> {
    Envelope::parse(text, &Limits::default())
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_refusal_has_its_own_name() {
    use EnvelopeError as E;
    let table: &[(&str, EnvelopeError)] = &[
        ("{", E::Scan(ScanError::Truncated)),
        (r#"[{"jsonrpc":"2.0","method":"a"}]"#, E::Batch),
        (" []", E::Batch),
        ("7", E::NotAnObject),
        ("null", E::NotAnObject),
        (r#"{"method":"a"}"#, E::Version),
        (r#"{"jsonrpc":2.0,"method":"a"}"#, E::Version),
        (r#"{"jsonrpc":"2","method":"a"}"#, E::Version),
        (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":1.0,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":1e3,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":9007199254740992,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":-9007199254740992,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":99999999999999999999,"result":{}}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":true,"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#, E::Id),
        (r#"{"jsonrpc":"2.0","result":{}}"#, E::NoId),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, E::Method),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, E::Method),
        (r#"{"jsonrpc":"2.0","id":1}"#, E::Shapeless),
        (r#"{"jsonrpc":"2.0","params":{}}"#, E::Shapeless),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#, E::Mixed),
        (r#"{"jsonrpc":"2.0","method":"a","error":{"code":1,"message":""}}"#, E::Mixed),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#, E::Mixed),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{}}"#, E::Mixed),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""},"params":{}}"#, E::Mixed),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[]}"#, E::Params),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":null}"#, E::Params),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":null}}"#, E::Meta),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":"x"}}"#, E::Meta),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":null}}}"#,
            E::ProgressToken,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":1.5}}}"#,
            E::ProgressToken,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":{}}}}"#,
            E::ProgressToken,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":[]}"#, E::Result),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, E::Result),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, E::Error),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"message":"no"}}"#, E::ErrorCode),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":"no"}}"#, E::ErrorCode),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"no"}}"#, E::ErrorCode),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, E::ErrorMessage),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":null}}"#, E::ErrorMessage),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","Params":{}}"#, E::Lookalike("params")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","ID":2}"#, E::Lookalike("id")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","_Meta":{}}"#, E::Lookalike("_meta")),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","_meta":{"CLIENTPUBKEY":"x"}}"#,
            E::Lookalike("clientPubkey"),
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_META":{}}}"#, E::Lookalike("_meta")),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"ClientPubkey":"x"}}}"#,
            E::Lookalike("clientPubkey"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
            E::Lookalike("name"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"URI":"b"}}}"#,
            E::Lookalike("uri"),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"RequestId":2}}"#,
            E::Lookalike("requestId"),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"ProgressToken":2}}"#,
            E::Lookalike("progressToken"),
        ),
    ];
    for (text, error) in table {
        assert_eq!(parse(text).map(|message| message.kind), Err(*error), "{text}");
        assert_eq!(error.fault(), Fault::Peer);
    }
    assert_eq!(E::Disagreement.fault(), Fault::Bug);
}

#[test]
fn only_the_scan_refuses_for_cost() {
    let deep =
        format!(r#"{{"jsonrpc":"2.0","method":"a","params":{{"x":{}{}}}}}"#, "[".repeat(99), "]".repeat(99));
    assert!(parse(&deep).unwrap_err().is_budget());
    assert!(!parse("{").unwrap_err().is_budget());
    assert!(!EnvelopeError::Batch.is_budget());
}

#[test]
fn the_four_shapes_are_told_apart() {
    let table: &[(&str, MessageKind)] = &[
        (r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#, MessageKind::Request),
        (r#"{"jsonrpc":"2.0","id":"","method":"a","params":{}}"#, MessageKind::Request),
        (r#"{"jsonrpc":"2.0","id":-0,"method":"a"}"#, MessageKind::Request),
        (r#"{"jsonrpc":"2.0","id":-9007199254740991,"method":"a"}"#, MessageKind::Request),
        (r#"{"\u006asonrpc":"2\u002e0","method":""}"#, MessageKind::Notification),
        (r#"{"id":9007199254740991,"result":{},"jsonrpc":"2.0"}"#, MessageKind::Response),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":[],"x":1}}"#,
            MessageKind::Error,
        ),
        (r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":""}}"#, MessageKind::Error),
    ];
    for (text, kind) in table {
        assert_eq!(parse(text).map(|message| message.kind), Ok(*kind), "{text}");
    }
}

#[test]
fn unknown_top_level_members_are_kept_and_the_exact_text_leaves_them_out() {
    let text = "{\"x\" : 1.0,\n\"jsonrpc\":\"2.0\",\"method\":\"a\\u0062\",\"id\":1,\"_meta\":{ }}";
    let message = parse(text).unwrap();
    assert_eq!(message.extra, 2);
    assert_eq!(message.text(), text);
    assert_eq!(message.to_text(), r#"{"jsonrpc":"2.0","id":1,"method":"ab","x":1.0,"_meta":{ }}"#);
    assert_eq!(message.to_exact_text(), r#"{"jsonrpc":"2.0","id":1,"method":"ab"}"#);
}

#[test]
fn progress_tokens_zero_and_empty_count() {
    for token in ["0", "\"\"", "7", "\"7\"", "-1", "123456789012345678901234567890"] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
        );
        let message = parse(&text).unwrap();
        assert_eq!(message.progress_token().map(RawValue::get), Some(token));
        assert!(message.meta().is_some());
    }
}

#[test]
fn printers_print_exactly_the_shapes() {
    let (id, object) = (raw("\"x\""), raw(r#"{"a":-0}"#));
    assert_eq!(request(&id, "m", None), r#"{"jsonrpc":"2.0","id":"x","method":"m"}"#);
    assert_eq!(
        request(&id, "m\"", Some(&object)),
        r#"{"jsonrpc":"2.0","id":"x","method":"m\"","params":{"a":-0}}"#
    );
    assert_eq!(notification("m", Some(&object)), r#"{"jsonrpc":"2.0","method":"m","params":{"a":-0}}"#);
    assert_eq!(response_result(&id, &object), r#"{"jsonrpc":"2.0","id":"x","result":{"a":-0}}"#);
    assert_eq!(
        response_error(&id, -1, "a\nb", Some(&object)),
        r#"{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":"a\nb","data":{"a":-0}}}"#
    );
}

#[test]
fn the_error_code_can_be_read() {
    let text = response_error(&raw("1"), -32042, "pay", None);
    assert_eq!(parse(&text).unwrap().error_code(), Some(-32042));
    assert_eq!(parse(r#"{"jsonrpc":"2.0","method":"a"}"#).unwrap().error_code(), None);
}
