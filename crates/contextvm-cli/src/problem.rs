//! What went wrong, why we think so, and what to do: one form for people, one for programs.
use std::io::Write as _;

use clap::error::ErrorKind;
use contextvm::core::Printable;
use serde::Serialize;

/// The classes of failure; each has a name for programs and an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Internal,
    UnknownFlag,
    MissingArgument,
    InvalidValue,
    SecretInArguments,
    NotAllowed,
    BadKey,
    RelayUnreachable,
    NameUnreachable,
    NoReply,
    NoRelayAccepted,
    /// A message that takes many events did not arrive whole.
    TransferFailed,
    ToolError,
    NotFound,
    InvalidArguments,
    PaymentRequired,
    Timeout,
    ConfigInvalid,
    InsecurePermissions,
    CheckFailed,
    /// A signal ended what had not been done yet.
    Interrupted,
    /// Whoever read our output is gone; there is nobody to tell.
    BrokenPipe,
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::UnknownFlag => "unknown_flag",
            Self::MissingArgument => "missing_argument",
            Self::InvalidValue => "invalid_value",
            Self::SecretInArguments => "secret_in_arguments",
            Self::NotAllowed => "not_allowed",
            Self::BadKey => "bad_key",
            Self::RelayUnreachable => "relay_unreachable",
            Self::NameUnreachable => "name_unreachable",
            Self::NoReply => "no_reply",
            Self::NoRelayAccepted => "no_relay_accepted",
            Self::TransferFailed => "transfer_failed",
            Self::ToolError => "tool_error",
            Self::NotFound => "not_found",
            Self::InvalidArguments => "invalid_arguments",
            Self::PaymentRequired => "payment_required",
            Self::Timeout => "timeout",
            Self::ConfigInvalid => "config_invalid",
            Self::InsecurePermissions => "insecure_permissions",
            Self::CheckFailed => "check_failed",
            Self::Interrupted => "interrupted",
            Self::BrokenPipe => "broken_pipe",
        }
    }

    fn exit(self) -> u8 {
        match self {
            Self::Internal | Self::BrokenPipe => 1,
            Self::UnknownFlag | Self::MissingArgument | Self::InvalidValue | Self::SecretInArguments => 2,
            Self::NotAllowed | Self::BadKey => 3,
            Self::RelayUnreachable
            | Self::NameUnreachable
            | Self::NoReply
            | Self::NoRelayAccepted
            | Self::TransferFailed => 4,
            Self::ToolError | Self::NotFound | Self::InvalidArguments => 5,
            Self::PaymentRequired => 6,
            Self::Timeout => 7,
            Self::ConfigInvalid | Self::InsecurePermissions => 8,
            Self::CheckFailed => 9,
            Self::Interrupted => crate::signals::exit_code(),
        }
    }
}

/// A failure in three parts: what happened, the facts, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    message: String,
    facts: Vec<String>,
    hint: Option<String>,
    data: Vec<(&'static str, String)>,
}

impl Problem {
    /// Says what happened, in words that are already safe to print.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), facts: Vec::new(), hint: None, data: Vec::new() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Turns what clap found wrong into our form; whatever looks like a secret is cut out.
    pub(crate) fn usage(error: &clap::Error) -> Self {
        let missing = [
            ErrorKind::MissingRequiredArgument,
            ErrorKind::MissingSubcommand,
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ];
        let code = if [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand].contains(&error.kind()) {
            Code::UnknownFlag
        } else if missing.contains(&error.kind()) {
            Code::MissingArgument
        } else {
            Code::InvalidValue
        };
        let text = crate::keys::scrub(&error.render().to_string());
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or("the command line is not understood");
        let message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        let help = "For more information";
        let facts = lines.filter(|line| !line.starts_with(help)).map(|line| Printable(line).to_string());
        let problem = Self { facts: facts.collect(), ..Self::new(code, Printable(&message).to_string()) };
        problem.hint("cvm --help")
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn facts(&self) -> &[String] {
        &self.facts
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == code
    }

    /// Adds something that was observed.
    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    /// Says what to do next; one command or one short sentence.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a value for programs.
    pub(crate) fn data(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.data.push((key, value.into()));
        self
    }

    pub(crate) fn exit(&self) -> u8 {
        self.code.exit()
    }

    /// Writes the failure to standard error.
    pub(crate) fn report(&self, json: bool) {
        if self.code == Code::BrokenPipe {
            return;
        }
        let text = if json { self.to_json() + "\n" } else { self.to_text() };
        // There is nowhere else to report to.
        let _unwritten = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for fact in &self.facts {
            text.push_str(&format!("  {fact}\n"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  try: {hint}\n"));
        }
        text
    }

    fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: &'a str,
            exit: u8,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
            data: serde_json::Map<String, serde_json::Value>,
        }
        let mut data = serde_json::Map::new();
        if !self.facts.is_empty() {
            data.insert("facts".to_owned(), self.facts.as_slice().into());
        }
        data.extend(self.data.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())));
        let (code, exit) = (self.code.name(), self.code.exit());
        let error = Error { code, exit, message: &self.message, hint: self.hint.as_deref(), data };
        serde_json::to_string(&Document { error }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_three_parts() {
        let problem = Problem::new(Code::RelayUnreachable, "none of 1 relays could be reached")
            .fact("wss://a.example   no answer")
            .hint("use another relay: --relay wss://b.example");
        assert_eq!(
            problem.to_text(),
            "error: none of 1 relays could be reached\n  wss://a.example   no answer\n  try: use another relay: --relay wss://b.example\n"
        );
        assert_eq!(problem.exit(), 4);
    }

    #[test]
    fn a_problem_is_one_line_of_json() {
        let problem = Problem::new(Code::NoReply, "a\nb").fact("c").hint("d").data("server", "npub1");
        assert_eq!(
            problem.to_json(),
            r#"{"error":{"code":"no_reply","exit":4,"message":"a\nb","hint":"d","data":{"facts":["c"],"server":"npub1"}}}"#
        );
    }
}
