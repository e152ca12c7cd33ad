//! Servers by what their tools take and give: common schemas, recomputed from what the servers list (CEP-15).
use contextvm_announce::schema::{self, SchemaHash, Verdict};
use contextvm_announce::{DocumentKind, ServerEntry};
use nostr::key::PublicKey;

use crate::discover::{DiscoverError, Discovery, Found, Scope};
use crate::names::SchemaName;

/// A tool whose schema is the one that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The server.
    pub server: PublicKey,
    /// The tool, foreign text.
    pub tool: String,
    /// The hash that the tool has.
    pub hash: SchemaHash,
}

/// Servers with a tool of a schema.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Providers {
    /// Tools that have the schema, by server and in the order of its list.
    pub verified: Vec<Provider>,
    /// Tools that claim the schema and have another: they must not stand in for it.
    pub mismatched: Vec<Provider>,
    /// Everything that was found, and who answered.
    pub found: Found,
}

impl Providers {
    /// Lists the different hashes of the tools that were found: more than one when the beginning of a hash is not unique.
    #[must_use]
    pub fn hashes(&self) -> Vec<SchemaHash> {
        let mut hashes: Vec<_> = self.verified.iter().map(|provider| provider.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    async fn among(found: Found, wanted: &SchemaName) -> Self {
        let (mut verified, mut mismatched) = (Vec::new(), Vec::new());
        for entry in found.directory.servers() {
            look(entry, wanted, &mut verified, &mut mismatched);
            // Thousands of tools may be hashed here, while sockets want to be served.
            tokio::task::yield_now().await;
        }
        Self { verified, mismatched, found }
    }
}

fn look(
    entry: &ServerEntry,
    wanted: &SchemaName,
    verified: &mut Vec<Provider>,
    mismatched: &mut Vec<Provider>,
) {
    let tools =
        entry.list(DocumentKind::Tools).map(|part| part.document.items.as_slice()).unwrap_or_default();
    for tool in tools {
        let provider = |hash| Provider { server: *entry.key(), tool: tool.name.clone(), hash };
        match schema::verify(&tool.raw) {
            Ok(Verdict::Match(hash)) if wanted.matches(&hash.to_string()) => verified.push(provider(hash)),
            Ok(Verdict::Mismatch { claimed, computed }) if wanted.matches(&claimed) => {
                mismatched.push(provider(computed));
            }
            // Another schema, none, or one that has no hash.
            Ok(Verdict::Match(_) | Verdict::Mismatch { .. } | Verdict::Absent) | Err(_) => {}
        }
    }
}

impl Discovery {
    /// Looks for servers that have a tool of a schema, and believes only what their tool lists show (CEP-15).
    ///
    /// A whole hash is asked for; of the beginning of one, all servers with common schemas are looked at.
    ///
    /// # Errors
    /// As [`Discovery::servers`].
    pub async fn providers(&self, schema: &SchemaName) -> Result<Providers, DiscoverError> {
        let hash: Option<SchemaHash> = schema.digits().parse().ok();
        let scope = Scope { schema: hash, common_schemas: hash.is_none(), ..Scope::default() };
        Ok(Providers::among(self.servers(&scope).await?, schema).await)
    }
}
