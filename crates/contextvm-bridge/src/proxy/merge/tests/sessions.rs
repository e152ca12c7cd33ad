//! How a session with several servers begins, in both eras.
use super::*;

const THREE: [&str; 3] = [
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":false},"logging":{}},"serverInfo":{"name":"x","version":"1"},"instructions":"Use a."}"#,
    r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{"listChanged":true},"prompts":{}},"serverInfo":{"name":"y","version":"1"}}"#,
    r#"{"protocolVersion":"2025-06-18","capabilities":{"resources":{"subscribe":true}},"serverInfo":{"name":"z","version":"1"},"instructions":"Use c."}"#,
];

#[test]
fn a_session_has_the_oldest_revision_all_capabilities_and_all_instructions() {
    let mut bench = Bench::new(3);
    let asked = bench.host(INITIALIZE);
    assert_eq!(asked[0], format!("a> {}", INITIALIZE.replace(r#""id":0"#, r#""id":"m-2""#)));
    assert!(asked[1].starts_with("b> ") && asked[2].starts_with("c> "));
    assert_eq!(bench.result(2, "m-4", THREE[2]), [""; 0]);
    assert_eq!(bench.result(0, "m-2", THREE[0]), [""; 0]);
    let welcome = json(&bench.result(1, "m-3", THREE[1])[0]);
    let result = &welcome["result"];
    assert_eq!((&welcome["id"], &result["protocolVersion"]), (&0.into(), &"2025-03-26".into()));
    assert_eq!(
        result["capabilities"].to_string(),
        r#"{"logging":{},"prompts":{},"resources":{"subscribe":true},"tools":{"listChanged":true}}"#
    );
    assert_eq!(
        (&result["serverInfo"]["name"], &result["serverInfo"]["title"]),
        (&"cvm".into(), &"a, b, c".into())
    );
    let instructions = result["instructions"].as_str().unwrap();
    assert!(instructions.ends_with("\n\n# a\n\nUse a.\n\n# c\n\nUse c."), "{instructions}");
    assert_eq!(bench.host(INITIALIZED).len(), 3);
    let listed = bench.host(&request(1, "tools/list", ""));
    assert!(listed.len() == 2 && listed[0].starts_with("a> ") && listed[1].starts_with("b> "), "{listed:?}");
    let level = bench.host(&request(2, "logging/setLevel", r#""level":"info""#));
    assert!(level.len() == 1 && level[0].starts_with("a> "), "{level:?}");
}

#[test]
fn a_server_that_fails_is_left_out_and_tried_again() {
    let mut bench = Bench::new(2);
    bench.host(INITIALIZE);
    bench.result(0, "m-2", THREE[0]);
    let welcome = json(&bench.error(1, "m-3", -32001, "no relay\\n here")[0]);
    let instructions = welcome["result"]["instructions"].as_str().unwrap();
    assert!(instructions.contains("# b\n\nThis server is left out: no relay"), "{instructions}");
    assert_eq!(welcome["result"]["capabilities"]["tools"]["listChanged"], true, "it may come later");
    assert_eq!(bench.host(INITIALIZED), [format!("a> {INITIALIZED}")]);
    let refused = bench.host(&request(1, "tools/call", r#""name":"b__t""#));
    assert!(
        refused[0].contains(r#""reason":"left_out","server":"b""#) && refused[0].contains("no relay"),
        "{refused:?}"
    );
    assert_eq!(bench.pass(RETRY - Duration::from_secs(1)), [""; 0]);
    let again = bench.pass(Duration::from_secs(1));
    assert!(again.len() == 1 && again[0].starts_with("b> ") && again[0].contains("initialize"), "{again:?}");
    assert_eq!(bench.error(1, &own_id(&again[0]), -32001, "no"), [""; 0]);
    let again = bench.pass(RETRY);
    let changed = r#"< {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(
        bench.result(1, &own_id(&again[0]), THREE[1]),
        [format!("b> {INITIALIZED}"), changed.to_owned()]
    );
    assert!(bench.host(&request(1, "tools/call", r#""name":"b__t""#))[0].starts_with("b> "));
}

#[test]
fn a_server_that_comes_late_learns_the_log_level() {
    let mut bench = Bench::new(2);
    bench.host(INITIALIZE);
    bench.result(0, "m-2", THREE[0]);
    bench.error(1, "m-3", -32001, "no");
    let asked = bench.host(&request(1, "logging/setLevel", r#""level":"info""#));
    bench.result(0, &own_id(&asked[0]), "{}");
    let again = bench.pass(RETRY);
    let late = bench.result(1, &own_id(&again[0]), THREE[0]);
    assert!(
        late.len() == 2 && late[0].starts_with("b> ") && late[0].contains(r#"{"level":"info"}"#),
        "{late:?}"
    );
    assert_eq!(bench.result(1, &own_id(&late[0]), "{}"), [""; 0], "the host has its answer already");
    assert!(bench.merger.calls.is_empty());
}

#[test]
fn a_silent_server_does_not_keep_the_host_waiting_and_may_come_late() {
    let mut bench = Bench::new(2);
    bench.host(INITIALIZE);
    assert_eq!(bench.pass(PATIENCE), [""; 0], "nobody has answered yet");
    bench.result(0, "m-2", THREE[0]);
    let welcome = bench.pass(Duration::from_secs(1));
    assert!(welcome.len() == 1 && welcome[0].contains("it did not answer in time"), "{welcome:?}");
    bench.host(INITIALIZED);
    assert!(bench.host(&request(1, "tools/list", "")).iter().all(|line| line.starts_with("a> ")));
    assert_eq!(bench.result(1, "m-3", THREE[1]).len(), 2, "it comes late");
    assert_eq!(bench.host(&request(2, "tools/list", "")).len(), 2);
}

#[test]
fn when_all_servers_fail_the_first_error_is_the_answer_and_the_host_may_try_again() {
    let mut bench = Bench::new(2);
    bench.host(INITIALIZE);
    bench.error(1, "m-3", -32001, "second");
    let refused = bench.error(0, "m-2", -32000, "first");
    assert_eq!(refused, [r#"(0)< {"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"first"}}"#]);
    assert_eq!(bench.pass(RETRY), [""; 0]);
    assert_eq!(bench.host(INITIALIZE).len(), 2);
}

#[test]
fn a_host_of_the_newer_revision_discovers_all_servers_at_once() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.host(&modern(1, "server/discover", "")).len(), 3);
    bench.result(0, "m-2", r#"{"resultType":"complete","supportedVersions":["2026-07-28","x"],"capabilities":{"tools":{}},"ttlMs":5000,"cacheScope":"public"}"#);
    bench.result(1, "m-3", r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"prompts":{}},"ttlMs":3000,"cacheScope":"private"}"#);
    let discovered = json(&bench.error(2, "m-4", -32022, "other version")[0]);
    let result = &discovered["result"];
    assert_eq!(result["supportedVersions"].to_string(), r#"["2026-07-28"]"#);
    assert_eq!(
        result["capabilities"].to_string(),
        r#"{"prompts":{"listChanged":true},"tools":{"listChanged":true}}"#
    );
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&0.into(), &"private".into()));
    assert!(
        result["instructions"].as_str().unwrap().ends_with("# c\n\nThis server is left out: other version")
    );
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "cvm");
    let mut other = bench.another();
    let listed = other.host(&modern(1, "tools/list", ""));
    assert!(listed.len() == 2 && listed[0].starts_with("a> ") && listed[1].starts_with("c> "), "{listed:?}");
}

#[test]
fn requests_may_follow_initialize_at_once() {
    let mut bench = Bench::new(2);
    bench.host(INITIALIZE);
    assert_eq!(bench.host(&request(1, "tools/list", "")).len(), 2);
    bench.merger.abandon(serde_json::from_str("0").unwrap());
    bench.drain();
    assert_eq!(bench.host(&request(2, "tools/list", "")).len(), 2, "a session that was given up is none");
}
