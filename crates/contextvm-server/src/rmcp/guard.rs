//! A service whose panicking handlers answer with an error instead of never.
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use rmcp::model::{ErrorData, ProtocolVersion};
use rmcp::service::{NotificationContext, RequestContext, Service, ServiceRole};
use rmcp::{RoleServer, model::ServerConfig};

/// Wraps a service; the caller of a handler that panics gets an internal error at once.
pub(super) struct Guard<H>(pub(super) H);

impl<H: Service<RoleServer>> Service<RoleServer> for Guard<H> {
    async fn handle_request(
        &self,
        request: <RoleServer as ServiceRole>::PeerReq,
        context: RequestContext<RoleServer>,
    ) -> Result<<RoleServer as ServiceRole>::Resp, ErrorData> {
        AssertUnwindSafe(self.0.handle_request(request, context)).catch_unwind().await.unwrap_or_else(
            |_panic| {
                tracing::warn!("a handler panicked");
                Err(ErrorData::internal_error("the handler failed", None))
            },
        )
    }

    async fn handle_notification(
        &self,
        notification: <RoleServer as ServiceRole>::PeerNot,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        AssertUnwindSafe(self.0.handle_notification(notification, context))
            .catch_unwind()
            .await
            .unwrap_or_else(|_panic| {
                tracing::warn!("a handler panicked");
                Ok(())
            })
    }

    fn get_info(&self) -> ServerConfig {
        self.0.get_info()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.0.supported_protocol_versions()
    }
}
