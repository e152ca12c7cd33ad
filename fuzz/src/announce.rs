//! Targets of what servers publish: announcements, lists, profiles, deletions, relay lists, and the memory of what is newest.
use contextvm_announce::price::compare_amounts;
use contextvm_announce::{
    Added, Directory, DirectoryLimits, DocumentKind, Heard, ListDocument, Lookalikes, MostPrice, Newest,
    Price, Profile, RelayList, ServerDocument, Signed, Wanted, relay_list_tags,
};
use contextvm_core::{Printable, kind};
use contextvm_crypto::Keys;
use nostr::event::{Tag, Tags};

use crate::bytes::Bytes;
use crate::people::{START, keys};
use crate::seeds::Seed;

/// The kinds that a view is made of; any other is refused.
const KINDS: [u16; 10] = [
    kind::SERVER_ANNOUNCEMENT,
    kind::TOOLS_LIST,
    kind::RESOURCES_LIST,
    kind::RESOURCE_TEMPLATES_LIST,
    kind::PROMPTS_LIST,
    kind::PROFILE,
    kind::RELAY_LIST,
    kind::COMMENT,
    kind::DELETION,
    kind::MESSAGE,
];

/// An event of any such kind with any tags and content: documents print and read alike; a view takes the event once, shows
/// nothing that harms, and lets it go when its author deletes it.
pub fn announcement(data: &[u8]) {
    let mut bytes = Bytes(data);
    let kind = bytes.pick(&KINDS);
    let Ok(text) = core::str::from_utf8(bytes.0) else { return };
    assert!(Signed::read(text).is_err(), "nobody guesses a signature");
    let (first, content) = text.split_once('\n').unwrap_or(("[]", text));
    let Some(tags) = tags(first) else { return };
    for document in DocumentKind::LISTS {
        list(document, content, &tags);
    }
    if let Ok(document) = ServerDocument::from_result(content, &tags) {
        assert!((1..=ServerDocument::VERSIONS).contains(&document.protocol_versions.len()));
        let _ = document.capability_names();
    }
    if let Ok(profile) = Profile::parse(content) {
        let printed = profile.to_content();
        let again = Profile::parse(&printed).expect("a printed profile is read");
        assert_eq!(again.to_content(), printed);
        assert_eq!(Profile { raw: profile.raw.clone(), ..again }, profile);
    }
    view(kind, &tags, content);
}

fn tags(json: &str) -> Option<Tags> {
    let list: Vec<Vec<String>> = serde_json::from_str(json).ok()?;
    Tags::parse(list).ok()
}

fn list(kind: DocumentKind, content: &str, tags: &Tags) {
    let Ok(document) = ListDocument::from_result(kind, content, tags) else { return };
    assert!(document.items.len() <= ListDocument::ITEMS);
    let member = kind.member().expect("a list has a member");
    let raw: Vec<&str> = document.items.iter().map(|item| item.raw.get()).collect();
    let printed = format!(r#"{{"{member}":[{}]}}"#, raw.join(","));
    let again = ListDocument::from_result(kind, &printed, tags).expect("what was kept is a list");
    assert_eq!(again.skipped, 0, "broken things were left out");
    assert!(again.items.iter().map(|item| &item.name).eq(document.items.iter().map(|item| &item.name)));
    for price in &document.prices {
        assert_eq!(Price::parse(&price.to_tag()).as_ref(), Some(price));
        let sense = compare_amounts(&price.amount, price.at_most());
        assert_eq!(sense.map(|order| order.reverse()), compare_amounts(price.at_most(), &price.amount));
    }
}

fn view(kind: u16, tags: &Tags, content: &str) {
    let me = keys(0x11);
    let event = me.sign_event(kind, START, tags.clone(), content.to_owned(), [7; 32]);
    let Ok(signed) = Signed::verify(event) else { return };
    let mut view = Directory::new(DirectoryLimits::default());
    let first = view.add(&signed, START);
    let held = view.bytes();
    match first {
        Ok(Added::New) => assert_eq!(view.add(&signed, START), Ok(Added::Known)),
        Ok(_) => assert_eq!(kind, kind::DELETION),
        Err(refused) => assert_eq!(view.add(&signed, START), Err(refused), "a refusal leaves no trace"),
    }
    assert_eq!(view.bytes(), held, "the same again takes no room");
    shown(&view);
    if kind != kind::DELETION {
        let gone = view.add(&deletion(&me, &signed), START);
        assert_eq!(gone, Ok(Added::Deletion(usize::from(first == Ok(Added::New)))));
        assert!(view.bytes() <= held);
        assert!(view.add(&signed, START).is_err(), "what was deleted does not come back");
    }
    let heard = Heard::of(&signed).with_result(content);
    if view.hear(&heard, START).is_ok() {
        assert!(view.servers().count() > 0);
        shown(&view);
    }
    lines(&view.newest().to_lines(), Some(view.newest()));
}

fn deletion(me: &Keys, event: &Signed) -> Signed {
    let tags = Tags::from_list(vec![Tag::custom("e", [event.id.to_hex()])]);
    Signed::verify(me.sign_event(kind::DELETION, START, tags, String::new(), [7; 32])).expect("it is signed")
}

fn shown(view: &Directory) {
    let stranger = keys(0x22).public_key();
    for server in view.servers() {
        let name = server.name();
        assert!(name.chars().count() <= 64 && contextvm_announce::shown_name(&name) == name);
        // A backslash is escaped by itself; whatever else is escaped harms.
        assert!(!Printable(&name.replace('\\', "")).to_string().contains('\\'), "{name:?}");
        let mut known = Lookalikes::default();
        known.know(*server.key(), &name);
        assert_eq!(known.of(&stranger, &name).is_some_and(|found| found.same), !name.is_empty());
        assert!(Wanted::default().matches(server));
        let about = server.about();
        let wanted = Wanted { text: about, tool: Some("*".to_owned()), free: true, ..Wanted::default() };
        let _ = wanted.matches(server);
        for text in ["0", "10 sats", "0.5usd"] {
            let most = MostPrice::parse(text);
            let paid = Wanted { tool: Some("?*a".to_owned()), most, encrypted: true, ..Wanted::default() };
            let _ = paid.matches(server);
        }
        let schema = Some("60D4".to_owned());
        let _ = Wanted { schema, since: Some(START), ..Wanted::default() }.matches(server);
        let _ = Wanted { category: Some("C".to_owned()), ..Wanted::default() }.matches(server);
        let _ = server.tags();
    }
}

/// Relay lists, one address or tag a line, and lines of the memory of what is newest.
pub fn relay_list(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    lines(text, None);
    let tags: Vec<Tag> = text.lines().filter_map(|line| tags(line)?.first().cloned()).collect();
    let list = RelayList::from_tags(&tags);
    assert!(list.entries.len() <= RelayList::ENTRIES);
    assert!(list.entries.iter().all(|entry| entry.url.len() <= RelayList::URL_BYTES));
    let selection = list.selection();
    let printed = relay_list_tags(&selection);
    assert_eq!(printed.len(), selection.len(), "each address once");
    let again = RelayList::from_tags(&printed);
    assert_eq!(again.selection(), selection);
    assert_eq!(again.skipped, 0);
}

/// What is read prints to lines that read alike, whoever reads them first.
fn lines(text: &str, expected: Option<&Newest>) {
    let mut newest = Newest::new(8);
    let skipped = newest.read_lines(text, START);
    assert!(newest.len() <= 8 && skipped <= text.lines().count());
    let printed = newest.to_lines();
    let mut again = Newest::new(8);
    assert_eq!(again.read_lines(&printed, START), 0);
    assert_eq!(again.to_lines(), printed);
    again.merge(&newest, START);
    assert_eq!(again.to_lines(), printed);
    let mut careful = Newest::new(4);
    careful.merge_vouched(&newest, START, |_key| false);
    assert!(careful.len() <= 1, "a quarter of the room");
    let mut careful = Newest::new(8);
    careful.merge_vouched(&newest, START, |_key| true);
    assert_eq!(careful.to_lines(), printed);
    if let Some(expected) = expected {
        assert_eq!(printed, expected.to_lines());
    }
}

/// The seeds of both targets.
pub(crate) fn seeds() -> Vec<Seed> {
    [announcements(), relay_lists()].concat()
}

fn announcements() -> Vec<Seed> {
    let key = keys(0x11).public_key().to_hex();
    let server = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"d","title":"t"}}"#;
    let modern = concat!(
        r#"{"supportedVersions":["2026-07-28"],"capabilities":{},"#,
        r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"d"}}}"#,
    );
    let tools = r#"{"tools":[{"name":"a","inputSchema":{}},{"name":"a"},7],"nextCursor":"n"}"#;
    let named = r#"[["name","P\u202ea\u200by"],["about","x y"],["support_encryption"],["pmi","p"],["x"]]"#;
    let caps = r#"[["cap","tool:a","1-9","sats"],["cap","tool:"],["i","ab","a"],["k","x"],["t"," c "]]"#;
    let address = format!("11316:{key}:");
    let review = format!(
        r#"[["A","{address}"],["K","11316"],["P","{key}"],["a","{address}"],["k","11316"],["p","{key}"]]"#
    );
    let deletion =
        format!(r#"[["a","{address}"],["a","1:{key}:"],["e","{}"],["k","11316"]]"#, "0a".repeat(32));
    let seed = |name, kind: u8, tags: &str, content: &str| {
        let text = format!("{}{tags}\n{content}", char::from(kind));
        ("announcement", name, text.into_bytes())
    };
    vec![
        seed("server", 0, named, server),
        seed("server_modern", 0, "[]", modern),
        seed("server_broken", 0, named, r#"{"supportedVersions":[]}"#),
        seed("tools", 1, caps, tools),
        seed("resources", 2, caps, r#"{"resources":[{"uri":"u:1"}]}"#),
        seed("templates", 3, "[]", r#"{"resourceTemplates":[{"uriTemplate":"u:{x}"}]}"#),
        seed("prompts", 4, "[]", r#"{"prompts":[]}"#),
        seed("profile", 5, "[]", r#"{"name":"n","about":"\n","nip05":7,"bot":true}"#),
        seed("relays", 6, r#"[["r","wss://a"],["r","wss://b","read"]]"#, ""),
        seed("review", 7, &review, "Fast and correct"),
        seed("deletion", 8, &deletion, "gone"),
        seed("message", 9, named, server),
    ]
}

fn relay_lists() -> Vec<Seed> {
    let (key, id) = (keys(0x11).public_key().to_hex(), "0a".repeat(32));
    let newest = format!("{key} 11316 1700000000 {id}\n{key} 0 1 {id}\n\n{key} 0 2 {id}");
    let broken = format!("{key} 11316 99999999999 {id}\n{key} 70000 1 {id}\n{key} 1 1\n {key} 1 1 {id}");
    let full: String = (0..12).map(|kind| format!("{key} {kind} 1 {id}\n")).collect();
    crate::seeds::texts(
        "relay_list",
        &[
            (
                "unmarked",
                "[[\"r\",\"wss://a\"]]\n[[\"r\",\" wss://b \",\"\"]]\n[[\"r\",\"wss://a\",\"read\"]]",
            ),
            (
                "marked",
                "[[\"r\",\"wss://w\",\"write\"]]\n[[\"r\",\"wss://r\",\"read\"]]\n[[\"r\",\"x\",\"else\"]]",
            ),
            ("odd", "[[\"r\"]]\n[[\"r\",\"\"]]\n[[\"p\",\"wss://p\"]]\n[[]]\n[]"),
            ("newest", &newest),
            ("newest_broken", &broken),
            ("newest_full", &full),
        ],
    )
}
