//! What can go wrong between a process and Nostr.

/// Why a bridge could not start or had to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line of the child is empty.
    #[error("the command is empty")]
    EmptyCommand,
    /// No executable file of this name was found.
    #[error("no program {program:?} was found{}", if *.on_path { " on the PATH" } else { "" })]
    NoProgram {
        /// As it was asked for.
        program: String,
        /// Whether the PATH was searched.
        on_path: bool,
    },
    /// The file is there and may not be executed.
    #[error("{program:?} is not an executable file")]
    NotExecutable {
        /// The file.
        program: String,
    },
    /// A name for the child's environment is not acceptable.
    #[error("{name:?} cannot be put into the environment of the child")]
    Environment {
        /// The name.
        name: String,
    },
    /// The operating system did not start the child.
    #[error("the child could not be started: {0}")]
    Spawn(String),
    /// The child ended before it had answered `initialize`.
    #[error("the child ended before it answered initialize: {0}")]
    EndedEarly(String),
    /// The child did not answer `initialize` in time.
    #[error("the child did not answer initialize within {0} s")]
    Silent(u64),
    /// The child died too often, or may not be started again.
    #[error("the child is not started again: {0}")]
    GaveUp(String),
    /// An HTTP server cannot be used as it is described.
    #[error("the HTTP server cannot be used: {0}")]
    Upstream(String),
    /// The HTTP side cannot be opened as it was asked for.
    #[error("cannot listen for http: {0}")]
    Listen(String),
    /// A server has a name that cannot be part of a path or of a tool's name, or that another one has.
    #[error(
        "{name:?} is no name for a server: 1 to 32 letters, digits, dashes or underscores, each name once"
    )]
    ServerName {
        /// The name.
        name: String,
    },
    /// The Nostr side is closed.
    #[error("the nostr side is closed")]
    Closed,
    /// A standard stream of this process failed.
    #[error("a standard stream failed: {0}")]
    Stream(String),
}
