//! Hashes equal those of the TypeScript SDK: its vectors, and ten thousand generated tools.
use contextvm_announce::schema::{self, MAX_TOOL, hash_tool, verify};
use contextvm_announce::{SchemaError, SchemaHash, Verdict};
use contextvm_core::ScanError;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::generate::{Generator, hash_line};
use crate::raw;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    case: String,
    tool_text: String,
    expected_canonical: String,
    expected_hash: String,
}

#[derive(Deserialize)]
struct Refused {
    case: String,
    tool: Box<RawValue>,
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
    errors: Vec<Refused>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/cep15_hashes.json")).unwrap()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: String,
    #[serde(borrow)]
    input_schema: &'a RawValue,
    #[serde(borrow)]
    output_schema: Option<&'a RawValue>,
}

#[test]
fn the_vectors_of_the_typescript_sdk() {
    let vectors = vectors();
    assert_eq!((vectors.vectors.len(), vectors.errors.len()), (26, 4));
    for Vector { case, tool_text, expected_canonical, expected_hash } in vectors.vectors {
        assert_eq!(hash_tool(&raw(&tool_text)).unwrap().to_string(), expected_hash, "{case}");
        let tool: Tool<'_> = serde_json::from_str(&tool_text).unwrap();
        let canonical = schema::canonical(&tool.name, tool.input_schema, tool.output_schema);
        assert_eq!(canonical.as_deref(), Ok(expected_canonical.as_str()), "{case}");
        let hash = schema::hash(&tool.name, tool.input_schema, tool.output_schema);
        assert_eq!(hash.unwrap().to_string(), expected_hash, "{case}");
    }
    for Refused { case, tool } in vectors.errors {
        assert_eq!(hash_tool(&tool), Err(SchemaError::ExternalRef), "{case}");
    }
}

/// SHA-256 of the lines that `node interop/ts/schemas.mjs` prints for the 11,000 tools of this seed with `@contextvm/sdk` 0.11.14.
const LINES: &str = "834e866ec5b1d7ad4f8ef639f7eaef4e40e81ce50473835ed20f3a0ab8a415b1";

#[test]
fn ten_thousand_generated_tools_hash_as_the_typescript_sdk_hashes_them() {
    let mut generator = Generator::new(15);
    let lines: Vec<String> = (0..11_000).map(|_| hash_line(&generator.tool()) + "\n").collect();
    let hashed = lines.iter().filter(|line| !line.starts_with("refused")).count();
    assert!(hashed >= 10_000, "{hashed}");
    let digest = bitcoin_hashes::sha256::Hash::hash(lines.concat().as_bytes()).to_byte_array();
    assert_eq!(SchemaHash::from_bytes(digest).to_string(), LINES);
}

/// The SDK hashes these; no message that holds them gets as far as here, and what reads two ways is not called common.
#[test]
fn what_other_parsers_read_otherwise_is_refused() {
    let hash = |input: &str| hash_tool(&raw(&format!(r#"{{"name":"a","inputSchema":{input}}}"#)));
    assert!(matches!(hash(r#"{"const":"\ud800"}"#), Err(SchemaError::Text(ScanError::LoneSurrogate { .. }))));
    assert!(matches!(hash(r#"{"default":1e999}"#), Err(SchemaError::Text(ScanError::NumberRange { .. }))));
    let long = format!("1.{}", "0".repeat(64));
    assert!(matches!(hash(&long), Err(SchemaError::Text(ScanError::NumberLength { .. }))));
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    assert!(matches!(hash(&deep), Err(SchemaError::Text(ScanError::Depth { .. }))));
    let large = format!("\"{}\"", "x".repeat(MAX_TOOL));
    assert!(matches!(hash(&large), Err(SchemaError::Text(ScanError::TooLong { .. }))));
}

#[test]
fn what_is_no_tool_has_no_hash() {
    for text in [
        "[]",
        "7",
        "{}",
        r#"{"name":"a"}"#,
        r#"{"inputSchema":{}}"#,
        r#"{"name":7,"inputSchema":{}}"#,
        r#"{"name":"\ud800","inputSchema":{}}"#,
    ] {
        assert_eq!(hash_tool(&raw(text)), Err(SchemaError::NotATool), "{text}");
    }
}

#[test]
fn a_claim_is_recomputed_always() {
    let hash = "60d4353e9a5499b483d09f13d9e28060e70f34edf787bb7040ba30bd390f85af";
    let tool = |claim: &str| {
        raw(&format!(
            r#"{{"name":"a","inputSchema":{{"type":"object"}},"_meta":{{"io.contextvm/common-schema":{claim}}}}}"#
        ))
    };
    let right = tool(&format!(r#"{{"schemaHash":"{hash}"}}"#));
    let computed: SchemaHash = hash.parse().unwrap();
    assert_eq!(verify(&right), Ok(Verdict::Match(computed)));
    for wrong in ["".into(), hash.to_uppercase(), "é".repeat(100), hash.replace('6', "7")] {
        let claimed: String = wrong.chars().take(64).collect();
        let verdict = verify(&tool(&format!(r#"{{"schemaHash":"{wrong}"}}"#)));
        assert_eq!(verdict, Ok(Verdict::Mismatch { claimed, computed }));
    }
    for absent in ["null", "{}", "[]", r#"{"schemaHash":7}"#, r#"{"schemahash":"x"}"#] {
        assert_eq!(verify(&tool(absent)), Ok(Verdict::Absent), "{absent}");
    }
    assert_eq!(verify(&raw(r#"{"name":"a"}"#)), Ok(Verdict::Absent));
    let external = right.get().replace(r#"{"type":"object"}"#, r#"{"$ref":"http://x"}"#);
    assert_eq!(verify(&raw(&external)), Err(SchemaError::ExternalRef));
    // The last of two claims counts, as in JavaScript.
    let twice = tool(&format!(r#"{{"schemaHash":"x","schemaHash":"{hash}"}}"#));
    assert_eq!(verify(&twice), Ok(Verdict::Match(computed)));
}

#[test]
fn a_hash_is_read_as_it_is_printed_and_no_otherwise() {
    let text = "00ff".repeat(16);
    let hash: SchemaHash = text.parse().unwrap();
    assert_eq!(
        (hash.to_string(), format!("{hash:?}"), hash.as_bytes()[1]),
        (text.clone(), text.clone(), 255)
    );
    for bad in [text.to_uppercase(), text[1..].into(), format!("schema:{text}"), String::new()] {
        assert_eq!(bad.parse::<SchemaHash>(), Err(SchemaError::NotAHash), "{bad}");
    }
}
