//! `cvm use --http`: hosts of either era of MCP over Streamable HTTP, with a token.
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::stage::{Home, INITIALIZE, LIST, Reply, Running, http};

const LEGACY: [(&str, &str); 2] =
    [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];

/// A running `cvm use --http`.
pub(crate) struct Front {
    running: Running,
    address: String,
    paths: Vec<String>,
    token: String,
}

impl Front {
    pub(crate) fn start(home: &Home, args: &[&str]) -> Self {
        let mut all = vec!["use", "--json", "--http", "127.0.0.1:0"];
        all.extend(args);
        let running = Running::start(home.command(&all));
        let document = running.document();
        assert_eq!(document["schema"], "cvm.use/1");
        let urls = document["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint["url"].as_str().unwrap());
        let urls = urls.map(|url| url.strip_prefix("http://").unwrap().split_once('/').unwrap());
        let (addresses, paths): (Vec<&str>, Vec<String>) =
            urls.map(|(address, path)| (address, format!("/{path}"))).unzip();
        let token = document["tokenFile"].as_str().map(|file| std::fs::read_to_string(file).unwrap());
        let (address, token) = (addresses[0].to_owned(), token.unwrap_or_default().trim().to_owned());
        Self { running, address, paths, token }
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", authorization.as_str())];
        all.extend(LEGACY);
        all.extend(headers);
        http(&self.address, "POST", path, &all, body)
    }

    /// Opens a session of an earlier revision; returns its name.
    fn session(&self, path: &str) -> String {
        let welcome = self.post(path, &[], INITIALIZE);
        assert_eq!(welcome.message()["result"]["protocolVersion"], "2025-06-18", "{welcome:?}");
        let session = welcome.header("mcp-session-id").unwrap().to_owned();
        let told = self.post(
            path,
            &[("Mcp-Session-Id", &session)],
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        );
        assert_eq!(told.status, 202);
        session
    }

    /// Asks as a host of 2026-07-28.
    pub(crate) fn modern(&self, path: &str, method: &str, mut params: Value) -> Reply {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "h", "version": "1" },
        });
        let mut headers = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
        let name = params["name"].as_str().map(ToOwned::to_owned);
        headers.extend(name.as_deref().map(|name| ("Mcp-Name", name)));
        let body = json!({ "jsonrpc": "2.0", "id": "m", "method": method, "params": params }).to_string();
        self.post(path, &headers, &body)
    }
}

#[test]
fn both_eras_reach_a_server_over_http() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &relay);
    let front = Front::start(&home, &[&server, "-r", &relay]);
    assert_eq!(front.paths, ["/mcp"]);

    let session = front.session("/mcp");
    let in_session = [("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-06-18")];
    let listed = front.post("/mcp", &in_session, LIST).message();
    assert_eq!((&listed["id"], listed["result"]["tools"].as_array().unwrap().len()), (&2.into(), 4));
    let authorization = format!("Bearer {}", front.token);
    let mut ending = vec![("Authorization", authorization.as_str())];
    ending.extend(in_session);
    assert!(matches!(http(&front.address, "DELETE", "/mcp", &ending, "").status, 200 | 204));
    assert_eq!(front.post("/mcp", &in_session, LIST).status, 404);

    let discovered = front.modern("/mcp", "server/discover", json!({})).message();
    let supported = &discovered["result"]["supportedVersions"];
    assert!(supported.as_array().unwrap().contains(&"2026-07-28".into()), "{discovered}");
    let called =
        front.modern("/mcp", "tools/call", json!({ "name": "add", "arguments": { "a": 19, "b": 23 } }));
    assert!(called.status == 200 && called.header("mcp-session-id").is_none(), "{called:?}");
    let called = called.message();
    assert_eq!(
        (&called["id"], &called["result"]["content"][0]["text"]),
        (&"m".into(), &"42".into()),
        "{called}"
    );
    assert_eq!(front.modern("/mcp", "no/such/method", json!({})).status, 404);

    assert_eq!(http(&front.address, "GET", "/healthz", &[], "").status, 200);
    let (code, err) = front.running.end();
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("http://127.0.0.1:") && err.contains("http-token") && !err.contains(&front.token),
        "{err}"
    );
}

#[test]
fn the_token_is_made_once_and_kept_from_others() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &relay);
    let args = [server.as_str(), "-r", &relay];
    // Three at once, and one later: all find the same token.
    let fronts: Vec<Front> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| Front::start(&home, &args));
        [start(), start(), start()].map(|starting| starting.join().unwrap()).into()
    });
    let front = Front::start(&home, &args);
    assert!(fronts.iter().all(|other| other.token == front.token) && front.token.len() == 43);
    let file = home.path().join(".local/state/cvm/http-token");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    front.running.talk.wait_for(file.to_str().unwrap());

    let ask = |headers: &[(&str, &str)]| {
        let mut all = LEGACY.to_vec();
        all.extend(headers);
        http(&front.address, "POST", "/mcp", &all, INITIALIZE).status
    };
    let bearer = format!("Bearer {}", front.token);
    let (wrong, basic) = (format!("Bearer {}x", front.token), format!("Basic {}", front.token));
    assert_eq!(ask(&[("Authorization", &bearer)]), 200);
    for authorization in [wrong.as_str(), "Bearer ", "Bearer", &basic, &front.token] {
        assert_eq!(ask(&[("Authorization", authorization)]), 401, "{authorization}");
    }
    assert_eq!(ask(&[]), 401);
    assert_eq!(ask(&[("Authorization", &bearer), ("Origin", "https://evil.example.com")]), 403);
    assert_eq!(ask(&[("Authorization", &bearer), ("Host", "evil.example.com")]), 403);
    let large = "x".repeat(25 * 1024 * 1024);
    let mut headers = LEGACY.to_vec();
    headers.push(("Authorization", &bearer));
    assert_eq!(http(&front.address, "POST", "/mcp", &headers, &large).status, 413);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut refused = vec!["use", "--json", "--http", "127.0.0.1:0"];
    refused.extend(args);
    let ran = home.run(&refused);
    assert_eq!((ran.code, &ran.error()["code"]), (8, &"insecure_permissions".into()));
    assert!(ran.error()["message"].as_str().unwrap().contains("token file"), "{ran:?}");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = home.run(&refused);
    assert!(ran.code == 8 && ran.error()["hint"].as_str().unwrap().starts_with("rm "), "{ran:?}");
}

#[test]
fn two_servers_have_two_paths_or_one_with_prefixes() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let (_one, one) = Running::sample(&home, &relay);
    let (_other, other) = Running::sample(&home, &relay);
    let (one, other) = (format!("one={one}"), format!("other={other}"));
    let front = Front::start(&home, &[&one, &other, "-r", &relay]);
    assert_eq!(front.paths, ["/one/mcp", "/other/mcp"]);
    for path in &front.paths {
        let session = front.session(path);
        let listed = front.post(path, &[("Mcp-Session-Id", &session)], LIST).message();
        assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 4);
    }
    let elsewhere = front.session("/one/mcp");
    assert_eq!(front.post("/other/mcp", &[("Mcp-Session-Id", &elsewhere)], LIST).status, 404);
    assert_eq!(front.post("/mcp", &[], INITIALIZE).status, 404);
    assert_eq!(front.post("/third/mcp", &[], INITIALIZE).status, 404);

    let front = Front::start(&home, &[&one, &other, "--prefix", "-r", &relay]);
    assert_eq!(front.paths, ["/mcp"]);
    let session = front.session("/mcp");
    let in_session = [("Mcp-Session-Id", session.as_str())];
    let listed = front.post("/mcp", &in_session, LIST).message();
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    let mut names: Vec<&str> = tools.map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let expected = ["one", "other"]
        .map(|server| ["add", "echo", "tell", "weather"].map(|tool| format!("{server}__{tool}")))
        .concat();
    assert_eq!(names, expected);
    let call = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"other__add","arguments":{"a":19,"b":23}}}"#;
    assert_eq!(front.post("/mcp", &in_session, call).message()["result"]["content"][0]["text"], "42");
    let called =
        front.modern("/mcp", "tools/call", json!({ "name": "one__add", "arguments": { "a": 1, "b": 2 } }));
    assert_eq!(called.message()["result"]["content"][0]["text"], "3");
}

#[test]
fn several_servers_behind_one_stdio_need_prefixes() {
    let home = Home::new();
    let (_relay, relay) = Running::relay(&home);
    let (_one, one) = Running::sample(&home, &relay);
    let (_other, other) = Running::sample(&home, &relay);
    let (one, other) = (format!("one={one}"), format!("other={other}"));
    let refused = home.run(&["use", &one, &other, "-r", &relay, "--json"]);
    assert_eq!((refused.code, &refused.error()["code"]), (2, &"missing_argument".into()));
    assert_eq!(refused.out, "");
    let twice = home.run(&["use", &one, &one, "--prefix", "-r", &relay, "--json"]);
    assert_eq!((twice.code, &twice.error()["code"]), (2, &"invalid_value".into()));
    let mut host = crate::stage::Host::start(home.command(&["use", &one, &other, "--prefix", "-r", &relay]));
    host.greet();
    assert_eq!(host.ask(LIST)["result"]["tools"].as_array().unwrap().len(), 8);
    let call = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"one__echo","arguments":{"message":"hi"}}}"#;
    assert_eq!(host.ask(call)["result"]["content"][0]["text"], "hi");
    assert_eq!(host.goodbye().code, Some(0));
}

#[test]
fn nobody_is_let_in_by_accident() {
    let home = Home::new();
    let server = crate::stage::NOBODY;
    for (args, exit) in [
        (&["--http", "0.0.0.0:0"][..], 2),
        (&["--http", "[::]:0"], 2),
        (&["--http", "0.0.0.0:0", "--every-interface", "--no-token"], 8),
        (&["--http", "192.0.2.1:0", "--no-token"], 8),
        (&["--http", "127.0.0.1:0", "--no-token", "--token-file", "t"], 2),
        (&["--every-interface"], 2),
    ] {
        let mut all = vec!["use", server, "-r", "ws://127.0.0.1:9", "--json"];
        all.extend(args);
        let ran = home.run(&all);
        assert_eq!((ran.code, ran.out.as_str()), (exit, ""), "{args:?} {ran:?}");
        assert!(ran.error()["hint"].is_string());
    }
    let args =
        ["use", server, "-r", "ws://127.0.0.1:9", "--json", "--http", "0.0.0.0:0", "--every-interface"];
    let front = Running::start(home.command(&args));
    assert!(front.document()["tokenFile"].is_string());
    let args = ["use", server, "-r", "ws://127.0.0.1:9", "--json", "--http", "127.0.0.1:0", "--no-token"];
    let front = Running::start(home.command(&args));
    assert!(front.document()["tokenFile"].is_null());
    front.talk.wait_for("every program of this machine");
}
