//! How the lists of several servers become one, and what shortened names stand for.
use super::*;

#[test]
fn all_pages_of_all_servers_are_one_list_with_the_servers_names() {
    let mut bench = Bench::new(2);
    let asked = bench.host(&request(1, "tools/list", r#""_meta":{"progressToken":5}"#));
    assert_eq!(
        asked[1],
        r#"b> {"jsonrpc":"2.0","id":"m-3","method":"tools/list","params":{"_meta":{"progressToken":5}}}"#
    );
    assert_eq!(bench.result(1, "m-3", r#"{"tools":[{"name":"z"}]}"#), [""; 0]);
    let next = bench.result(0, "m-2", r#"{"tools":[{"title":"T","name":"x","n":1.0}],"nextCursor":"p\n"}"#);
    assert_eq!(
        next,
        [
            r#"a> {"jsonrpc":"2.0","id":"m-4","method":"tools/list","params":{"_meta":{"progressToken":5},"cursor":"p\n"}}"#
        ]
    );
    let step = |server: usize, own: &str, bench: &mut Bench| {
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":9,"message":"m"}}"#;
        bench.server(server, own, progress)
    };
    for nth in 1..=2 {
        assert_eq!(
            step(0, "m-4", &mut bench),
            [format!(
                r#"(1)< {{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":5,"progress":{nth},"message":"m"}}}}"#
            )]
        );
    }
    assert_eq!(
        bench.result(0, "m-4", r#"{"tools":[{"name":"y"},{"strange":1}]}"#),
        [
            r#"(1)< {"jsonrpc":"2.0","id":1,"result":{"tools":[{"title":"T","name":"a__x","n":1.0},{"name":"a__y"},{"strange":1},{"name":"b__z"}]}}"#
        ]
    );
}

#[test]
fn a_server_that_does_not_know_a_list_has_an_empty_one_and_one_that_fails_is_named() {
    let mut bench = Bench::new(3);
    bench.host(&modern(1, "prompts/list", ""));
    bench.error(0, "m-2", -32601, "no");
    bench.error(1, "m-3", -32001, "no reply");
    assert_eq!(
        bench.result(2, "m-4", r#"{"resultType":"complete","prompts":[{"name":"p"}],"ttlMs":9,"cacheScope":"public","_meta":{"x":1}}"#),
        [r#"(1)< {"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","prompts":[{"name":"c__p"}],"ttlMs":0,"cacheScope":"public","_meta":{"org.contextvm/leftOut":{"b":"no reply"}}}}"#]
    );
    bench.host(&modern(1, "prompts/list", ""));
    bench.error(0, "m-6", -32601, "no");
    bench.error(1, "m-7", -32601, "no");
    assert!(bench.error(2, "m-8", -32001, "no reply")[0].contains("no reply"), "the error that says more");
}

#[test]
fn a_list_does_not_wait_for_a_silent_server() {
    let mut bench = Bench::new(2);
    bench.host(&request(1, "tools/list", ""));
    bench.result(0, "m-2", r#"{"tools":[]}"#);
    assert_eq!(bench.pass(PATIENCE - Duration::from_secs(1)), [""; 0]);
    assert_eq!(
        bench.pass(Duration::from_secs(1)),
        [
            r#"b> abandon "m-3""#,
            r#"(1)< {"jsonrpc":"2.0","id":1,"result":{"tools":[],"_meta":{"org.contextvm/leftOut":{"b":"it did not answer in time"}}}}"#
        ]
    );
}

#[test]
fn endless_lists_end() {
    let mut bench = Bench::new(1);
    let mut asked = bench.host(&request(1, "tools/list", ""));
    let mut pages = 0;
    while asked[0].starts_with("a> ") {
        pages += 1;
        asked = bench.result(0, &own_id(&asked[0]), r#"{"tools":[{"name":"t"}],"nextCursor":"again"}"#);
    }
    assert_eq!(pages, 256);
    assert!(asked[0].contains("its list has too many pages"), "{}", asked[0].len());

    bench.merger.limits.child_line = 100;
    bench.host(&request(2, "tools/list", ""));
    let long = format!(r#"{{"tools":[{{"name":"{}"}}],"nextCursor":"more"}}"#, "x".repeat(100));
    let own = bench.merger.parts.keys().next().unwrap().clone();
    bench.merger.limits.child_line = 101;
    let cut = bench.result(0, &own, &long);
    assert!(cut.len() == 1 && cut[0].starts_with("(2)< "), "{cut:?}");
}

#[test]
fn resources_keep_their_uris_and_are_found_again() {
    let mut bench = Bench::new(2);
    bench.host(&request(1, "resources/list", ""));
    bench.result(0, "m-2", r#"{"resources":[{"uri":"r:1","name":"n"}]}"#);
    assert_eq!(
        bench.result(1, "m-3", r#"{"resources":[{"uri":"r:2","name":"n"}]}"#),
        [
            r#"(1)< {"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"r:1","name":"n"},{"uri":"r:2","name":"n"}]}}"#
        ]
    );
    bench.host(&request(2, "resources/templates/list", ""));
    bench.result(0, "m-5", r#"{"resourceTemplates":[]}"#);
    bench.result(1, "m-6", r#"{"resourceTemplates":[{"uriTemplate":"t:{x}"}]}"#);
    for uri in ["r:2", "t:1"] {
        let read = bench.another().host(&modern(1, "resources/read", &format!(r#""uri":"{uri}""#)));
        assert!(read[0].starts_with("b> "), "{read:?}");
    }
}

#[test]
fn a_shortened_name_that_was_not_listed_yet_is_looked_up_first() {
    let long = "t".repeat(100);
    let name = Bench::new(2).merger.directory.exposed(1, &long);
    assert_eq!(name.len(), 60);
    let call = modern(1, "tools/call", &format!(r#""name":"{name}","arguments":{{"n":1.0}}"#));

    let mut bench = Bench::new(2);
    let asked = bench.host(&call);
    assert!(asked.len() == 1 && asked[0].starts_with("b> ") && asked[0].contains("tools/list"), "{asked:?}");
    assert!(asked[0].contains(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#), "{asked:?}");
    let called = bench.result(1, &own_id(&asked[0]), &format!(r#"{{"tools":[{{"name":"{long}"}}]}}"#));
    assert!(
        called[0].starts_with("b> ")
            && called[0].contains(&format!(r#""name":"{long}","arguments":{{"n":1.0}}"#)),
        "{called:?}"
    );
    let answered = bench.result(1, &own_id(&called[0]), r#"{"content":[]}"#);
    assert_eq!(answered, [r#"(1)< {"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#]);
    assert!(bench.another().host(&call)[0].contains("tools/call"), "known from now on");

    let mut bench = Bench::new(2);
    let asked = bench.host(&call);
    let unknown = bench.result(1, &own_id(&asked[0]), r#"{"tools":[]}"#);
    assert!(unknown[0].contains("unknown_name"), "{unknown:?}");
    let asked = bench.host(&call);
    let failed = bench.error(1, &own_id(&asked[0]), -32001, "no reply");
    assert!(failed[0].contains("no reply"), "{failed:?}");
}

#[test]
fn a_log_level_is_set_everywhere() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.host(&request(1, "logging/setLevel", r#""level":"info""#)).len(), 2);
    bench.error(0, "m-2", -32601, "no");
    assert_eq!(bench.result(1, "m-3", "{}"), [r#"(1)< {"jsonrpc":"2.0","id":1,"result":{}}"#]);
}
