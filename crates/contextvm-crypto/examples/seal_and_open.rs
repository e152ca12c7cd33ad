//! Seals a request for a server, then opens it as the server would. Needs the crates core and crypto alone.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]
use contextvm_core::{Draft, Limits, WrapKind};
use contextvm_crypto::{Entropy, Keys, open, seal, size};
use nostr::event::{Tag, Tags};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The crates draw no randomness themselves: whoever calls them brings it.
    let mut random = [[0_u8; 32]; 3];
    for bytes in &mut random {
        getrandom::fill(bytes)?;
    }
    let [client, server, aux] = random;
    let (client, server) = (Keys::from_entropy(client)?, Keys::from_entropy(server)?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();

    // The client writes a request, signs it, and seals it. The draft's id is what the answer will refer to.
    let tags = Tags::from_list(vec![Tag::public_key(server.public_key())]);
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned();
    let draft = Draft::new(client.public_key(), now, tags, request);
    let inner = client.sign_draft(&draft, aux);
    let entropy = Entropy::gather(getrandom::fill)?;
    let wrap = seal(&inner, &server.public_key(), WrapKind::Ephemeral, now, &entropy)?;
    let published = wrap.as_json();
    assert_eq!(published.len(), size::wrapped_event_size(inner.as_json().len()));
    println!("what a relay sees ({} bytes): {published}\n", published.len());

    // The server opens it. Holding an `Opened` is the proof that every check has passed.
    let opened = open(&wrap, &server, now, &Limits::default())?;
    println!("what the server reads: {}", opened.event().content);
    println!("signed by the client: {}", opened.event().pubkey == client.public_key());
    println!("to be answered under: {}", opened.event().id);
    Ok(())
}
