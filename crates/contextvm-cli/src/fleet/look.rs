//! A look at what a server would publish: it is started and asked, and no relay hears of it.
use contextvm::Keys;
use contextvm::server::{Listener, ServerHandle};
use contextvm_bridge::{CancellationToken, GatewayBuilder, Target};

use super::plan::Plan;
use super::target;
use crate::output::Talk;
use crate::problem::Problem;
use crate::publication::{Outgoing, announcing};
use crate::signals;

/// One server that is looked at.
pub(crate) struct Look {
    pub(crate) target: Target,
    pub(crate) keys: Keys,
    /// Its name in a file of many.
    pub(crate) unit: Option<String>,
}

impl Look {
    /// Returns the signed events that the plan would publish, with their relays.
    pub(crate) async fn events(
        self,
        plan: &Plan,
        talk: Talk,
        stop: &CancellationToken,
    ) -> Result<Vec<Outgoing>, Problem> {
        let Self { target, keys, unit } = self;
        let Some(options) = plan.announce_options()? else {
            talk.say("nothing would be published: without --announce a server is found by nobody");
            return Ok(Vec::new());
        };
        let shown = target::shown(&target);
        let before = unit.as_ref().map(|unit| format!("{unit}: ")).unwrap_or_default();
        let gateway = plan.gateway(target, super::reporter(None, before, talk));
        let listener = |own: Option<String>| plan.offline(keys, own.or_else(|| unit.clone()));
        let look = async |handle: ServerHandle| announcing::preview(&handle, options).await;
        let (outgoing, remarks) = Box::pin(beside(gateway, &shown, listener, stop, look)).await?;
        remarks.iter().for_each(|remark| talk.say(remark));
        Ok(outgoing.into_iter().map(|event| Outgoing { unit: unit.clone(), ..event }).collect())
    }
}

/// Runs a server that is on no relay for as long as something is done with it. A signal ends both.
///
/// `listener` is told how the MCP server calls itself.
pub(crate) async fn beside<T>(
    gateway: GatewayBuilder,
    shown: &str,
    listener: impl FnOnce(Option<String>) -> Result<Listener, Problem>,
    stop: &CancellationToken,
    work: impl AsyncFnOnce(ServerHandle) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let gateway = tokio::select! {
        gateway = gateway.start() => gateway.map_err(|error| target::not_started(&error, shown))?,
        () = stop.cancelled() => return Err(signals::interrupted()),
    };
    let listener = listener(gateway.welcome().and_then(|welcome| welcome.name.clone()))?;
    let handle = listener.handle();
    let over = stop.child_token();
    let running = Box::pin(gateway.run(listener, over.clone()));
    let working = async {
        let done = tokio::select! {
            done = Box::pin(work(handle)) => done,
            () = stop.cancelled() => Err(signals::interrupted()),
        };
        over.cancel();
        done
    };
    let (ended, done) = tokio::join!(running, working);
    // A server that has ended by itself is why nothing could be done with it.
    ended.map_err(|error| target::not_started(&error, shown))?;
    done
}
