//! Tools that write while they work, read with `cvm call --stream`.
use std::io::Read as _;
use std::process::{Child, ChildStdout};
use std::time::Duration;

use contextvm::server::{Server, ServerBuilder, serve_rmcp};
use nostr::nips::nip19::ToBech32 as _;
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::stage::{Home, Ran, Running, signal, until};

/// A stdio server in shell that frames its streams itself.
const TALKER: &str = r#"
frame() { n=$((n+1)); printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"cvm":{"type":"open-stream",%s}}}\n' "$token" "$n" "$1"; }
result() { printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$1"; }
tool() { printf '{"name":"%s","inputSchema":{"type":"object"}}' "$1"; }
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\).*/\1/p')
  token=$(printf '%s' "$line" | sed -n 's/.*"progressToken":\("[^"]*"\).*/\1/p')
  n=0
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s,%s,%s,%s,%s]}}\n' "$id" "$(tool gated)" "$(tool report)" "$(tool fails)" "$(tool hangs)" "$(tool much)" ;;
    *'"name":"gated"'*)
      frame '"frameType":"start"'
      frame '"frameType":"chunk","chunkIndex":0,"data":"first "'
      while [ ! -e go ]; do sleep 0.05; done
      frame '"frameType":"chunk","chunkIndex":1,"data":"last"'
      frame '"frameType":"close","lastChunkIndex":1'
      result 'first last' ;;
    *'"name":"report"'*)
      frame '"frameType":"start"'
      frame '"frameType":"chunk","chunkIndex":0,"data":"one\ntw"'
      frame '"frameType":"chunk","chunkIndex":1,"data":"o"'
      frame '"frameType":"close","lastChunkIndex":1'
      result '2 lines' ;;
    *'"name":"fails"'*)
      frame '"frameType":"start"'
      frame '"frameType":"chunk","chunkIndex":0,"data":"half of"'
      frame '"frameType":"abort","reason":"the pen\u001b[2J broke"'
      printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no pen"}}\n' "$id" ;;
    *'"name":"hangs"'*)
      frame '"frameType":"start"'
      frame '"frameType":"chunk","chunkIndex":0,"data":"and then"'
      : >called ;;
    *'"name":"much"'*)
      frame '"frameType":"start"'
      i=0; piece=$(cat piece)
      while [ $i -lt 100 ]; do frame "\"frameType\":\"chunk\",\"chunkIndex\":$i,\"data\":\"$piece\""; i=$((i+1)); done
      frame '"frameType":"close","lastChunkIndex":99'
      result 'that was it'
      : >done ;;
    *'"frameType":"abort"'*) echo "$line" >aborted.new; mv aborted.new aborted ;;
    *'"method":"notifications/cancelled"'*) echo "$line" >cancelled.new; mv cancelled.new cancelled ;;
  esac
done
"#;

/// A call whose output is read piece by piece.
struct Reading {
    child: Child,
    out: ChildStdout,
    text: String,
}

impl Reading {
    fn of(home: &Home, args: &[&str]) -> Self {
        let mut child = home.command(args).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        Self { child, out, text: String::new() }
    }

    /// Reads until so much has come.
    fn until(&mut self, text: &str) {
        while self.text.len() < text.len() {
            let mut piece = [0; 1_024];
            let read = self.out.read(&mut piece).unwrap();
            assert!(read > 0, "the output ended: {:?}", self.text);
            self.text.push_str(str::from_utf8(&piece[..read]).unwrap());
        }
        assert!(self.text.starts_with(text), "{:?}", self.text);
    }

    fn end(mut self) -> Ran {
        self.out.read_to_string(&mut self.text).unwrap();
        let ran = Ran::of(self.child.wait_with_output().unwrap());
        Ran { out: self.text, ..ran }
    }
}

fn talker(home: &Home, url: &str) -> (Running, String) {
    let (running, ready) = Running::serve(home, url, &["--ephemeral", "--open"], &["sh", "-c", TALKER]);
    let server = ready["server"].as_str().unwrap().to_owned();
    (running, server)
}

#[test]
fn pieces_are_shown_while_the_tool_still_works() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = talker(&home, &url);
    let mut reading = Reading::of(&home, &["call", &server, "gated", "--stream", "-r", &url]);
    reading.until("first ");
    assert!(reading.child.try_wait().unwrap().is_none());
    // Only now the tool goes on.
    std::fs::write(home.path().join("go"), "").unwrap();
    let ran = reading.end();
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "first last", ""), "what is said twice");
}

#[test]
fn a_result_that_says_more_follows_on_a_line_of_its_own() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = talker(&home, &url);
    let call = |more: &[&str]| {
        let mut args = vec!["call", &server, "report", "-r", &url];
        args.extend(more);
        home.run(&args)
    };
    assert_eq!(call(&["--stream"]).out, "one\ntwo\n2 lines\n");
    assert_eq!(call(&[]).out, "2 lines\n", "nobody asked for more");
    let ran = call(&["--stream", "--json"]);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [one, two, last] = lines.as_slice() else { panic!("{ran:?}") };
    assert_eq!(one, &serde_json::json!({ "schema": "cvm.chunk/1", "index": 0, "data": "one\ntw" }));
    assert_eq!(two, &serde_json::json!({ "schema": "cvm.chunk/1", "index": 1, "data": "o" }));
    assert_eq!((&last["schema"], &last["ok"]), (&"cvm.call/1".into(), &true.into()));
    assert_eq!(last["result"]["content"][0]["text"], "2 lines");
}

#[test]
fn a_stream_that_the_tool_gives_up_is_a_failure() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = talker(&home, &url);
    let ran = home.run(&["call", &server, "fails", "--stream", "-r", &url]);
    assert_eq!((ran.code, ran.out.as_str()), (5, "half of"), "{ran:?}");
    assert!(ran.err.contains("it said: the pen\\u{1b}[2J broke"), "{}", ran.err);
    let ran = home.run(&["call", &server, "fails", "--stream", "-r", &url, "--json"]);
    assert_eq!((ran.code, &ran.error()["code"]), (5, &"tool_error".into()), "{ran:?}");
}

#[test]
fn an_interrupt_aborts_the_stream_and_cancels_the_call() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = talker(&home, &url);
    let mut reading = Reading::of(&home, &["call", &server, "hangs", "--stream", "-r", &url]);
    reading.until("and then");
    signal(reading.child.id(), Signal::INT);
    let ran = reading.end();
    assert_eq!((ran.code, ran.out.as_str()), (130, "and then"), "{ran:?}");
    assert!(ran.err.starts_with("error: stopped before it was done"), "{}", ran.err);
    for word in ["cancelled", "aborted"] {
        until(word, || home.path().join(word).exists().then_some(()));
    }
}

#[test]
fn a_call_without_a_stream_is_cancelled_by_a_termination_too() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = talker(&home, &url);
    let call = home.command(&["call", &server, "hangs", "-r", &url]).spawn().unwrap();
    until("the call", || home.path().join("called").exists().then_some(()));
    signal(call.id(), Signal::TERM);
    assert_eq!(Ran::of(call.wait_with_output().unwrap()).code, 143);
    until("cancelled", || home.path().join("cancelled").exists().then_some(()));
}

#[test]
fn whoever_reads_slowly_gets_everything() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = talker(&home, &url);
    let piece = "0123456789".repeat(3_000);
    std::fs::write(home.path().join("piece"), &piece).unwrap();
    let reading = Reading::of(&home, &["call", &server, "much", "--stream", "-r", &url]);
    until("the end of the tool", || home.path().join("done").exists().then_some(()));
    // What is on its way is more than a pipe and a stream may hold.
    std::thread::sleep(Duration::from_secs(2));
    let ran = reading.end();
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{} bytes", ran.out.len());
    assert!(ran.out == format!("{}\nthat was it\n", piece.repeat(100)), "{} bytes", ran.out.len());
}

#[test]
fn the_call_ends_when_nobody_reads_any_more() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    let args = ["call", &server, "tell", "topic=whales", "words=60000", "--stream", "-r", &url];
    let mut reading = Reading::of(&home, &args);
    reading.until("far ");
    drop(reading.out);
    let ran = Ran::of(reading.child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
}

#[test]
fn the_sample_server_tells_a_story_to_whoever_listens() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    let tell = |more: &[&str]| {
        let mut args = vec!["call", &server, "tell", "topic=whales", "words=30", "pause=1", "-r", &url];
        args.extend(more);
        let ran = home.run(&args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        ran.out
    };
    let story = tell(&[]);
    assert!(story.starts_with("far away somebody speaks of whales and") && story.lines().count() == 3);
    assert_eq!(tell(&["--stream"]), story);
    let lines = tell(&["--stream", "--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (document, pieces) = lines.split_last().unwrap();
    assert_eq!(document["result"]["content"][0]["text"], story);
    for (index, piece) in pieces.iter().enumerate() {
        assert_eq!(piece["index"], index);
    }
    assert_eq!(pieces.iter().map(|piece| piece["data"].as_str().unwrap()).collect::<String>(), story);
    assert_eq!(pieces.len(), 30);
}

#[test]
fn a_tool_that_does_not_write_just_answers() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_serve, server) = Running::sample(&home, &url);
    for (more, out) in [(&["add", "a=1", "b=2"][..], "3\n"), (&["echo", "message=hi"], "hi\n")] {
        let mut args = vec!["call", &server, "--stream", "-r", &url];
        args.extend(more);
        let ran = home.run(&args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, out, ""), "{ran:?}");
    }
    let ran = home.run(&["call", &server, "echo", "message=hi", "--stream", "-r", &url, "--json"]);
    assert_eq!(ran.json()["result"]["content"][0]["text"], "hi");
}

/// A server in this process.
#[derive(Clone, Debug)]
struct Plain;

/// Serves it under a new key, which is returned, as long as the runtime lives.
pub(crate) fn plain_server(options: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let server = options(Server::builder(contextvm::new_keys().unwrap()).fresh_key());
    let listener = runtime.block_on(server.start()).unwrap();
    let key = listener.handle().public_key().to_bech32().unwrap();
    runtime.spawn(serve_rmcp(listener, |_caller| Plain));
    (runtime, key)
}

#[tool_router]
impl Plain {
    #[tool(description = "Says hello")]
    fn hello(&self) -> String {
        "hello".to_owned()
    }
}

#[tool_handler]
impl ServerHandler for Plain {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[test]
fn a_server_without_streams_is_called_all_the_same_with_a_note() {
    let home = Home::new();
    let (_relay, url) = Running::relay(&home);
    let (_runtime, key) = plain_server(|server| server.relay(&url).open_streams(false));
    let ran = home.run(&["call", &key, "hello", "--stream", "-r", &url]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "hello\n"), "{ran:?}");
    assert!(ran.err.starts_with("note: the server does not say") && ran.err.lines().count() == 1, "{ran:?}");
    assert_eq!(home.run(&["call", &key, "hello", "--stream", "-r", &url, "-q"]).err, "");
}
