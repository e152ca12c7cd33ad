//! What answers to list requests say beside their text: prices (CEP-8) and common schemas (CEP-15).
use std::sync::Arc;

use contextvm_announce::{Annotated, CommonSchemas, DocumentKind, Price, caps_for};
use contextvm_core::Limits;
use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object;
use contextvm_engine::server::RequestKey;
use contextvm_engine::{ServerInput, ServerMachine};
use nostr::event::Tag;
use nostr::key::PublicKey;
use serde_json::value::RawValue;
use tokio::sync::watch;

/// The prices that hold at the moment; whoever changes them is heard by everybody who says them.
pub(crate) type Prices = watch::Sender<Vec<Price>>;

/// Adds to answers what the operator says about the tools, prompts and resources in them.
#[derive(Debug)]
pub(crate) struct Listing {
    schemas: Arc<CommonSchemas>,
    prices: watch::Receiver<Vec<Price>>,
    /// The last list of tools and what became of it, if anything could: hashes are not computed again for every caller.
    last: Option<(String, Option<Annotated>)>,
}

impl Listing {
    pub(crate) const fn new(schemas: Arc<CommonSchemas>, prices: watch::Receiver<Vec<Price>>) -> Self {
        Self { schemas, prices, last: None }
    }

    /// Turns a message of the application into what the machine is told. Costs nothing while nobody waits for a list.
    pub(crate) fn input(&mut self, machine: &ServerMachine, to: PublicKey, message: String) -> ServerInput {
        let has_words = machine.open_lists() > 0 && self.has_words();
        let words = if has_words { self.words(machine, to, &message) } else { None };
        match words {
            Some((text, tags)) => ServerInput::Answer { to, message: text.unwrap_or(message), tags },
            None => ServerInput::Send { to, message },
        }
    }

    fn has_words(&self) -> bool {
        !self.schemas.is_empty() || !self.prices.borrow().is_empty()
    }

    /// Returns the new text of an answer, if it is another, and its tags; `None` when it is no answer to a list request.
    fn words(
        &mut self,
        machine: &ServerMachine,
        to: PublicKey,
        message: &str,
    ) -> Option<(Option<String>, Vec<Tag>)> {
        let limits = Limits { json_nodes: usize::MAX, ..Limits::default() };
        let answer = Envelope::parse(message, &limits).ok()?;
        let (id, result) = (answer.id?, answer.result?);
        if answer.kind != MessageKind::Response {
            return None;
        }
        let key =
            RequestKey { caller: to, id: contextvm_core::event::read_id(object::string(id)?.as_ref())? };
        let method = machine.list_method(&key)?;
        let document = DocumentKind::ALL.into_iter().find(|document| document.method() == method)?;
        let mut tags = caps_for(document, &self.prices.borrow());
        let annotated = if document == DocumentKind::Tools { self.annotate(result) } else { None };
        let Some(annotated) = annotated else { return Some((None, tags)) };
        tags.extend(annotated.tags.iter().cloned());
        let text = serde_json::from_str::<&RawValue>(&annotated.text).ok();
        Some((text.map(|result| envelope::response_result(id, result)), tags))
    }

    fn annotate(&mut self, result: &RawValue) -> Option<&Annotated> {
        if self.schemas.is_empty() {
            return None;
        }
        if self.last.as_ref().is_none_or(|(text, _)| text != result.get()) {
            // What cannot be annotated goes out as the application wrote it.
            let annotated = self.schemas.annotate(result).ok();
            self.last = Some((result.get().to_owned(), annotated));
        }
        self.last.as_ref()?.1.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::{Draft, Now, Opened, Protection};
    use contextvm_crypto::Keys;
    use contextvm_engine::{ServerConfig, ServerOutput};
    use nostr::event::Tags;

    const NOW: Now = Now { mono: contextvm_core::Mono(0), unix: 1_700_000_000 };

    /// A machine whose application owes the answer to one request; returns who asked and under which id.
    fn asked(method: &str) -> (ServerMachine, PublicKey, String) {
        let [server, client] = [1, 2].map(|n| Keys::from_secret_bytes([n; 32]).unwrap());
        let content = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        let tags = Tags::from_list(vec![Tag::public_key(server.public_key())]);
        let event = client.sign_draft(&Draft::new(client.public_key(), NOW.unix, tags, content), [1; 32]);
        let (caller, id) = (event.pubkey, event.id);
        let opened =
            Opened::check(event, Protection::Plain, id, &server.public_key(), NOW.unix, 600).unwrap();
        let mut machine = ServerMachine::new(ServerConfig::default(), server.public_key(), [0; 32]);
        machine.handle(ServerInput::Opened(Box::new(opened)), NOW);
        assert!(matches!(machine.poll_output(), Some(ServerOutput::Deliver { .. })));
        (machine, caller, id.to_hex())
    }

    fn listing(schemas: CommonSchemas, prices: &[(&str, &str)]) -> (Listing, Prices) {
        let prices = prices.iter().map(|(what, amount)| Price::new(what, amount, "sats").unwrap());
        let prices = Prices::new(prices.collect());
        (Listing::new(Arc::new(schemas), prices.subscribe()), prices)
    }

    /// The tags and the text that an answer goes out with; `None` as the tags when nothing was added.
    fn said(listing: &mut Listing, method: &str, body: &str) -> (Option<Vec<String>>, String) {
        let (machine, caller, id) = asked(method);
        let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}",{body}}}"#);
        let input = listing.input(&machine, caller, message);
        if let ServerInput::Answer { message, tags, .. } = input {
            let tags = tags.iter().map(|tag| tag.as_slice().join("="));
            return (Some(tags.collect()), message.replace(&id, "X"));
        }
        let ServerInput::Send { message, .. } = input else { panic!("{input:?}") };
        (None, message.replace(&id, "X"))
    }

    const PRICES: [(&str, &str); 3] = [("tool:t", "1"), ("prompt:p", "2"), ("resource:r:r", "3")];

    #[test]
    fn each_list_says_the_prices_of_what_it_lists() {
        let (mut listing, _prices) = listing(CommonSchemas::default(), &PRICES);
        for (method, price) in [
            ("tools/list", "cap=tool:t=1=sats"),
            ("prompts/list", "cap=prompt:p=2=sats"),
            ("resources/list", "cap=resource:r:r=3=sats"),
            ("resources/templates/list", "cap=resource:r:r=3=sats"),
        ] {
            let (tags, text) = said(&mut listing, method, r#""result":{"x": [1.0]}"#);
            assert_eq!(tags.unwrap(), [price]);
            assert_eq!(text, r#"{"jsonrpc":"2.0","id":"X","result":{"x": [1.0]}}"#, "to the letter");
        }
    }

    #[test]
    fn errors_other_answers_and_a_server_without_words_are_left_alone() {
        let (mut priced, _prices) = listing(CommonSchemas::default(), &PRICES);
        assert!(said(&mut priced, "tools/call", r#""result":{}"#).0.is_none());
        assert!(said(&mut priced, "tools/list", r#""error":{"code":1,"message":""}"#).0.is_none());
        assert!(said(&mut priced, "tools/list", r#""result":{"a":1,"a":2},"result":{}"#).0.is_none());
        let (mut silent, prices) = listing(CommonSchemas::default(), &[]);
        assert!(said(&mut silent, "tools/list", r#""result":{}"#).0.is_none());
        prices.send_replace(vec![Price::new("tool:t", "9", "sats").unwrap()]);
        assert_eq!(said(&mut silent, "tools/list", r#""result":{}"#).0.unwrap(), ["cap=tool:t=9=sats"]);
    }

    #[test]
    fn a_list_is_annotated_once_and_what_cannot_be_is_sent_as_it_is() {
        let schemas = CommonSchemas::default().with_tool("t").with_category("c");
        let (mut listing, _prices) = listing(schemas, &[]);
        let list = r#""result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}"#;
        let (tags, text) = said(&mut listing, "tools/list", list);
        assert!(text.contains("schemaHash"), "{text}");
        let tags_of = |tags: &Option<Vec<String>>| tags.clone().unwrap_or_default();
        assert_eq!(tags_of(&tags)[1..], ["k=io.contextvm/common-schema", "t=c"]);
        let remembered = listing.last.clone();
        assert_eq!(said(&mut listing, "tools/list", list), (tags, text));
        assert_eq!(listing.last, remembered);
        let odd = said(&mut listing, "tools/list", r#""result":{"tools":7}"#);
        assert_eq!(odd.1, r#"{"jsonrpc":"2.0","id":"X","result":{"tools":7}}"#);
        assert_eq!(
            listing.last,
            Some((r#"{"tools":7}"#.to_owned(), None)),
            "and is not tried for every caller"
        );
    }
}
