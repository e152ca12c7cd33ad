//! Who and what is turned away, and that no server hears of it.
use super::super::SecretToken;
use super::stage::{INITIALIZE, Stage, modern_body, request};

#[tokio::test]
async fn foreign_hosts_and_origins_are_forbidden_everywhere() {
    let mut stage = Stage::open().await;
    for path in ["/mcp", "/healthz", "/readyz", "/nothing"] {
        let call = || stage.at(path);
        assert_eq!(call().with("host", "evil.example.com").send().await.status, 403, "{path}");
        assert_eq!(call().with("host", "").send().await.status, 403, "{path}");
        assert_eq!(call().with("origin", "http://evil.example.com").send().await.status, 403, "{path}");
        assert_eq!(call().with("origin", "null").send().await.status, 403, "{path}");
    }
    assert_eq!(stage.post(INITIALIZE).with("origin", "http://evil.example.com").send().await.status, 403);
    assert!(stage.is_silent());
    let lively = stage.at("/healthz").with("origin", "http://localhost:6274").send().await;
    assert_eq!((lively.status, lively.header("access-control-allow-origin")), (200, ""));
    assert_eq!(lively.text().await, "ok\n");
    assert_eq!(stage.at("/readyz").send().await.text().await, "ready\n");
}

#[tokio::test]
async fn without_the_token_nothing_is_read() {
    let mut stage = Stage::with(|options| options.with_token(SecretToken::new("t0ken").unwrap())).await;
    for value in ["", "Bearer t0ke", "Basic t0ken"] {
        for method in ["GET", "POST", "DELETE", "PUT"] {
            let refused = stage.call(method).with("authorization", value).send().await;
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"));
        }
    }
    assert_eq!(stage.at("/healthz").send().await.status, 200);
    assert!(stage.is_silent());
    let posted = tokio::spawn(stage.post(INITIALIZE).with("authorization", "Bearer t0ken").send());
    let mut server = stage.server().await;
    assert_eq!(server.said().await, INITIALIZE);
    posted.abort();
}

#[tokio::test]
async fn scripts_of_listed_origins_may_ask_and_read() {
    let token = SecretToken::new("t0ken").unwrap();
    let stage = Stage::with(|options| options.with_origin("https://app.example.com").with_token(token)).await;
    let preflight = |origin: &str| {
        stage
            .call("OPTIONS")
            .with("origin", origin)
            .with("access-control-request-method", "POST")
            .with("access-control-request-headers", "mcp-method, authorization")
    };
    let allowed = preflight("https://app.example.com").send().await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(allowed.header("access-control-allow-headers"), "mcp-method, authorization");
    assert_eq!(allowed.header("vary"), "origin");
    let loopback = preflight("http://localhost:1").send().await;
    assert_eq!((loopback.status, loopback.header("access-control-allow-origin")), (401, ""));
    let refused = stage.post(INITIALIZE).with("origin", "https://app.example.com").send().await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, "https://app.example.com")
    );
    assert!(refused.header("access-control-expose-headers").contains("mcp-session-id"));
}

#[tokio::test]
async fn a_large_body_is_refused_whether_its_length_is_declared_or_not() {
    let mut stage = Stage::with(|options| options.with_body_limit(1_000)).await;
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(1_000));
    assert_eq!(stage.post(&large).send().await.status, 413);
    // A length alone is enough, and no memory is set aside for it.
    let announced = stage.call("POST").with("content-type", "application/json").with("accept", "*/*");
    assert_eq!(announced.with("content-length", "99999999999999").send().await.status, 413);
    assert_eq!(stage.post(&large).with("transfer-encoding", "chunked").send().await.status, 413);
    assert!(stage.is_silent());
    let small = stage.post(&request("1", "ping")).with("transfer-encoding", "chunked").send().await;
    assert_eq!(small.status, 400);
}

#[tokio::test]
async fn what_is_not_a_post_of_one_message_is_refused() {
    let mut stage = Stage::open().await;
    let post = || stage.post(INITIALIZE);
    assert_eq!(post().with("content-type", "text/plain").send().await.status, 415);
    assert_eq!(post().with("content-type", "").send().await.status, 415);
    assert_eq!(post().with("accept", "application/json").send().await.status, 406);
    assert_eq!(post().with("accept", "text/event-stream").send().await.status, 406);
    assert_eq!(stage.call("PUT").send().await.header("allow"), "GET, POST, DELETE");
    assert_eq!(stage.call("OPTIONS").send().await.status, 405);
    assert_eq!(stage.at("/mcp/other").send().await.status, 404);
    assert!(stage.is_silent());
}

#[tokio::test]
async fn texts_that_are_no_messages_are_refused_under_their_id() {
    let mut stage = Stage::open().await;
    let table = [
        ("{", r#""code":-32700"#, false),
        ("", r#""code":-32700"#, false),
        ("\u{feff}{}", r#""code":-32700"#, false),
        (r#"{"jsonrpc":"2.0","id":7,"method":"a"} {}"#, r#""code":-32700"#, false),
        ("[]", r#""code":-32600"#, false),
        (r#"{"jsonrpc":"2.0","id":7,"method":5}"#, r#""id":7,"error":{"code":-32600"#, true),
        (r#"{"jsonrpc":"2.0","id":7,"method":"a","params":{"b":1,"b":2}}"#, r#""id":7,"#, true),
        (r#"{"jsonrpc":"2.0","id":7.5,"method":"a"}"#, r#""code":-32600"#, false),
        (r#"{"jsonrpc":"2.0","id":"\ud800","method":"a"}"#, r#""code":-32600"#, false),
    ];
    for (text, part, has_id) in table {
        let refused = stage.post(text).send().await;
        assert_eq!((refused.status, refused.header("content-type")), (400, "application/json"));
        let body = refused.text().await;
        assert!(body.contains(part) && body.contains("\"id\"") == has_id, "{text}: {body}");
    }
    assert!(stage.is_silent());
}

#[tokio::test]
async fn a_revision_without_sessions_has_neither_get_nor_delete() {
    let stage = Stage::open().await;
    for method in ["GET", "DELETE"] {
        let call = stage.call(method).with("accept", "text/event-stream");
        let refused = call.with("mcp-protocol-version", "2026-07-28").send().await;
        assert_eq!((refused.status, refused.header("allow")), (405, "POST"));
    }
}

#[tokio::test]
async fn headers_that_disagree_with_the_body_are_refused_before_the_server_hears() {
    let mut stage = Stage::open().await;
    let call = || stage.modern("1", "tools/call", r#""name":"t""#);
    for call in [
        call().with("mcp-method", "tools/list"),
        call().with("mcp-method", ""),
        call().and("mcp-method", "tools/call"),
        call().with("mcp-name", "other"),
        call().with("mcp-name", ""),
        call().with("mcp-protocol-version", "2026-07-29"),
        call().with("mcp-protocol-version", ""),
    ] {
        let refused = call.send().await;
        assert_eq!(refused.status, 400);
        let body = refused.text().await;
        assert!(body.starts_with(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"#), "{body}");
    }
    let incomplete = modern_body("1", "tools/list", "").replace("clientCapabilities\":{}", "x\":{}");
    let refused = stage.modern("1", "tools/list", "").body(&incomplete).send().await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().await.contains(r#""code":-32602"#));
    assert!(stage.is_silent());
}
