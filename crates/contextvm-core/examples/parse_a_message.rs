//! Reads one JSON-RPC message with this crate alone: what it is, what it uses, and how it looks with another id.
//!
//! `cargo run -p contextvm-core --example parse_a_message -- '{"jsonrpc":"2.0","id":7,"method":"ping"}'`
use contextvm_core::{Capability, Envelope, EnvelopeError, Limits, Printable, rewrite};

const MESSAGE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call",
  "params":{"name":"add","arguments":{"a":1.0,"b":2},"_meta":{"progressToken":3}}}"#;

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), EnvelopeError> {
    let text = std::env::args().nth(1).unwrap_or_else(|| MESSAGE.to_owned());
    let message = Envelope::parse(&text, &Limits::default())?;
    println!("kind:       {:?}", message.kind);
    if let Some(capability) = Capability::of(&message) {
        println!("method:     {}", Printable(&capability.method));
        println!("name:       {}", Printable::short(capability.name.as_deref().unwrap_or("none"), 80));
    }
    println!("token:      {}", message.progress_token().map_or("none", |token| token.get()));
    println!("another id: {}", rewrite::with_id(&message, "\"an-event-id\""));
    Ok(())
}
