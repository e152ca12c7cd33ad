//! What a peer's machine is told and wants, and the texts that simulated applications write and read.
use contextvm_core::envelope::Envelope;
use contextvm_core::{Limits, Now, Opened, object};
use contextvm_engine::{Outbound, Outcome, Ticket};
use serde_json::value::RawValue;

use crate::hash::Running;
use crate::kernel::Kernel;
use crate::plan::CallPlan;
use crate::port::Me;
use crate::trace::{Digest, What};

/// What the driver tells a machine.
#[derive(Debug)]
pub(crate) enum Input {
    Opened(Box<Opened>),
    Published(Ticket, Outcome),
    RelayUp,
    RelayLimit(usize),
    Wake,
}

/// What a machine wants its driver to do.
#[derive(Debug)]
pub(crate) enum Effect {
    Publish(Outbound),
    Republish { ticket: Ticket, rewrap: bool },
    Forget(Ticket),
}

/// What an application may reach while it is at work.
pub(crate) struct Desk<'a> {
    pub(crate) kernel: &'a mut Kernel,
    pub(crate) me: &'a Me,
    pub(crate) life: u32,
    pub(crate) now: Now,
}

impl Desk<'_> {
    pub(crate) fn emit(&mut self, what: What) {
        self.kernel.emit(self.me.host, what);
    }
}

/// JSON-RPC code of the errors that simulated tools answer with themselves.
pub(crate) const TOOL_FAILED: i64 = -32_050;

/// Reads what one of our own endpoints handed over: cost does not count.
pub(crate) fn read(text: &str) -> Option<Envelope<'_>> {
    let limits = Limits { json_nodes: usize::MAX, event: usize::MAX, ..Limits::default() };
    Envelope::parse(text, &limits).ok()
}

/// Returns the part of a message that its application wrote and no endpoint may touch.
pub(crate) fn args<'a>(message: &Envelope<'a>) -> &'a str {
    let params = message.params;
    let part = params.and_then(|params| {
        ["arguments", "uri", "clientInfo"].into_iter().find_map(|name| object::member(params, name))
    });
    let part = part.or(params).or(message.result).or(message.error);
    part.map_or("", |part| part.get())
}

/// Returns the digest of what is asked, method and tool included, and the length of its application's part.
pub(crate) fn asked(message: &Envelope<'_>) -> (Digest, u64) {
    let args = args(message);
    let name = message.params.and_then(|params| object::member(params, "name")).map(RawValue::get);
    (digest(message.method.as_deref().unwrap_or_default(), name, args), args.len() as u64)
}

/// Hashes what is asked.
pub(crate) fn digest(method: &str, name: Option<&str>, args: &str) -> Digest {
    let mut hash = Running::default();
    for part in [method, name.unwrap_or_default(), args] {
        hash.bytes(part.as_bytes());
    }
    Digest(hash.value())
}

/// Hashes how far a call is.
pub(crate) fn progressed(call: u64, progress: &str) -> Digest {
    digest("notifications/progress", Some(progress), &call.to_string())
}

/// Returns the answer of an application with its length.
pub(crate) fn answer(message: &Envelope<'_>) -> (Digest, u64) {
    let answer = message.result.or(message.error).map_or("", |answer| answer.get());
    (Digest::of(answer.as_bytes()), answer.len() as u64)
}

/// Prints the request of a call under the application's id.
pub(crate) fn request(plan: &CallPlan, id: u64) -> String {
    let call = plan.call.0;
    let fill = fill(call, plan.asks);
    if plan.harmless {
        return format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/read","params":{{"uri":"sim:{call}:{fill}"}}}}"#
        );
    }
    let token = if plan.acts.progress > 0 && !plan.reads {
        format!(r#","_meta":{{"progressToken":{id}}}"#)
    } else {
        String::new()
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"work","arguments":{{"call":{call},"fill":"{fill}"}}{token}}}}}"#
    )
}

/// Returns the number of the call in a request's part.
pub(crate) fn call_of(args: &str) -> Option<u64> {
    let from = args.strip_prefix(r#"{"call":"#).or_else(|| args.strip_prefix(r#""sim:"#))?;
    let digits = from.find(|c: char| !c.is_ascii_digit())?;
    from.get(..digits)?.parse().ok()
}

/// Makes text that is unlike the text of other calls and not all the same.
pub(crate) fn fill(call: u64, bytes: u64) -> String {
    let mut out = String::with_capacity(bytes as usize);
    let mut state = call.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for _ in 0..bytes {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        out.push(char::from(b'a' + ((state >> 33) % 26) as u8));
    }
    out
}
