//! Stories of children in Node and Python that report what their parsers saw, and of a caller who words messages with care.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contextvm_bridge::{ChildCommand, Notice};
use contextvm_core::envelope::Envelope;
use contextvm_core::{Capability, Limits, kind};
use contextvm_relay::{PublishEvent, Relays, RelaysConfig};
use nostr::event::{Tag, Tags};
use nostr::types::RelayUrl;
use serde_json::{Value, json};

use crate::stage::{Stage, call, initialize, keys, reason};

/// A language that children are written in.
#[derive(Clone, Copy)]
pub(crate) struct Language {
    /// Prints where the interpreter itself is, which on some machines has a wrapper before it.
    whereabouts: [&'static str; 3],
    script: &'static str,
}

pub(crate) const NODE: Language =
    Language { whereabouts: ["node", "-p", "process.execPath"], script: "reporter.mjs" };
pub(crate) const PYTHON: Language =
    Language { whereabouts: ["python3", "-c", "import sys; print(sys.executable)"], script: "reporter.py" };

impl Language {
    /// Finds the interpreter.
    pub(crate) fn interpreter(self) -> Option<String> {
        let [program, args @ ..] = self.whereabouts;
        let ran = Command::new(program).args(args).output().ok().filter(|ran| ran.status.success())?;
        Some(String::from_utf8(ran.stdout).unwrap().trim().to_owned())
    }

    /// Whether this machine has it. A story that lacks it says so and ends; under CVM_NO_SKIPS it fails.
    #[expect(clippy::print_stderr, reason = "a story that is skipped is skipped by name")]
    pub(crate) fn is_here(self, story: &str) -> bool {
        let here = self.interpreter().is_some();
        let [program, ..] = self.whereabouts;
        assert!(here || std::env::var_os("CVM_NO_SKIPS").is_none(), "{story} needs {program}");
        if !here {
            eprintln!("skipped: {story} (no {program})");
        }
        here
    }

    fn child(self, seen: &Path, args: &[&str]) -> ChildCommand {
        let (program, directory) = (self.interpreter().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
        let script = directory.join("tests/child").join(self.script);
        let words = [program.as_str(), script.to_str().unwrap()].into_iter().chain(args.iter().copied());
        ChildCommand::new(words).unwrap().env("SEEN", seen).unwrap()
    }
}

/// A caller that signs whatever text it likes, and the child that reports what became of it.
struct Wording {
    stage: Stage,
    relays: Relays,
    seen: PathBuf,
    published: u64,
    _directory: tempfile::TempDir,
}

impl Wording {
    async fn start(language: Language) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let seen = directory.path().join("seen");
        let stage = Stage::serve(language.child(&seen, &[])).await;
        let url = RelayUrl::parse(&stage.relay.url()).unwrap();
        let (relays, _inbox) = Relays::connect(RelaysConfig::new([url])).unwrap();
        Self { stage, relays, seen, published: 0, _directory: directory }
    }

    /// Publishes a message as it is, in an event of its own.
    async fn say(&mut self, text: &str) {
        self.published += 1;
        let (server, number) = (keys(100).public_key().to_hex(), self.published.to_string());
        let tags = [Tag::custom("p", [server]), Tag::custom("nonce", [number])];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let tags = Tags::from_list(tags.to_vec());
        let event = keys(9).sign_event(kind::MESSAGE, now, tags, text.to_owned(), [0; 32]);
        let json = serde_json::to_string(&event).unwrap().into();
        let report = self.relays.publish(PublishEvent { id: event.id, json }).await;
        assert!(report.accepted.is_some(), "{report:?}");
    }

    /// What the child read since it started, beyond the opening of its session.
    fn reports(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seen).unwrap_or_default();
        // The child may be in the middle of a line.
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let read = whole.lines().map(|line| serde_json::from_str(line).expect(line));
        let opening = |report: &Value| {
            let method = report["method"].as_str().unwrap_or_default();
            method == "initialize" || method == "notifications/initialized"
        };
        read.filter(|report| !opening(report)).collect()
    }

    /// Waits until the child has read so many calls.
    async fn reported(&self, calls: usize) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let reports = self.reports();
            if reports.len() >= calls {
                return reports;
            }
            assert!(Instant::now() < end, "only {} of {calls} were read", reports.len());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the child has read so many calls, and a little longer for those that it should not read.
    async fn reported_in_all(&self, calls: usize) -> Vec<Value> {
        self.reported(calls).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.reports()
    }
}

/// Whether two readings are the same; numbers are compared as the doubles that some languages make of them.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| alike(one, other)))
        }
        _ => one == other,
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

const FORGED: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"forged","arguments":{}}}"#;

/// Puts line breaks and forged calls wherever JSON lets them be.
fn layout(dice: &mut Dice, number: usize) -> String {
    let mut text = String::new();
    let space = |text: &mut String, dice: &mut Dice| {
        for _ in 0..dice.roll(4) {
            text.push_str(["\n", "\r", "\r\n", "\t", " ", "\n\n"][dice.roll(6)]);
        }
    };
    let name = format!(r#""call-{number}\n\u2028 {}""#, ["\u{2028}", "\u{2029}", "\u{85}"][dice.roll(3)]);
    let quoted = serde_json::to_string(&format!("\n{FORGED}\n")).unwrap();
    let separated = format!("\"\u{2028}{}\u{2028}\"", FORGED.replace('"', "\\\""));
    let arguments =
        ["{", "\"a\"", ":", FORGED, ",", "\"b\"", ":", "[", FORGED, "]", ",", "\"c\"", ":", &quoted];
    let more = [",", "\"d\"", ":", &separated, "}"];
    let tokens =
        ["{", "\"jsonrpc\"", ":", "\"2.0\"", ",", "\"id\"", ":", "1", ",", "\"x\"", ":", FORGED, ","];
    let call =
        ["\"method\"", ":", "\"tools/call\"", ",", "\"params\"", ":", "{", "\"name\"", ":", &name, ","];
    let last = ["\"arguments\"", ":"];
    let all = [tokens.as_slice(), &call, &last, &arguments, &more, &["}", "}"]].concat();
    for token in all {
        space(&mut text, dice);
        if token == FORGED {
            // On a line of its own, unless somebody takes the line breaks out.
            text.push('\n');
        }
        text.push_str(token);
        if token == FORGED {
            text.push('\n');
        }
    }
    space(&mut text, dice);
    text
}

async fn two_lines_in_one_message(language: Language) {
    let mut wording = Wording::start(language).await;
    let (mut dice, mut expected) = (Dice(1), Vec::new());
    for number in 0..1_000 {
        let text = layout(&mut dice, number);
        assert!(
            text.lines().any(|line| line == FORGED),
            "as it is it would be several lines, with a forged one"
        );
        let message: Value = serde_json::from_str(&text).unwrap();
        expected.push(message["params"].clone());
        wording.say(&text).await;
        if number % 16 == 15 {
            wording.reported(expected.len()).await;
        }
    }
    let reports = wording.reported_in_all(expected.len()).await;
    assert_eq!(reports.len(), expected.len(), "one line for each message");
    for params in &expected {
        let report = reports.iter().find(|report| report["name"] == params["name"]).expect("was read");
        assert_eq!((&report["method"], &report["arguments"]), (&json!("tools/call"), &params["arguments"]));
    }
    wording.stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lines_in_one_message_are_one_line_for_node() {
    if NODE.is_here("two_lines_in_one_message_are_one_line_for_node") {
        two_lines_in_one_message(NODE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lines_in_one_message_are_one_line_for_python() {
    if PYTHON.is_here("two_lines_in_one_message_are_one_line_for_python") {
        two_lines_in_one_message(PYTHON).await;
    }
}

/// Spells a text in one of the ways that JSON has for it.
fn spelled(dice: &mut Dice, text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        let mut units = [0; 2];
        let escaped: String = letter
            .encode_utf16(&mut units)
            .iter()
            .map(|unit| if dice.roll(2) == 0 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") })
            .collect();
        match letter {
            '/' if dice.roll(3) == 0 => out.push_str("\\/"),
            '"' | '\\' if dice.roll(2) == 0 => out.extend(['\\', letter]),
            '\n' if dice.roll(2) == 0 => out.push_str("\\n"),
            '"' | '\\' | '\0'..='\u{1f}' => out.push_str(&escaped),
            _ if dice.roll(2) == 0 => out.push_str(&escaped),
            _ => out.push(letter),
        }
    }
    out
}

async fn one_name_everywhere(language: Language) {
    const NAMES: [&str; 15] = [
        "add",
        "Add",
        "add ",
        " add",
        "\u{430}dd",
        "a\u{300}dd",
        "\u{e0}dd",
        "add\0",
        "add\n",
        "\u{feff}add",
        "a/d\"d\\",
        "\u{1f600}",
        "add\u{200b}",
        "\u{212b}",
        "",
    ];
    const KEYS: [&str; 3] = ["name", "uri", "Name"];
    const METHODS: [&str; 6] =
        ["tools/call", "prompts/get", "resources/read", "tools/Call", "x/y", "tools/call "];
    let mut wording = Wording::start(language).await;
    let (mut dice, mut expected) = (Dice(2), 0);
    let limits = Limits::default();
    for number in 0..600 {
        let (method, key, name) = (METHODS[dice.roll(6)], KEYS[dice.roll(3)], NAMES[dice.roll(15)]);
        let mut members = vec![
            format!(r#""{}":"{}""#, spelled(&mut dice, key), spelled(&mut dice, name)),
            format!(r#""arguments":{{"n":{number}}}"#),
        ];
        if dice.roll(4) == 0 {
            let key = KEYS[dice.roll(3)];
            let another = format!(r#""{}":"other""#, spelled(&mut dice, key));
            members.insert(dice.roll(2), another);
        }
        let (key, method) = (spelled(&mut dice, "method"), spelled(&mut dice, method));
        let text = format!(
            r#"{{"params":{{{}}},"{key}":"{method}","id":{number},"jsonrpc":"2.0"}}"#,
            members.join(",")
        );
        let checked = Envelope::parse(&text, &limits).ok().and_then(|message| Capability::of(&message));
        wording.say(&text).await;
        let Some(checked) = checked else { continue };
        expected += 1;
        let reports = wording.reported(expected).await;
        let report = reports.last().unwrap();
        assert_eq!(report["arguments"]["n"], number, "{text}");
        assert_eq!(report["method"], checked.method, "{text}");
        if ["tools/call", "prompts/get"].contains(&checked.method.as_str()) {
            assert_eq!(report["name"], json!(checked.name), "{text}");
        }
    }
    assert!((300..600).contains(&expected), "{expected} messages were fit to be checked");
    assert_eq!(wording.reported_in_all(expected).await.len(), expected, "nothing unchecked was read");
    wording.stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_everywhere_in_node() {
    if NODE.is_here("one_name_everywhere_in_node") {
        one_name_everywhere(NODE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_everywhere_in_python() {
    if PYTHON.is_here("one_name_everywhere_in_python") {
        one_name_everywhere(PYTHON).await;
    }
}

/// Texts that parsers read differently: none of them gets through.
const AMBIGUOUS: [&str; 19] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud800","arguments":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":"\udc00\ud800"}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"\ud83d":1}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b","arguments":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b","arguments":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list","params":{"name":"a"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"a"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":{"y":1,"y":2}}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1e400}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":-1e400}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":NaN}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":Infinity}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":01}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,}}}"#,
    "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\nb\"}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"b\"}}",
    r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}]"#,
];

/// Arguments that get through letter by letter.
const UNUSUAL: [&str; 9] = [
    r#"{"x":9007199254740993}"#,
    r#"{"x":-0}"#,
    r#"{"x":-0.0}"#,
    r#"{"x":1.10}"#,
    r#"{"x":1E+2}"#,
    r#"{"x":1e-400}"#,
    r#"{"x":0.1000000000000000055511151231257827}"#,
    r#"{"x":"\ud83d\ude00\u0000\u2028"}"#,
    r#"{"":{"":[null,true,{}]}}"#,
];

async fn what_two_parsers_may_read_differently(language: Language) {
    let mut wording = Wording::start(language).await;
    for text in AMBIGUOUS {
        wording.say(text).await;
    }
    for (number, arguments) in UNUSUAL.iter().enumerate() {
        let call =
            format!(r#""method":"tools/call","params":{{"name":"call-{number}","arguments":{arguments}}}"#);
        wording.say(&format!(r#"{{"jsonrpc":"2.0","id":{number},{call}}}"#)).await;
        let reports = wording.reported(number + 1).await;
        assert_eq!(reports.len(), number + 1, "one line for each fit message: {reports:?}");
        let report = reports.last().unwrap();
        assert_eq!(report["name"], format!("call-{number}"));
        let line = report["line"].as_str().unwrap();
        assert!(line.contains(&format!(r#""arguments":{arguments}"#)), "{line}");
        let read: Value = serde_json::from_str(arguments).unwrap();
        assert!(alike(&report["arguments"], &read), "{report} for {arguments}");
    }
    assert_eq!(wording.reported_in_all(UNUSUAL.len()).await.len(), UNUSUAL.len());
    wording.stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_parsers_may_read_differently_never_reaches_node() {
    if NODE.is_here("what_two_parsers_may_read_differently_never_reaches_node") {
        what_two_parsers_may_read_differently(NODE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_parsers_may_read_differently_never_reaches_python() {
    if PYTHON.is_here("what_two_parsers_may_read_differently_never_reaches_python") {
        what_two_parsers_may_read_differently(PYTHON).await;
    }
}

async fn children_behaving_badly(language: Language) {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::serve(language.child(&directory.path().join("seen"), &[])).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let limit = Limits::default().child_line;
    for (tool, arguments, answer) in [
        ("garbage", "{}".to_owned(), "ok"),
        ("slowly", "{}".to_owned(), "ok"),
        ("long_line", format!(r#"{{"bytes":{limit}}}"#), "ok"),
        ("long_line", format!(r#"{{"bytes":{}}}"#, limit + 1), "ok"),
        ("twice", "{}".to_owned(), "first"),
        ("echo", "{}".to_owned(), "seen"),
    ] {
        assert_eq!(call(&client, tool, &arguments).await.unwrap(), answer, "{tool}");
    }
    assert_eq!(reason(&call(&client, "die_mid_line", "{}").await.unwrap_err()), "child_exited");
    assert_eq!(call(&client, "echo", "{}").await.unwrap(), "seen");
    let notices = stage.notices.all();
    assert!(notices.iter().any(|notice| matches!(notice, Notice::ChildNoise { .. })), "{notices:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_behaving_badly_in_node() {
    if NODE.is_here("children_behaving_badly_in_node") {
        children_behaving_badly(NODE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_behaving_badly_in_python() {
    if PYTHON.is_here("children_behaving_badly_in_python") {
        children_behaving_badly(PYTHON).await;
    }
}

async fn a_child_gets_its_own_words_and_listed_variables(language: Language) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("touched");
    let touch = format!("touch {}", file.display());
    let words = [
        &format!("; {touch}"),
        &format!("$({touch})"),
        &format!("`{touch}`"),
        &format!("&& {touch}"),
        &format!("'; {touch}; '"),
        &format!("\"\n{touch}\n"),
        "*",
        "~",
        "$HOME",
        "%PATH%",
        "",
        "a b",
        "\u{202e}",
        "\\",
    ]
    .map(ToString::to_string);
    let args: Vec<&str> = words.iter().map(String::as_str).collect();
    let stage = Stage::serve(language.child(&directory.path().join("seen"), &args)).await;
    let (client, _messages) = stage.client(1).await;
    initialize(&client).await;
    let argv: Vec<String> = serde_json::from_str(&call(&client, "argv", "{}").await.unwrap()).unwrap();
    assert_eq!(argv, words);
    assert!(!file.exists());
    let names: Vec<String> =
        serde_json::from_str(&call(&client, "environment", "{}").await.unwrap()).unwrap();
    let listed = ["PATH", "HOME", "LANG", "TERM", "TMPDIR", "PYTHONUNBUFFERED", "SEEN"];
    // Python sets the last one itself where there is no locale.
    let foreign = |name: &&String| !listed.contains(&name.as_str()) && *name != "LC_CTYPE";
    assert_eq!(names.iter().find(foreign), None);
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")), "there was something to keep back");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_in_node_gets_its_own_words_and_listed_variables() {
    if NODE.is_here("a_child_in_node_gets_its_own_words_and_listed_variables") {
        a_child_gets_its_own_words_and_listed_variables(NODE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_in_python_gets_its_own_words_and_listed_variables() {
    if PYTHON.is_here("a_child_in_python_gets_its_own_words_and_listed_variables") {
        a_child_gets_its_own_words_and_listed_variables(PYTHON).await;
    }
}
