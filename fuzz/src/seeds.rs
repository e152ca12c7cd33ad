//! The hand-made inputs of `corpus`: one per road that a target has, so that no fuzzer has to find JSON by itself.
use contextvm_core::WrapKind;
use contextvm_crypto::{Entropy, seal};
use nostr::event::Tag;

use crate::people::{START, keys, message, tags};
use crate::{
    announce, announcer, gate, jcs, nip44, relay_info, review, schema, small, stream, system, transfer,
};

/// One input: its target, its file name, its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed.
#[must_use]
pub fn all() -> Vec<Seed> {
    let words = [frames(), events(), envelopes(), scans(), opens()];
    let machines = [
        clients(),
        servers(),
        transfer::seeds(),
        stream::seeds(),
        announcer::seeds(),
        gate::seeds(),
        system::seeds(),
    ];
    let documents = [schema::seeds(), relay_info::seeds(), announce::seeds(), review::seeds()];
    let small = [nip44::seeds(), jcs::seeds(), small::seeds()];
    [words.concat(), machines.concat(), documents.concat(), small.concat()].concat()
}

/// One of them.
#[cfg(test)]
pub(crate) fn named(target: &str, name: &str) -> Vec<u8> {
    let seed = all().into_iter().find(|seed| (seed.0, seed.1) == (target, name));
    seed.expect("the seed is there").2
}

pub(crate) fn texts(target: &'static str, seeds: &[(&'static str, &str)]) -> Vec<Seed> {
    seeds.iter().map(|(name, text)| (target, *name, text.as_bytes().to_vec())).collect()
}

fn frames() -> Vec<Seed> {
    let id = "ab".repeat(32);
    let ok = format!(r#"["OK","{id}",false,"blocked: no"]"#);
    let long = format!(r#"["REQ","{}",{{}}]"#, "s".repeat(200));
    texts(
        "relay_frame",
        &[
            ("event", r#"["EVENT","sub",{"id":"x","tags":[]}]"#),
            ("ok", &ok),
            ("eose", r#"["EOSE","sub"]"#),
            ("closed", r#"["CLOSED","sub","auth-required: \u0007 who are you"]"#),
            ("notice", r#"["NOTICE","\ud83d\ude00 \u202e"]"#),
            ("challenge", r#"["AUTH","challenge"]"#),
            ("count", r#"["COUNT","sub",{"count":3}]"#),
            ("publish", r#"["EVENT",{"id":"x"}]"#),
            ("req", r##"["REQ","sub",{"kinds":[25910],"#p":["aa"]},{"ids":[],"limit":0}]"##),
            ("req_long", &long),
            ("close", r#"["CLOSE","sub"]"#),
            ("auth", r#"["AUTH",{"kind":22242}]"#),
            ("count_request", r#"["COUNT","sub",{}]"#),
            ("extra", r#" [ "EOSE" , "sub" , null , {} ] "#),
            ("wrong_types", r#"["OK",1,"true",null]"#),
            ("lone_surrogate", r#"["EOSE","\ud800"]"#),
            ("deep", &format!(r#"["NOTICE",{}"#, "[".repeat(300))),
        ],
    )
}

fn events() -> Vec<Seed> {
    let (client, me) = (keys(0x22), keys(0x11).public_key());
    let ping = || r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned();
    let plain = message(&client, START, tags(&me, []), ping());
    let flags = ["support_encryption", "support_repeats"].map(|name| Tag::custom(name, [""; 0]));
    let flagged = message(&client, START, tags(&me, flags), ping());
    let old = message(&client, START - 601, tags(&me, []), ping());
    let elsewhere = message(&client, START, tags(&client.public_key(), []), ping());
    let twice = message(&client, START, tags(&me, [Tag::public_key(me)]), ping());
    let note = client.sign_event(1, START, tags(&me, []), "hello".to_owned(), [1; 32]);
    let entropy = Entropy::from_bytes([5; Entropy::LEN]);
    let wrapped = |kind| seal(&plain, &me, kind, START, &entropy).expect("it is small").as_json();
    let json = plain.as_json();
    texts(
        "event",
        &[
            ("plain", &json),
            ("signed", &format!("+{json}")),
            ("sealed", &format!("*{json}")),
            ("flagged", &flagged.as_json()),
            ("old", &old.as_json()),
            ("elsewhere", &elsewhere.as_json()),
            ("two_recipients", &twice.as_json()),
            ("note", &note.as_json()),
            ("persistent_wrap", &wrapped(WrapKind::Persistent)),
            ("ephemeral_wrap", &wrapped(WrapKind::Ephemeral)),
            ("forged_content", &json.replacen("ping", "pong", 1)),
            ("duplicate_key", &json.replacen('{', r#"{"kind":1,"#, 1)),
            ("unknown_key", &json.replacen('{', r#"{"seen":[{"a":1}],"#, 1)),
            ("empty_tag", &json.replacen("[[", "[[],[", 1)),
            ("cut", json.get(..200).unwrap_or_default()),
        ],
    )
}

fn envelopes() -> Vec<Seed> {
    texts(
        "envelope",
        &[
            (
                "request",
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1.50}}}"#,
            ),
            (
                "token",
                r#"{"id":"x","method":"m","jsonrpc":"2.0","params":{"_meta":{"progressToken":0,"k":[]}}}"#,
            ),
            (
                "read",
                r#"{"jsonrpc":"2.0","id":9007199254740991,"method":"resources/read","params":{"uri":"a:b"}}"#,
            ),
            (
                "complete",
                r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}"#,
            ),
            (
                "notification",
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1.0}}"#,
            ),
            (
                "cancelled",
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0061"}}"#,
            ),
            ("result", r#"{"jsonrpc":"2.0","id":"a","result":{"x":123456789012345678901234567890}}"#),
            ("error", r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no","data":null}}"#),
            ("extra", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"_meta\":{},\"x\":[1 ,2]}\n"),
            (
                "meta_beside",
                r#"{"jsonrpc":"2.0","_meta":{"clientPubkey":"a","x":1},"id":1,"method":"m","params":{"_meta":{"clientPubkey":"b"}}}"#,
            ),
            ("null_id", r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#),
            ("fraction_id", r#"{"jsonrpc":"2.0","id":1.0,"method":"m"}"#),
            ("batch", r#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#),
            ("mixed", r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#),
            ("escaped_key", r#"{"jsonrpc":"2.0","id":1,"m\u0065thod":"m"}"#),
            ("lookalike", r#"{"jsonrpc":"2.0","id":1,"method":"m","Id":2}"#),
            ("positional", r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#),
        ],
    )
}

fn scans() -> Vec<Seed> {
    let open = "[".repeat(33);
    let nodes = format!("[{}0]", "0,".repeat(520));
    texts(
        "scan",
        &[
            ("object", r#"{"a":[1,-2.5e3,true,false,null,"x"],"b":{"c":{}}}"#),
            ("duplicate", r#"{"a":1,"\u0061":2}"#),
            ("pair", r#""\ud83d\ude00""#),
            ("lone", r#""\ud83d""#),
            ("escapes", r#""\"\\\/\b\f\n\r\t\u0000""#),
            ("number", "-0.0e-10"),
            ("long_number", &"1".repeat(80)),
            ("range", "1e400"),
            ("leading_zero", "01"),
            ("deep", &format!("{open}{}", "]".repeat(33))),
            ("nodes", &nodes),
            ("mark", "\u{feff}{}"),
            ("control", "\"\u{1}\""),
            ("trailing", "{} {}"),
            ("comma", "[1,]"),
            ("spaces", " \t\r\n{ \"a\" : [ ] }\n"),
            ("truncated", r#"{"a":"#),
        ],
    )
}

fn opens() -> Vec<Seed> {
    let with = |mode: u8, rest: &[u8]| [&[mode][..], rest].concat();
    let inner = message(&keys(0x22), START, tags(&keys(0x11).public_key(), []), "{}".to_owned()).as_json();
    [
        ("content", with(0, &[&b"Ag"[..], &[b'A'; 130]].concat())),
        ("short_content", with(0, b"Ag==")),
        ("marker", with(0, b"#2")),
        ("plaintext", with(1, inner.as_bytes())),
        ("not_json", with(1, b"hello")),
        ("undamaged", with(2, &[])),
        ("inner_id", with(2, &[10, 0, 1])),
        ("inner_signature", with(2, &[0xf0, 0, 1, 0xf1, 0, 2])),
        ("inner_whitespace", with(2, &[0, 0, 0])),
        ("wrap_undamaged", with(3, &[])),
        ("wrap_version", with(3, &[0, 0, 1])),
        ("wrap_mac", with(3, &[0xff, 2, 1])),
        ("wrap_newline", with(3, &[20, 0, b'A' ^ b'\n'])),
    ]
    .map(|(name, bytes)| ("open", name, bytes))
    .into()
}

/// Encrypted and stateful; eight calls may wait.
const CLIENT: [u8; 5] = [7, 0, 0, 0, 1];

fn clients() -> Vec<Seed> {
    // A request under id 1: operation, id, method, params.
    let call = [0, 1, 0, 1];
    // The server's result for the first draft: operation, draft (two bytes), id, shape, tags, author, protection.
    let result = [4, 0, 0, 1, 0, 3, 0, 2];
    let wake = [11, 2];
    // A text, its length before it.
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // Tools of all kinds, about the first draft, by the server in a wrap.
    let tools =
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{},{"name":"a"},{"name":"b","annotations":{}}]}}"#;
    let tools = [&[4, 0, 0, 1, 4][..], &text(tools), &[3, 0, 2]].concat();
    let foreign = text(r#"{"jsonrpc":"2.0","id":1,"method":"ping","x":1}"#);
    [
        ("tools_without_names", [&CLIENT[..], &[0, 1, 2, 0], &tools].concat()),
        ("more_members_than_json_rpc_has", [&CLIENT[..], &[3], &foreign, &result].concat()),
        ("answered", [&CLIENT[..], &call, &result].concat()),
        ("answered_twice", [&CLIENT[..], &call, &result, &result].concat()),
        ("repeated_answer", [&CLIENT[..], &call, &result, &[7, 0]].concat()),
        ("by_a_stranger", [&CLIENT[..], &call, &[4, 0, 0, 1, 0, 3, 7, 2]].concat()),
        ("unanswered", [&CLIENT[..], &call, &wake, &wake, &wake].concat()),
        ("refused", [&CLIENT[..], &call, &[8, 0, 0, 2], &wake, &[8, 0, 0, 2], &wake].concat()),
        ("unknown_then_up", [&CLIENT[..], &call, &[8, 0, 0, 1], &[11, 9], &wake].concat()),
        ("repeats_promised", [&CLIENT[..], &call, &[6, 0, 0, 0, 0, 1], &wake, &wake, &result].concat()),
        ("cancelled", [&CLIENT[..], &call, &[2, 0, 1], &result].concat()),
        ("progress", [&CLIENT[..], &[0, 1, 0, 2, 2], &[4, 0, 0, 2, 3, 3, 0, 2], &result].concat()),
        ("same_id_twice", [&CLIENT[..], &call, &call, &result, &[4, 1, 0, 1, 0, 3, 0, 2]].concat()),
        ("busy", [&[0, 0, 0, 0, 1][..], &call, &call, &call].concat()),
        ("closed", [&CLIENT[..], &call, &[11, 0], &call, &result].concat()),
        ("stateless", [&[7, 0, 0, 1, 1][..], &[0, 1, 1, 0], &[2, 1, 0], &call, &result].concat()),
        ("in_clear", [&[7, 2, 0, 0, 1][..], &call, &[4, 0, 0, 1, 0, 3, 0, 0]].concat()),
        (
            "server_request",
            [&CLIENT[..], &[6, 1, 1, 3, 0, 2], &[3, 36], br#"{"jsonrpc":"2.0","id":1,"result":{}}"#].concat(),
        ),
        ("anything", [&CLIENT[..], &[3, 19], br#"{"id":1,"method":1}"#].concat()),
        ("too_large", [&CLIENT[..], &[0, 1, 0, 3, 0xff, 0xff]].concat()),
        // A large request whose greeting is answered, and of whose sender the server then knows nothing.
        (
            "forgotten",
            [
                &CLIENT[..],
                &[0, 1, 0, 3, 0xff, 0xff],
                &[4, 0, 0, 1, 0, 5, 0, 2],
                &[13, 1, 0, 0, 7, 1, 0, 0, 1, 0, 2],
                &[4, 2, 0, 1, 0, 5, 0, 2],
            ]
            .concat(),
        ),
        // A quarter of an hour after an answer: our flags once more, and a greeting before what is large.
        (
            "long_silence",
            [&CLIENT[..], &call, &result, &[10, 255, 2].repeat(4), &call, &[0, 1, 0, 3, 0xff, 0xff]].concat(),
        ),
        // An answer in frames, all of them in order and with the request's name.
        ("in_pieces", [&CLIENT[..], &call, &[13, 0, 0, 200, 0, 0, 0, 1]].concat()),
        // A stream that is read: start, first chunk, answer.
        (
            "streamed",
            [
                &[7, 0, 0, 0, 3][..],
                &[12, 1, 0, 1],
                &[14, 0, 0, 0, 0, 0, 0, 2],
                &[14, 0, 0, 0, 2, 0, 0, 2],
                &result,
            ]
            .concat(),
        ),
        // The same where one call may wait, and then another one: what is not taken of the first is still there.
        (
            "read_and_not_taken",
            [
                &[0, 0, 0, 0, 3][..],
                &[12, 1, 0, 1],
                &[14, 0, 0, 0, 0, 0, 0, 2],
                &[14, 0, 0, 0, 2, 0, 0, 2],
                &result,
                &[12, 1, 0, 1],
            ]
            .concat(),
        ),
        // Three requests that would fit as messages and not as events, of a server that turns out to take no transfers.
        (
            "turned_into_events",
            [
                &CLIENT[..],
                &[0, 1, 0, 3, 0x38, 0xe0].repeat(2),
                &[0, 1, 0, 3, 0x08, 0x84],
                &[4, 0, 0, 1, 0, 3, 0, 2],
            ]
            .concat(),
        ),
    ]
    .map(|(name, bytes)| ("client_engine", name, bytes))
    .into()
}

/// Three requests per caller, encryption optional, everybody may call.
const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The same with a store.
const DURABLE: [u8; 6] = [2, 0, 0, 0, 0, 3];
/// Requests whose answers got to the disk and whose acceptances did not, more than the ledger has room for; then one again.
#[rustfmt::skip]
const EXECUTED_THOUGH_REFUSED: [u8; 70] = [
    2, 0, 0, 0, 16, 2, 1, 0, 0, 0, 2, 0, 0, 0, 0, 113,
    0, 16, 2, 128, 0, 43, 43, 43, 43, 229, 229, 0, 0, 43, 43, 43,
    0, 229, 229, 0, 0, 229, 229, 229, 229, 5, 0, 255, 0, 0, 1, 0,
    0, 0, 229, 229, 229, 0, 43, 46, 43, 43, 43, 43, 229, 229, 0, 229,
    229, 229, 229, 5, 0, 3,
];
/// The room for requests is full when an answer begins to wait for the end of its stream.
#[rustfmt::skip]
const NO_ROOM_TO_WAIT: [u8; 62] = [
    2, 0, 0, 0, 0, 1, 0, 255, 255, 255, 255, 255, 255, 255, 105, 255,
    146, 47, 146, 146, 146, 146, 146, 146, 146, 146, 146, 146, 61, 254, 59, 71,
    217, 63, 8, 0, 0, 0, 0, 0, 0, 66, 16, 2, 128, 249, 255, 255,
    249, 249, 249, 249, 0, 0, 0, 249, 249, 177, 177, 177, 237, 177,
];

/// A caller wants no more of a large answer whose turn has not come: `stopped_before_it_began`.
const STOPPED_BEFORE_IT_BEGAN: [u8; 130] = [
    66, 16, 2, 128, 249, 249, 40, 249, 0, 0, 216, 249, 249, 249, 249, 249, 249, 37, 249, 249, 249, 249, 249,
    249, 249, 249, 40, 30, 39, 2, 132, 132, 132, 78, 132, 237, 249, 249, 249, 249, 249, 249, 249, 249, 249,
    249, 249, 249, 249, 249, 249, 249, 249, 237, 237, 237, 36, 255, 255, 132, 0, 0, 39, 132, 82, 79, 41, 215,
    23, 32, 21, 16, 185, 249, 240, 132, 132, 78, 132, 0, 0, 63, 4, 33, 39, 216, 249, 249, 249, 249, 249, 249,
    249, 249, 249, 249, 249, 249, 249, 249, 249, 249, 249, 154, 217, 132, 82, 79, 41, 215, 163, 32, 98, 16,
    185, 132, 0, 0, 63, 4, 33, 39, 237, 237, 237, 237, 216, 39, 216, 55,
];

/// A request, its cancellation and the end of its session come within one look at the clock.
#[rustfmt::skip]
const CANCELLED_AND_CLOSED: [u8; 37] = [
    2, 1, 0, 0, 0, 1, 0, 37, 37, 37, 99, 37, 0, 37, 37, 37,
    37, 186, 135, 37, 0, 13, 13, 13, 46, 246, 170, 14, 4, 151, 37, 46,
    13, 247, 37, 37, 46,
];

fn servers() -> Vec<Seed> {
    // Operation, id, method, params; then author, tags, age, protection.
    let call = [0, 1, 0, 0, 0, 4, 0, 2];
    let plain = [0, 1, 0, 0, 0, 4, 0, 0];
    let other = [0, 1, 0, 0, 1, 4, 0, 2];
    let token = [0, 1, 0, 2, 3, 0, 4, 0, 2];
    let initialize = [0, 0, 1, 0, 0, 0, 0, 2];
    let initialized = [3, 0, 0, 0, 4, 0, 2];
    // Operation, request, shape, then the number in the result and whether to the right caller.
    let answer = [7, 0, 0, 5, 0];
    let taken = [12, 0, 0];
    let again = [6, 0, 2];
    let later = [13, 2, 20];
    let wake = [13, 0];
    // A transfer: which message, in which order, author, stamp.
    let upload = [16, 0, 0, 0, 0];
    // A request with a token of a caller that says one more thing about itself.
    let knowing = |flag: u8| [0, 1, 0, 2, 3, 0, flag, 0, 2];
    let write = [19, 0, 1, 50];
    // Relays take the first so many publications.
    let landed = |count: u8| (0..count).flat_map(|nth| [12, nth, 0]).collect::<Vec<u8>>();
    let refused = |count: u8| (0..count).flat_map(|nth| [12, nth, 2, 13, 0]).collect::<Vec<u8>>();
    let stop = |how: u8| [18, 2, 8, how, 0, 0, 0, 2];
    let remembered = [20, 4, 0];
    let list = |kind: u8, announced: u8| [2, 0, 0, kind, announced, 1];
    [
        ("answered", [&SERVER[..], &call, &answer, &taken].concat()),
        ("answered_twice", [&SERVER[..], &call, &answer, &answer].concat()),
        ("repeated", [&SERVER[..], &call, &again, &answer, &later, &again, &again].concat()),
        ("repeated_in_clear", [&SERVER[..], &plain, &answer, &later, &[6, 0, 0], &[6, 0, 1]].concat()),
        ("two_callers", [&SERVER[..], &call, &other, &[7, 1, 0, 5, 0], &answer].concat()),
        ("wrong_caller", [&SERVER[..], &call, &other, &[7, 0, 0, 5, 4, 1], &answer].concat()),
        ("cancelled", [&SERVER[..], &call, &[3, 1, 1, 0, 4, 0, 2], &answer, &wake].concat()),
        ("progress", [&SERVER[..], &token, &[9, 0, 0, 0, 1], &[9, 0, 0, 1], &[9, 0, 1, 1], &answer].concat()),
        ("refused_by_relays", [&SERVER[..], &call, &answer, &[12, 0, 2], &wake, &[12, 1, 2], &wake].concat()),
        ("too_large", [&SERVER[..], &call, &[7, 0, 3, 0]].concat()),
        ("too_large_for_relays", [&[2, 0, 0, 0, 0, 5][..], &call, &[7, 0, 3, 0], &refused(7)].concat()),
        ("nonsense", [&SERVER[..], &call, &[7, 0, 4, 0]].concat()),
        ("initialised", [&SERVER[..], &initialize, &answer, &initialized, &[9, 0, 3, 1], &taken].concat()),
        ("restarted", [&SERVER[..], &call, &initialize, &answer, &[7, 1, 0, 1, 0], &wake].concat()),
        (
            "subscribed",
            [
                &SERVER[..],
                &initialized,
                &[0, 1, 3, 1, 0, 4, 0, 2],
                &answer,
                &[9, 0, 2, 1],
                &[0, 2, 4, 1, 0, 4, 0, 2],
            ]
            .concat(),
        ),
        (
            "subscription_taken_back",
            [
                &SERVER[..],
                &initialized,
                &[0, 1, 3, 1, 0, 4, 0, 2],
                &[3, 1, 1, 0, 4, 0, 2],
                &answer,
                &[9, 0, 2, 1],
                &wake,
            ]
            .concat(),
        ),
        ("server_request", [&SERVER[..], &initialize, &[10, 0, 1], &[4, 0, 1, 1, 0, 4, 0, 2]].concat()),
        ("session_closed", [&SERVER[..], &call, &[14, 0], &answer].concat()),
        (
            "busy",
            [&[0, 0, 0, 0, 0, 1][..], &call, &[0, 2, 0, 0, 0, 4, 0, 2], &[0, 3, 0, 0, 0, 4, 0, 2]].concat(),
        ),
        ("early", [&SERVER[..], &[0, 1, 0, 0, 0, 4, 13, 2], &wake, &later, &wake, &answer].concat()),
        (
            "subscription_ended",
            [&SERVER[..], &[0, 1, 6, 0, 0, 4, 0, 2], &[9, 0, 4, 0, 1], &later, &again].concat(),
        ),
        ("stale", [&SERVER[..], &[0, 1, 0, 0, 0, 4, 9, 2], &[0, 1, 0, 0, 0, 4, 5, 2]].concat()),
        ("downgraded", [&SERVER[..], &call, &plain, &answer].concat()),
        ("required", [&[2, 1, 1, 0, 0, 1][..], &plain, &call, &answer].concat()),
        ("disabled", [&[2, 2, 0, 0, 0, 1][..], &call, &plain, &answer].concat()),
        ("nobody", [&list(1, 1)[..], &call, &other, &wake].concat()),
        ("listed", [&list(2, 0)[..], &call, &other, &[0, 1, 2, 0, 1, 4, 0, 2], &answer].concat()),
        ("asked_key", [&list(3, 1)[..], &other, &other, &again, &[11, 0, 1], &answer].concat()),
        ("refused_key", [&list(3, 1)[..], &other, &[11, 0, 0], &other, &[11, 1, 1], &answer].concat()),
        ("asked_capability", [&list(4, 1)[..], &other, &[11, 0, 0], &[11, 1, 1], &answer].concat()),
        ("no_decision", [&list(4, 1)[..], &other, &wake, &wake].concat()),
        ("transferred", [&SERVER[..], &call, &answer, &taken, &upload, &[7, 1, 0, 5, 0]].concat()),
        ("transferred_backwards", [&SERVER[..], &call, &answer, &taken, &[16, 1, 2, 0, 0]].concat()),
        ("transferred_with_a_gap", [&SERVER[..], &call, &answer, &[16, 1, 3, 1, 0, 9, 0, 0], &wake].concat()),
        ("transferred_by_a_stranger", [&SERVER[..], &upload].concat()),
        ("large_answer", [&SERVER[..], &knowing(5), &[7, 0, 3, 0], &landed(9)].concat()),
        (
            "large_answer_stopped",
            [&SERVER[..], &knowing(5), &[7, 0, 3, 0], &landed(2), &stop(4), &landed(9)].concat(),
        ),
        ("streamed", [&SERVER[..], &knowing(6), &write, &answer, &landed(9)].concat()),
        ("stream_stopped", [&SERVER[..], &knowing(6), &write, &landed(1), &stop(2), &answer].concat()),
        (
            "stream_without_a_reader",
            [&SERVER[..], &knowing(6), &write, &landed(9), &wake, &wake, &answer].concat(),
        ),
        ("remembered", [&DURABLE[..], &call, &remembered, &answer, &remembered, &later, &again].concat()),
        ("unstored", [&DURABLE[..], &call, &[20, 4, 3], &again, &other, &remembered].concat()),
        (
            "restarted_with_its_store",
            [&DURABLE[..], &call, &remembered, &answer, &remembered, &[22, 0], &again].concat(),
        ),
        ("interrupted", [&DURABLE[..], &call, &remembered, &[22, 1], &again, &later, &again].concat()),
        (
            "died_before_it_was_written",
            [&DURABLE[..], &call, &[22, 0], &again, &remembered, &answer].concat(),
        ),
        ("no_room_to_wait", NO_ROOM_TO_WAIT.to_vec()),
        ("executed_though_refused", EXECUTED_THOUGH_REFUSED.to_vec()),
        ("stopped_before_it_began", STOPPED_BEFORE_IT_BEGAN.to_vec()),
        ("cancelled_and_closed", CANCELLED_AND_CLOSED.to_vec()),
        ("anything", [&SERVER[..], &[5, 5], b"{\"a\":", &[0, 4, 0, 2], &[15, 0, 2], b"[]"].concat()),
    ]
    .map(|(name, bytes)| ("server_engine", name, bytes))
    .into()
}
