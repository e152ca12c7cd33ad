//! Arguments as a person types them, against schemas as servers write them.
use serde_json::{Value, json};

use super::*;

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "min": {"type": ["number", "null"]},
            "on": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "ids": {"type": "array", "items": {"$ref": "#/$defs/id"}},
            "unit": {"enum": ["celsius", "fahrenheit", 3]},
            "mode": {"anyOf": [{"const": "fast"}, {"const": "slow"}]},
            "where": {"$ref": "#/$defs/place"},
            "dotted.name": {"type": "integer"},
            "loose": {},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "$defs": {
            "id": {"type": "integer"},
            "place": {"type": "object", "properties": {"zip": {"type": "string"}, "lat": {"type": "number"}}},
        },
    })
}

fn built(words: &[&str]) -> Result<String, Problem> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    build(&words, &weather())
}

fn refused(words: &[&str]) -> String {
    let problem = built(words).unwrap_err();
    assert_eq!(problem.exit(), 5);
    format!("{problem:?}")
}

#[test]
fn values_become_what_the_schema_wants() {
    for (word, json) in [
        ("city=42", r#"{"city":"42"}"#),
        ("city=", r#"{"city":""}"#),
        ("city=a=b", r#"{"city":"a=b"}"#),
        ("days=42", r#"{"days":42}"#),
        ("days=-3", r#"{"days":-3}"#),
        ("min=1.50", r#"{"min":1.50}"#),
        ("min=null", r#"{"min":null}"#),
        ("on=true", r#"{"on":true}"#),
        ("tags=a", r#"{"tags":["a"]}"#),
        (r#"tags=["a", "b"]"#, r#"{"tags":["a","b"]}"#),
        ("ids=7", r#"{"ids":[7]}"#),
        ("unit=celsius", r#"{"unit":"celsius"}"#),
        ("unit=3", r#"{"unit":3}"#),
        ("mode=fast", r#"{"mode":"fast"}"#),
        ("where.zip=0123", r#"{"where":{"zip":"0123"}}"#),
        ("where.lat=1", r#"{"where":{"lat":1}}"#),
        (r#"where={"zip": "1"}"#, r#"{"where":{"zip":"1"}}"#),
        ("dotted.name=1", r#"{"dotted.name":1}"#),
        ("loose=1", r#"{"loose":"1"}"#),
        ("either=1", r#"{"either":"1"}"#),
        ("either:=1", r#"{"either":1}"#),
        (r#"city:="x""#, r#"{"city":"x"}"#),
    ] {
        assert_eq!(built(&[word]).as_deref(), Ok(json), "{word}");
    }
}

#[test]
fn several_arguments_keep_their_order_and_lists_grow() {
    let words = ["tags=a", "where.zip=1", "tags=b", "where.lat=2", "city=c"];
    assert_eq!(built(&words).unwrap(), r#"{"tags":["a","b"],"where":{"zip":"1","lat":2},"city":"c"}"#);
}

#[test]
fn a_wrong_type_is_explained() {
    assert!(refused(&["days=soon"]).contains("wants a whole number"));
    assert!(refused(&["days=1.5"]).contains("wants a whole number"));
    assert!(refused(&["on=yes"]).contains("wants true or false"));
    assert!(refused(&["where=home"]).contains("an object"));
    assert!(refused(&["ids=a"]).contains("wants a whole number"));
}

#[test]
fn an_unknown_name_gets_the_nearest_one() {
    let text = refused(&["ctiy=x"]);
    assert!(text.contains("no argument") && text.contains("did you mean: city"), "{text}");
    assert!(refused(&["where.zpi=x"]).contains("did you mean: zip"));
}

#[test]
fn listed_values_are_shown() {
    let text = refused(&["unit=celcius"]);
    assert!(text.contains("did you mean: celsius") && text.contains("fahrenheit"), "{text}");
    assert!(refused(&["unit:=4"]).contains("it takes"));
    assert!(refused(&["mode=medium"]).contains("slow"));
}

#[test]
fn a_value_given_twice_is_refused() {
    assert!(refused(&["city=a", "city=b"]).contains("given twice"));
    assert!(refused(&["where={}", "where.zip=1"]).contains("a value and fields"));
}

#[test]
fn missing_arguments_are_named_with_their_types() {
    let schema =
        json!({"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"]});
    let text = format!("{:?}", build(&["b=x".to_owned()], &schema).unwrap_err());
    assert!(
        text.contains("the tool needs \\\"a\\\"") && text.contains("integer") && text.contains("a=1"),
        "{text}"
    );
}

#[test]
fn a_tool_that_takes_anything_gets_anything() {
    for schema in [json!({}), json!({"type": "object"}), json!({"properties": {}}), json!(null)] {
        assert_eq!(build(&["x=1".to_owned()], &schema).unwrap(), r#"{"x":"1"}"#);
    }
    let open = json!({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}});
    assert_eq!(build(&["x=1".to_owned()], &open).unwrap(), r#"{"x":1}"#);
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let schema = json!({"$ref": "#", "properties": {"a": {"$ref": "#/properties/a"}}});
    assert!(build(&["a=1".to_owned()], &schema).is_ok());
}

#[test]
fn a_whole_object_is_checked_alike() {
    assert!(check_object(r#"{"city":"x"}"#, &weather()).is_ok());
    assert!(check_object(r#"{"ctiy":"x"}"#, &weather()).is_err());
    assert!(check_object("[1]", &weather()).is_err());
    assert!(check_object("nope", &weather()).is_err());
}

#[test]
fn hostile_names_are_shown_safely() {
    let text = format!("{:?}", build(&["a\u{1b}[2J=1".to_owned()], &weather()).unwrap_err());
    assert!(!text.contains('\u{1b}'), "{text}");
}
