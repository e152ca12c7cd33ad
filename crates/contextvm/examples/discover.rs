//! Looks for servers on public relays, or at one server, and says which relays answered.
//!
//! `cargo run --example discover -- [name of a server] [relay url]`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
use std::error::Error;

use contextvm::ServerIdentity;
use contextvm::announce::ServerEntry;
use contextvm::client::{Discovery, Name, NameOptions, Scope, nip05};
use contextvm::core::printable::Printable;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (name, relay) = (arguments.next(), arguments.next());
    let discovery = match &relay {
        Some(relay) => Discovery::new(&[relay])?,
        None => Discovery::of_public_relays()?,
    };
    let found = match name.map(|name| name.parse()).transpose()? {
        None => discovery.servers(&Scope::default()).await?,
        Some(Name::Server(server)) => discovery.server(&server).await?,
        Some(Name::Nip05(name)) => {
            discovery.server(&nip05::resolve(&name, &NameOptions::default()).await?).await?
        }
        Some(Name::Schema(schema)) => discovery.providers(&schema).await?.found,
        Some(_) => return Err("this example does not know such names".into()),
    };
    found.directory.servers().for_each(show);
    println!("{} of {} relays answered", found.answered(), found.per_relay.len());
    for answer in found.per_relay.iter().filter(|answer| !answer.is_complete()) {
        println!("{}: {:?}", answer.url, answer.outcome);
    }
    Ok(())
}

/// Shows a server; the key stands beside the name, which anybody can choose.
fn show(entry: &ServerEntry) {
    let key = ServerIdentity::from(*entry.key());
    let tools = entry.tools().map_or(0, |tools| tools.items.len());
    println!("{key}  {}  {tools} tools", Printable(&entry.name()));
}
