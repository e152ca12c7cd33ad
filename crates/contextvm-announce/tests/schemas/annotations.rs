//! What a server writes into its list of tools, and what a client reads there.
use contextvm_announce::{CommonSchemas, SchemaError, SchemaHash, SchemaNote, Verdict, schema};
use contextvm_core::ScanError;
use nostr::event::Tag;
use serde_json::value::RawValue;

use crate::raw;

const WEATHER: &str = "e4e76a3da683d92b15013997f08eee2018c49074a28e726e277c32fde0dd5783";
const INPUT: &str =
    r#"{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}"#;

fn tags(list: &[&[&str]]) -> Vec<Tag> {
    list.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()).collect()
}

fn tools(result: &str) -> Vec<Box<RawValue>> {
    #[derive(serde::Deserialize)]
    struct List {
        tools: Vec<Box<RawValue>>,
    }
    serde_json::from_str::<List>(result).unwrap().tools
}

#[test]
fn common_tools_are_marked_and_everything_else_keeps_its_text() {
    let list = format!(
        r#"{{"nextCursor":"2", "ttl":1.0,"tools":[ {{"name":"other","x":1.50}},{{"name":"get_weather","n":1e2,"inputSchema":{INPUT},"_meta":{{"k":-0,"io.contextvm/common-schema":{{"v":2.0}}}} }}]}}"#
    );
    let common = CommonSchemas::default()
        .with_tool("get_weather")
        .with_tool("absent")
        .with_category(" weather ")
        .with_category("")
        .with_category("weather")
        .with_category("maps");
    assert_eq!(common.tools().collect::<Vec<_>>(), ["absent", "get_weather"]);
    assert_eq!(common.categories().collect::<Vec<_>>(), ["weather", "maps"]);
    let annotated = common.annotate(&raw(&list)).unwrap();
    assert_eq!(
        annotated.text,
        format!(
            r#"{{"nextCursor":"2","ttl":1.0,"tools":[{{"name":"other","x":1.50}},{{"name":"get_weather","n":1e2,"inputSchema":{INPUT},"_meta":{{"k":-0,"io.contextvm/common-schema":{{"v":2.0,"schemaHash":"{WEATHER}"}}}}}}]}}"#
        )
    );
    let expected: [&[&str]; 4] = [
        &["i", WEATHER, "get_weather"],
        &["k", "io.contextvm/common-schema"],
        &["t", "weather"],
        &["t", "maps"],
    ];
    assert_eq!(annotated.tags, tags(&expected));
    assert_eq!(annotated.notes, []);
    let hash: SchemaHash = WEATHER.parse().unwrap();
    assert_eq!(schema::verify(&tools(&annotated.text)[1]), Ok(Verdict::Match(hash)));
    // Done twice is done once.
    let again = common.annotate(&raw(&annotated.text)).unwrap();
    assert_eq!(again, annotated);
}

#[test]
fn without_a_common_tool_nothing_is_said() {
    let list = r#"{ "tools": [ {"name":"a","inputSchema":{}} , 7, {"name":7} ] }"#;
    for common in [CommonSchemas::default(), CommonSchemas::default().with_tool("b").with_category("c")] {
        let annotated = common.annotate(&raw(list)).unwrap();
        assert_eq!((annotated.text.as_str(), annotated.tags.len(), annotated.notes.len()), (list, 0, 0));
    }
    let category = CommonSchemas::default().with_category("c").annotate(&raw(list)).unwrap();
    assert_eq!(
        (category.text.as_str(), category.tags.len()),
        (list, 1),
        "categories stand alone where nothing is common"
    );
    assert_eq!(category.tags[0].as_slice(), ["t", "c"]);
    assert!(CommonSchemas::default().is_empty() && !CommonSchemas::default().with_tool("b").is_empty());
}

#[test]
fn a_wrong_claim_is_replaced_and_reported() {
    let list = format!(
        r#"{{"tools":[{{"name":"get_weather","inputSchema":{INPUT},"_meta":{{"io.contextvm/common-schema":{{"schemaHash":"{}"}}}}}}]}}"#,
        "f".repeat(90)
    );
    let annotated = CommonSchemas::default().with_tool("get_weather").annotate(&raw(&list)).unwrap();
    let computed = WEATHER.parse().unwrap();
    let note = SchemaNote::Replaced { tool: "get_weather".into(), claimed: "f".repeat(64), computed };
    assert_eq!(annotated.notes, [note]);
    assert_eq!(schema::verify(&tools(&annotated.text)[0]), Ok(Verdict::Match(computed)));
    // Claims that are none are replaced without a word.
    for meta in [
        "null",
        "7",
        r#"{"io.contextvm/common-schema":null}"#,
        r#"{"io.contextvm/common-schema":{"schemaHash":7}}"#,
    ] {
        let list = format!(r#"{{"tools":[{{"name":"get_weather","inputSchema":{INPUT},"_meta":{meta}}}]}}"#);
        let annotated = CommonSchemas::default().with_tool("get_weather").annotate(&raw(&list)).unwrap();
        assert_eq!(annotated.notes, []);
        assert_eq!(schema::verify(&tools(&annotated.text)[0]), Ok(Verdict::Match(computed)));
    }
}

#[test]
fn a_tool_without_a_hash_is_left_alone_and_reported() {
    let list = r#"{"tools":[{"name":"a","inputSchema":{"$ref":"http://x"}},{"name":"b"}]}"#;
    let annotated = CommonSchemas::default().with_tool("a").with_tool("b").annotate(&raw(list)).unwrap();
    assert_eq!((annotated.text.as_str(), annotated.tags.len()), (list, 0));
    let note = |tool: &str, error| SchemaNote::Refused { tool: tool.into(), error };
    assert_eq!(annotated.notes, [note("a", SchemaError::ExternalRef), note("b", SchemaError::NotATool)]);
}

#[test]
fn literal_schemas_replace_generated_ones_so_that_alike_tools_hash_alike() {
    let generated = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"location":{"type":"string"}},"required":["location"]}"#;
    let list = format!(
        r#"{{"tools":[{{"name":"get_weather","inputSchema":{generated},"outputSchema":{{"type":"object"}},"title":"T"}}]}}"#
    );
    let literal = CommonSchemas::default().with_literal("get_weather", INPUT, None).unwrap();
    let annotated = literal.annotate(&raw(&list)).unwrap();
    let expected: [&[&str]; 2] = [&["i", WEATHER, "get_weather"], &["k", "io.contextvm/common-schema"]];
    assert_eq!(annotated.tags, tags(&expected));
    assert_eq!(
        annotated.text,
        format!(
            r#"{{"tools":[{{"name":"get_weather","inputSchema":{INPUT},"title":"T","_meta":{{"io.contextvm/common-schema":{{"schemaHash":"{WEATHER}"}}}}}}]}}"#
        )
    );
    // A tool that claims the right hash for the wrong schema is listed with the right schema.
    let claiming = annotated.text.replace(INPUT, generated);
    assert_eq!(literal.annotate(&raw(&claiming)).unwrap().text, annotated.text);
    // A later `with_tool` does not take the literal away; an output schema counts.
    let both = literal.with_tool("get_weather").with_literal("b", INPUT, Some("{}")).unwrap();
    assert_eq!(both.annotate(&raw(&list)).unwrap(), annotated);
    let list = r#"{"tools":[{"name":"b","inputSchema":{"not":1}}]}"#;
    let annotated = both.annotate(&raw(list)).unwrap();
    assert!(annotated.text.contains(r#""outputSchema":{}"#), "{}", annotated.text);
    assert!(matches!(schema::verify(&tools(&annotated.text)[0]), Ok(Verdict::Match(_))));
}

#[test]
fn literal_schemas_are_checked_when_they_are_given() {
    let literal = |input: &str, output| CommonSchemas::default().with_literal("a", input, output).err();
    assert_eq!(literal("[]", None), Some(SchemaError::NotAnObject));
    assert_eq!(literal("{}", Some("true")), Some(SchemaError::NotAnObject));
    assert_eq!(literal("{}", Some(r#"{"$ref":""}"#)), Some(SchemaError::ExternalRef));
    assert_eq!(literal("{", None), Some(SchemaError::Text(ScanError::Truncated)));
    assert!(matches!(
        literal(r#"{"a":1,"a":1}"#, None),
        Some(SchemaError::Text(ScanError::DuplicateKey { .. }))
    ));
}

#[test]
fn what_is_no_list_is_refused() {
    let common = CommonSchemas::default().with_tool("a");
    for text in ["[]", "{}", r#"{"tools":{}}"#, r#"{"tools":null}"#] {
        assert_eq!(common.annotate(&raw(text)), Err(SchemaError::NotAList), "{text}");
    }
    let twice = raw(r#"{"tools":[],"tools":[]}"#);
    assert!(matches!(common.annotate(&twice), Err(SchemaError::Text(ScanError::DuplicateKey { .. }))));
}
