//! Common schemas that tools claim to follow, recomputed (CEP-15).
use contextvm::announce::schema::{self, SchemaError};
use contextvm::announce::{ListDocument, Verdict};
use contextvm::core::Printable;
use serde::Serialize;

/// One tool that claims a common schema.
pub(super) struct Schema {
    pub(super) tool: String,
    pub(super) verdict: Result<Verdict, SchemaError>,
}

/// What became of a claim, for programs.
#[derive(Serialize)]
pub(super) struct SchemaDocument<'a> {
    tool: &'a str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Checks every claim of a list: of the tools themselves, and of the tags beside them.
pub(super) fn check(list: &ListDocument) -> Vec<Schema> {
    let tools = list.items.iter().filter_map(|item| {
        let verdict = match schema::verify(&item.raw) {
            Ok(Verdict::Absent) => by_tag(list, &item.name, schema::hash_tool(&item.raw))?,
            verdict => verdict,
        };
        Some(Schema { tool: item.name.clone(), verdict })
    });
    tools.collect()
}

/// Judges a claim that stands in a tag only.
fn by_tag(
    list: &ListDocument,
    tool: &str,
    computed: Result<schema::SchemaHash, SchemaError>,
) -> Option<Result<Verdict, SchemaError>> {
    let tag = list.schemas.iter().find(|tag| tag.tool == tool)?;
    Some(computed.map(|computed| {
        if computed.to_string() == tag.hash {
            Verdict::Match(computed)
        } else {
            Verdict::Mismatch { claimed: tag.hash.chars().take(64).collect(), computed }
        }
    }))
}

impl Schema {
    /// Shows the verdict and the hash.
    pub(super) fn shown(&self) -> (&'static str, String) {
        match &self.verdict {
            Ok(Verdict::Match(hash)) => ("match", hash.to_string()),
            Ok(Verdict::Mismatch { claimed, computed }) => {
                ("mismatch", format!("{computed}, not {}", Printable::short(claimed, 64)))
            }
            Ok(Verdict::Absent) => ("absent", String::new()),
            Err(error) => ("mismatch", format!("it has no hash: {error}")),
        }
    }

    pub(super) fn document(&self) -> SchemaDocument<'_> {
        let tool = self.tool.as_str();
        let plain = |verdict| SchemaDocument { tool, verdict, hash: None, claimed: None, reason: None };
        match &self.verdict {
            Ok(Verdict::Match(hash)) => SchemaDocument { hash: Some(hash.to_string()), ..plain("match") },
            Ok(Verdict::Mismatch { claimed, computed }) => SchemaDocument {
                hash: Some(computed.to_string()),
                claimed: Some(claimed),
                ..plain("mismatch")
            },
            Ok(Verdict::Absent) => plain("absent"),
            Err(error) => SchemaDocument { reason: Some(error.to_string()), ..plain("mismatch") },
        }
    }
}
