//! A typed service is announced like any other application.
use contextvm_server::{AnnounceOptions, serve_rmcp};
use rmcp::ServerHandler;
use rmcp::model::{ServerCapabilities, ServerConfig};

use crate::stage::{builder, of_kind, options, relay, soon, stored, stored_kinds};

struct Service;

impl ServerHandler for Service {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_prompts().build())
    }
}

#[tokio::test]
async fn a_typed_service_is_announced_and_previewed() {
    let relay = relay().await;
    let listener = builder(&[&relay]).start().await.unwrap();
    let handle = listener.handle();
    tokio::spawn(serve_rmcp(listener, |_| Service));
    let preview =
        soon(handle.preview(AnnounceOptions { relay_list: Some(false), ..options() })).await.unwrap();
    let kinds: Vec<u16> = preview.events.iter().map(|event| event.kind.as_u16()).collect();
    assert_eq!((kinds, relay.stats().received), (vec![11316, 11317, 11320], 0));
    let mut announcing = handle.announce(options()).unwrap();
    soon(announcing.settled()).await.unwrap();
    assert_eq!(stored_kinds(&relay).await, [10002, 11316, 11317, 11320]);
    let events = stored(&relay).await;
    assert_eq!(of_kind(&events, 11317).content, r#"{"tools":[]}"#, "an empty list is still published");
    assert!(of_kind(&events, 11316).content.contains("serverInfo"));
}
