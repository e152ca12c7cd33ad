//! The rules file, as data.
use std::collections::BTreeMap;

use serde::Deserialize;

/// Everything that `architecture.rules.toml` says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// Layers from the bottom to the top.
    pub(crate) layers: Vec<String>,
    /// One entry per workspace crate.
    pub(crate) crates: BTreeMap<String, CrateRule>,
    /// Dependencies that only the named crates may have.
    pub(crate) confined: BTreeMap<String, Vec<String>>,
    /// Dependencies that no crate below a layer may have.
    pub(crate) from_layer: BTreeMap<String, String>,
    /// Words nobody, or no pure crate, may use.
    pub(crate) forbidden: Forbidden,
    /// Words that only the named crates may use.
    pub(crate) confined_words: BTreeMap<String, Vec<String>>,
}

/// What one crate is and may use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrateRule {
    /// Its layer.
    pub(crate) layer: String,
    /// No I/O, no clock, `no_std`.
    #[serde(default)]
    pub(crate) pure: bool,
    /// Workspace crates it may depend on.
    pub(crate) uses: Vec<String>,
    /// Other dependencies, each with its reason.
    pub(crate) external: BTreeMap<String, String>,
}

/// Forbidden words.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forbidden {
    /// In every crate.
    pub(crate) everywhere: Vec<String>,
    /// In the pure crates.
    pub(crate) pure: Vec<String>,
}

impl Rules {
    /// Reads the rules of this workspace.
    pub(crate) fn load() -> Result<Self, Vec<String>> {
        let path = crate::shell::root().join("architecture.rules.toml");
        let text =
            std::fs::read_to_string(&path).map_err(|error| vec![format!("{}: {error}", path.display())])?;
        toml::from_str(&text).map_err(|error| vec![format!("architecture.rules.toml: {error}")])
    }

    /// Returns how high a layer stands.
    pub(crate) fn height(&self, layer: &str) -> Option<usize> {
        self.layers.iter().position(|name| name == layer)
    }
}
