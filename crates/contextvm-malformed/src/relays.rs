//! What relays say (NIP-01, NIP-42, NIP-45): words, elements, types, and arrays that are none.
use crate::Cases;
use crate::json::{VALUES, broken};

const ID: &str = "000000000000000000000000000000000000000000000000000000000000000a";

/// A true frame: its word, the name of its kind, and its elements with what each must be.
struct Form {
    word: &'static str,
    read: &'static str,
    elements: Vec<(&'static str, &'static str, String)>,
    /// How many of them must be there.
    needed: usize,
}

fn forms() -> Vec<Form> {
    let subscription = || ("subscription", "string", "\"s\"".to_owned());
    let message = || ("message", "string", "\"m\"".to_owned());
    let form = |word, read, elements, needed| Form { word, read, elements, needed };
    vec![
        form("EVENT", "Event", vec![subscription(), ("event", "object", "{\"id\":\"a\"}".to_owned())], 2),
        form(
            "OK",
            "Ok",
            vec![("event id", "id", format!("\"{ID}\"")), ("verdict", "bool", "true".to_owned()), message()],
            2,
        ),
        form("EOSE", "EndOfStored", vec![subscription()], 1),
        form("CLOSED", "Closed", vec![subscription(), message()], 1),
        form("NOTICE", "Notice", vec![message()], 1),
        form("AUTH", "Auth", vec![("challenge", "string", "\"c\"".to_owned())], 1),
        form("COUNT", "Count", vec![subscription(), ("count", "object", "{\"count\":7}".to_owned())], 2),
    ]
}

impl Form {
    fn text(&self, elements: &[String]) -> String {
        let rest: String = elements.iter().map(|element| format!(",{element}")).collect();
        format!("[\"{}\"{rest}]", self.word)
    }

    fn values(&self) -> Vec<String> {
        self.elements.iter().map(|(_, _, value)| value.clone()).collect()
    }

    fn fine(&self) -> String {
        format!("taken {}", self.read)
    }
}

/// Adds a frame that is new because of an element that nobody knows.
fn add_new(cases: &mut Cases<'_>, name: String, text: &str, want: impl Into<String>) {
    cases.add(name, text, want);
}

pub(crate) fn add(cases: &mut Cases<'_>) {
    for form in forms() {
        elements(cases, &form);
        words(cases, &form);
        texts(cases, &form);
    }
    ids(cases);
    others(cases);
}

fn fits(kind: &str, value: &str) -> bool {
    match kind {
        "string" => value.starts_with('"'),
        "object" => value.starts_with('{'),
        "bool" => matches!(value, "true" | "false"),
        _ => false,
    }
}

fn elements(cases: &mut Cases<'_>, form: &Form) {
    let word = form.word;
    for count in 0..=form.elements.len() {
        let text = form.text(&form.values()[..count]);
        let want = if count < form.needed {
            format!("refused Element {}", form.elements[count].0)
        } else {
            form.fine()
        };
        add_new(cases, format!("{word}/elements/{count}"), &text, want);
    }
    for (nth, (name, kind, _)) in form.elements.iter().enumerate() {
        for (label, value) in VALUES {
            let mut values = form.values();
            values[nth] = value.to_owned();
            values.push(format!("{}", cases.list.len()));
            let want = if fits(kind, value) { form.fine() } else { format!("refused Element {name}") };
            add_new(
                cases,
                format!("{word}/type/{}/{label}", name.replace(' ', "-")),
                &form.text(&values),
                want,
            );
        }
    }
    for (label, more) in
        [("null", "null"), ("list", "[[],{}]"), ("object", "{\"a\":1}"), ("many", "1,2,3,4,5,6,7,8,9,10")]
    {
        let text = form.text(&[form.values(), vec![more.to_owned()]].concat());
        add_new(cases, format!("{word}/more/{label}"), &text, form.fine());
    }
    let many = vec!["{}".to_owned(); 1_000];
    add_new(cases, format!("{word}/more/thousand"), &form.text(&[form.values(), many].concat()), form.fine());
}

fn words(cases: &mut Cases<'_>, form: &Form) {
    let (word, rest) = (form.word, form.text(&form.values())[form.word.len() + 3..].to_owned());
    for (label, other) in [
        ("lower", word.to_lowercase()),
        ("title", format!("{}{}", &word[..1], word[1..].to_lowercase())),
        ("space-before", format!(" {word}")),
        ("space-after", format!("{word} ")),
        ("cut", word[..word.len() - 1].to_owned()),
        ("longer", format!("{word}S")),
        ("nul", format!("{word}\\u0000")),
        ("twice", word.repeat(2)),
    ] {
        add_new(cases, format!("{word}/word/{label}"), &format!("[\"{other}\"{rest}"), "refused Word");
    }
    let escaped = format!("\\u{:04x}{}", u32::from(word.as_bytes()[0]), &word[1..]);
    add_new(cases, format!("{word}/word/escaped"), &format!("[\"{escaped}\"{rest}"), form.fine());
    add_new(cases, format!("{word}/word/bare"), &format!("[{word}{rest}"), "refused NotAnArray");
    add_new(cases, format!("{word}/word/nested"), &format!("[[\"{word}\"{rest}]"), "refused Word");
}

fn texts(cases: &mut Cases<'_>, form: &Form) {
    let (word, text) = (form.word, form.text(&form.values()));
    for at in (2 + word.len()..text.len() - 1).step_by(3) {
        add_new(cases, format!("{word}/cut/{at}"), &text[..at], "refused NotAnArray");
    }
    for (label, other) in broken(&text) {
        // Without its bracket it is another value.
        add_new(cases, format!("{word}/{label}"), &other, "refused NotAnArray");
    }
    for (label, other, want) in [
        ("space", format!(" \n{text}\t"), form.fine()),
        ("after", format!("{text}{text}"), "refused NotAnArray".to_owned()),
        ("comma", format!("{text},"), "refused NotAnArray".to_owned()),
        ("mark", format!("\u{feff}{text}"), "refused NotAnArray".to_owned()),
        ("nul", format!("{text}\0"), "refused NotAnArray".to_owned()),
        ("object", format!("{{\"{word}\":1}}"), "refused NotAnArray".to_owned()),
        ("string", contextvm_core::object::quote(&text), "refused NotAnArray".to_owned()),
    ] {
        add_new(cases, format!("{word}/text/{label}"), &other, want);
    }
}

/// Ids that a relay may name in an OK: 64 hex digits, lowercase.
fn ids(cases: &mut Cases<'_>) {
    let refused = "refused Element event id";
    for length in (0..=66).filter(|length| *length != 64) {
        let id: String = ID.chars().cycle().take(length).collect();
        add_new(cases, format!("OK/id/length/{length}"), &format!("[\"OK\",\"{id}\",true,\"\"]"), refused);
    }
    for (label, id) in [
        ("upper", ID.to_uppercase()),
        ("0x", format!("0x{}", &ID[2..])),
        ("letter", format!("{}g", &ID[1..])),
        ("space", format!(" {}", &ID[1..])),
        ("double", ID.repeat(2)),
        ("note", format!("note1{}", &ID[5..])),
        ("emoji", "😀".repeat(16)),
    ] {
        add_new(cases, format!("OK/id/{label}"), &format!("[\"OK\",\"{id}\",true,\"\"]"), refused);
    }
}

fn others(cases: &mut Cases<'_>) {
    for (label, text, want) in [
        ("empty", "", "refused NotAnArray"),
        ("space", " ", "refused NotAnArray"),
        ("nothing", "[]", "refused Word"),
        ("null", "null", "refused NotAnArray"),
        ("number", "7", "refused NotAnArray"),
        ("string", "\"NOTICE\"", "refused NotAnArray"),
        ("object", "{}", "refused NotAnArray"),
        ("null-word", "[null]", "refused Word"),
        ("number-word", "[1,2]", "refused Word"),
        ("object-word", "[{}]", "refused Word"),
        ("list-word", "[[]]", "refused Word"),
        ("empty-word", "[\"\"]", "refused Word"),
        ("unknown", "[\"HELLO\",\"x\"]", "refused Word"),
        ("client-req", "[\"REQ\",\"s\",{}]", "refused Word"),
        ("client-close", "[\"CLOSE\",\"s\"]", "refused Word"),
        ("neg-open", "[\"NEG-OPEN\",\"s\",{},\"00\"]", "refused Word"),
        ("neg-err", "[\"NEG-ERR\",\"s\",\"blocked\"]", "refused Word"),
        ("ping", "[\"PING\"]", "refused Word"),
        ("html", "<html></html>", "refused NotAnArray"),
        ("http", "HTTP/1.1 200 OK", "refused NotAnArray"),
        ("json-rpc", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "refused NotAnArray"),
        ("lone-surrogate", "[\"NOTICE\",\"\\ud800\"]", "refused Element message"),
        ("open", "[", "refused NotAnArray"),
        ("closed", "]", "refused NotAnArray"),
        ("comma", "[,]", "refused NotAnArray"),
        ("trailing", "[\"EOSE\",\"s\",]", "refused NotAnArray"),
    ] {
        add_new(cases, format!("other/{label}"), text, want);
    }
    for levels in [10, 60, 100, 120] {
        let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        add_new(cases, format!("other/deep/{levels}"), &format!("[\"NOTICE\",\"m\",{deep}]"), "taken Notice");
    }
    let long = "x".repeat(100_000);
    for (label, text, want) in [
        ("notice", format!("[\"NOTICE\",\"{long}\"]"), "taken Notice"),
        ("auth", format!("[\"AUTH\",\"{long}\"]"), "taken Auth"),
        ("closed", format!("[\"CLOSED\",\"{long}\",\"{long}\"]"), "taken Closed"),
        ("word", format!("[\"{long}\"]"), "refused Word"),
    ] {
        add_new(cases, format!("other/long/{label}"), &text, want);
    }
}
