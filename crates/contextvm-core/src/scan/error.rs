//! Why the scan refuses a text.
use crate::Fault;

/// Why a text was refused. Positions are byte offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The text is longer than any limit admits.
    #[error("text of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// Length found, bytes.
        bytes: usize,
        /// Largest admitted, bytes.
        limit: usize,
    },
    /// Containers are nested too deep.
    #[error("nesting deeper than {limit} at byte {at}")]
    Depth {
        /// Where.
        at: usize,
        /// Deepest admitted.
        limit: usize,
    },
    /// There are too many values.
    #[error("more than {limit} values at byte {at}")]
    Nodes {
        /// Where.
        at: usize,
        /// Most admitted.
        limit: usize,
    },
    /// A number has too many characters.
    #[error("number of {length} characters at byte {at} is longer than {limit}")]
    NumberLength {
        /// Where.
        at: usize,
        /// Length found, characters.
        length: usize,
        /// Longest admitted, characters.
        limit: usize,
    },
    /// A number is too large for a double, which parsers read as infinity, as an error or exactly.
    #[error("number out of range at byte {at}")]
    NumberRange {
        /// Where.
        at: usize,
    },
    /// An escape names half of a surrogate pair.
    #[error("lone surrogate at byte {at}")]
    LoneSurrogate {
        /// Where.
        at: usize,
    },
    /// An object has the same key twice, however spelled.
    #[error("duplicate key in the object that ends at byte {at}")]
    DuplicateKey {
        /// Where the object ends.
        at: usize,
    },
    /// A string holds a control character that is not escaped.
    #[error("raw control character at byte {at}")]
    ControlCharacter {
        /// Where.
        at: usize,
    },
    /// The text starts with a byte order mark.
    #[error("byte order mark before the text")]
    ByteOrderMark,
    /// Something follows the value.
    #[error("text after the value at byte {at}")]
    Trailing {
        /// Where.
        at: usize,
    },
    /// The text ends inside a value, or holds none.
    #[error("text ends too early")]
    Truncated,
    /// The text is not JSON.
    #[error("not json at byte {at}")]
    Syntax {
        /// Where.
        at: usize,
    },
}

impl ScanError {
    /// Says who misbehaved: whoever wrote the text.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }

    /// Whether the text was refused for its cost and not for its form.
    #[must_use]
    pub const fn is_budget(&self) -> bool {
        matches!(
            self,
            Self::TooLong { .. } | Self::Depth { .. } | Self::Nodes { .. } | Self::NumberLength { .. }
        )
    }
}
